"""CFG++ (paper 2406.08070) with ancestral steps: further down along the negative prompt's noise, then fresh noise."""

from collections.abc import Callable, Sequence

import torch

from ..noise import STEP_SEED_OFFSET, draw
from ..tokens import AVTokens
from .euler_cfg_pp import noise_of
from .protocol import AfterStep, Denoise, Restore, Sampler


def euler_ancestral_cfg_pp(
    denoise: Denoise,
    x: AVTokens,
    sigmas: torch.Tensor,
    *,
    restore: Restore,
    negative: Callable[[], AVTokens],
    generators: Sequence[torch.Generator],
    after_step: AfterStep | None = None,
    eta: float = 1.0,
) -> AVTokens:
    """Steps as in :mod:`.euler_cfg_pp`, a part of the noise drawn anew. eta 0: none of it.

    generators: one per sample, drawing video then audio at every step but the last.
    """
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        x0 = restore(denoise(x, float(sigma), step))
        if sigma_next == 0:
            x = x0
        else:
            down, up = _ancestral(sigma, sigma_next, eta)

            def stepped(x, x0, other, sigma=sigma, keep=1 - sigma_next, down=down, up=up):
                noise = draw(x.shape[1:], generators, dtype=x.dtype, device=x.device)
                return keep * (x0.float() + down * noise_of(x, other, sigma) + up * noise.float())

            # known tokens are put back before rounding
            clean = restore(x0)
            x = restore(x.map(stepped, clean, restore(negative()))).map(lambda y, x: y.to(x.dtype), x)
        if after_step:
            after_step(step, x0)
    return x


def _ancestral(sigma: torch.Tensor, sigma_next: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How far down to step and how much noise to add, both as noise over signal (the variance-exploding scale)."""
    ratio = sigma_next / (1 - sigma_next)
    if not eta:
        return ratio, torch.zeros_like(ratio)
    # at sigma 1 there is no signal: the ratio before is infinite, and the root is 1
    shrink = ratio * (1 - sigma) / sigma
    up = torch.minimum(ratio, eta * ratio * (1 - shrink**2).clamp_min(0).sqrt())
    return (ratio**2 - up**2).clamp_min(0).sqrt(), up


SAMPLER = Sampler(
    "euler_ancestral_cfg_pp",
    euler_ancestral_cfg_pp,
    {"generators": STEP_SEED_OFFSET},
    rank=50,
    uses_negative=True,
    uses_eta=True,
)
