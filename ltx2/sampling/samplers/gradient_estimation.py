"""Euler with a velocity extrapolated from the last two steps (paper 2306.04848)."""

import torch

from ..tokens import AVTokens
from .protocol import AfterStep, Denoise, Restore, Sampler, advance, velocity


def gradient_estimation(
    denoise: Denoise,
    x: AVTokens,
    sigmas: torch.Tensor,
    *,
    restore: Restore,
    after_step: AfterStep | None = None,
    gamma: float = 2.0,
) -> AVTokens:
    """Euler with a velocity extrapolated from the last two steps (paper "Interpreting and Improving Diffusion Models",
    2306.04848)."""
    previous = None
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        x0 = restore(denoise(x, float(sigma), step))
        if sigma_next == 0:
            x = x0
        else:
            slope = x.map(lambda x, x0: velocity(x, x0, sigma), x0)  # noqa: B023 (used at once)
            if previous is not None:
                total = slope.map(lambda v, p: gamma * (v - p) + p, previous)
                x0 = x.map(lambda x, v: advance(x, v, -sigma), total)  # noqa: B023 (used at once)
            x = x.map(lambda x, x0: advance(x, velocity(x, x0, sigma), sigma_next - sigma), x0)  # noqa: B023 (used at once)
            previous = slope
        if after_step:
            after_step(step, x0)
    return x


SAMPLER = Sampler("gradient_estimation", gradient_estimation, rank=30)
