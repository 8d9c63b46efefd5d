"""Euler that steps further down and adds fresh noise, for rectified flow."""

from collections.abc import Sequence

import torch

from ..noise import STEP_SEED_OFFSET, draw
from ..tokens import AVTokens
from .protocol import AfterStep, Denoise, Restore, Sampler


def euler_ancestral(
    denoise: Denoise,
    x: AVTokens,
    sigmas: torch.Tensor,
    *,
    restore: Restore,
    generators: Sequence[torch.Generator],
    after_step: AfterStep | None = None,
    eta: float = 1.0,
) -> AVTokens:
    """Euler that steps further down and adds fresh noise, for rectified flow: signal 1 − σ and noise σ stay in
    proportion.

    generators: one per sample, drawing video then audio at every step but the last. eta: 1 renews all noise that a step
    may, 0 none of it (Euler). The 2.5 distilled model's first stage.
    """
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        x0 = restore(denoise(x, float(sigma), step))
        if sigma_next == 0:
            x = x0
        else:
            down = sigma_next * (1 + (sigma_next / sigma - 1) * eta)
            keep = (1 - sigma_next) / (1 - down)
            added = (sigma_next**2 - down**2 * keep**2).clamp(min=0).sqrt()

            def renoise(x, x0, ratio=down / sigma, keep=keep, added=added):
                noise = draw(x.shape[1:], generators, dtype=x.dtype, device=x.device)
                return keep * (ratio * x.float() + (1 - ratio) * x0.float()) + added * noise.float()

            # known tokens are put back before rounding
            x = restore(x.map(renoise, x0)).map(lambda y, x: y.to(x.dtype), x)
        if after_step:
            after_step(step, x0)
    return x


SAMPLER = Sampler("euler_ancestral", euler_ancestral, {"generators": STEP_SEED_OFFSET}, rank=10, uses_eta=True)
