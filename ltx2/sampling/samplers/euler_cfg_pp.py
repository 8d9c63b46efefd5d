"""CFG++ (paper 2406.08070): the guided prediction, noised again with what the negative prompt calls noise."""

from collections.abc import Callable

import torch

from ..tokens import AVTokens
from .protocol import AfterStep, Denoise, Restore, Sampler


def noise_of(x: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """What a prediction takes for noise in x = (1 − σ)·x0 + σ·noise; float32."""
    return (x.float() - (1 - sigma) * x0.float()) / sigma


def euler_cfg_pp(
    denoise: Denoise,
    x: AVTokens,
    sigmas: torch.Tensor,
    *,
    restore: Restore,
    negative: Callable[[], AVTokens],
    after_step: AfterStep | None = None,
) -> AVTokens:
    """Steps to (1 − σ')·x0 + σ'·noise, the noise estimated from the negative pass alone.

    negative: the last prediction for the negative prompt; where no such pass ran it is the prediction itself, and the
    steps are Euler's.
    """
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        x0 = restore(denoise(x, float(sigma), step))
        if sigma_next == 0:
            x = x0
        else:

            def stepped(x, x0, other, sigma=sigma, to=sigma_next):
                return ((1 - to) * x0.float() + to * noise_of(x, other, sigma)).to(x.dtype)

            x = x.map(stepped, x0, restore(negative()))
        if after_step:
            after_step(step, x0)
    return x


SAMPLER = Sampler("euler_cfg_pp", euler_cfg_pp, rank=40, uses_negative=True)
