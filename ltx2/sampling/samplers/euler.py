"""Euler: first-order steps along the velocity."""

import torch

from ..tokens import AVTokens
from .protocol import AfterStep, Denoise, Restore, Sampler, advance, velocity


def euler(
    denoise: Denoise, x: AVTokens, sigmas: torch.Tensor, *, restore: Restore, after_step: AfterStep | None = None
) -> AVTokens:
    """First-order steps along the velocity (x − x0)/σ."""
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        x0 = restore(denoise(x, float(sigma), step))
        x = x.map(lambda x, x0: advance(x, velocity(x, x0, sigma), sigma_next - sigma), x0)  # noqa: B023 (used at once)
        if after_step:
            after_step(step, x0)
    return x


SAMPLER = Sampler("euler", euler, rank=0)
