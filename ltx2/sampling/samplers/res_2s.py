"""Second-order exponential integrator with noise at the middle and the end of each step (paper 2308.02157)."""

import math
from collections.abc import Sequence

import torch

from ..noise import STEP_SEED_OFFSET, SUBSTEP_SEED_OFFSET, draw, unit_noise
from ..tokens import AVTokens
from .protocol import AfterStep, Denoise, Restore, Sampler

# res_2s takes its last steps at this level instead of 0, whose logarithm it cannot take.
RES_2S_FLOOR = 0.0011
# The perturbed pairs of res_2s are brought into agreement below this log step and above this sigma.
RES_2S_SMALL_STEP, RES_2S_LOW_SIGMA, RES_2S_ITERATIONS = 0.5, 0.03, 100
ETA_RES_2S = 0.5


def res_2s(
    denoise: Denoise,
    x: AVTokens,
    sigmas: torch.Tensor,
    *,
    restore: Restore,
    step_generators: Sequence[torch.Generator],
    substep_generators: Sequence[torch.Generator],
    after_step: AfterStep | None = None,
) -> AVTokens:
    """Second-order exponential integrator with noise added at the middle and the end of each step (paper 2308.02157,
    "RES").

    Two predictions a step, and one more at the end. step_generators and substep_generators: one per sample each,
    drawing video then audio. The sampler of the HQ preset.
    """
    dtype = x.video.dtype if x.video is not None else x.audio.dtype
    levels = sigmas.double()
    steps = len(levels) - 1
    ends_at_zero = levels[-1] == 0
    if ends_at_zero:
        levels = torch.cat([levels[:-1], levels.new_tensor([RES_2S_FLOOR, 0.0])])

    def step_from(anchor, x, sigma, sigma_next, sources):
        mixed = anchor.map(lambda a, y: _sde_step(a, y, sigma, sigma_next, _wide_noise(y, sources)), x)
        return restore(mixed)

    for step in range(steps):
        sigma, sigma_next = levels[step], levels[step + 1]
        h = torch.log(sigma / sigma_next)
        half = 0.5 * _phi1(-h * 0.5)
        second = _phi2(-h)
        second, first = second / 0.5, _phi1(-h) - second / 0.5
        middle = (sigma * sigma_next).sqrt()

        anchor = x.map(_wide)
        first_x0 = restore(denoise(x, float(sigma), step)).map(_wide)
        first_slope = first_x0.map(lambda d, a: d - a, anchor)
        halfway = anchor.map(lambda a, e: a + h * half * e, first_slope)  # noqa: B023 (used at once)
        halfway = step_from(anchor, halfway, sigma, middle, substep_generators)
        if h < RES_2S_SMALL_STEP and sigma > RES_2S_LOW_SIGMA:
            for _ in range(RES_2S_ITERATIONS):
                anchor = halfway.map(lambda m, e: m - h * half * e, first_slope)  # noqa: B023 (used at once)
                first_slope = first_x0.map(lambda d, a: d - a, anchor)
        x0 = restore(denoise(halfway.to(dtype), float(middle), step)).map(_wide)
        end = anchor.map(lambda a, e, d: a + h * (first * e + second * (d - a)), first_slope, x0)  # noqa: B023 (used at once)
        x = step_from(anchor, end, sigma, sigma_next, step_generators).to(dtype)
        if after_step:
            after_step(step, x0.to(dtype))
    if ends_at_zero:
        x = restore(denoise(x, RES_2S_FLOOR, steps))
    return x


def _wide(x: torch.Tensor) -> torch.Tensor:
    # Apple's devices have no float64
    return x.float() if x.device.type == "mps" else x.double()


def _wide_noise(like: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
    rows = [unit_noise(draw(like.shape[1:], [source], dtype=like.dtype, device=like.device)) for source in sources]
    return torch.cat(rows)


def _sde_step(
    x: torch.Tensor, target: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Part of the way from x (at sigma) to target (at sigma_next), the rest made up with noise; signal and noise add to
    1."""
    up = min(float(sigma_next) * ETA_RES_2S, float(sigma_next) * 0.9999)
    if up == 0:
        return target
    slope = (x - target) / (sigma - sigma_next)
    base = x - sigma * slope
    residual = math.sqrt(max(float(sigma_next) ** 2 - up**2, 0.0))
    signal = (1 - float(sigma_next)) + residual
    return signal * (base + (residual / signal) * slope) + up * noise


def _phi1(z: torch.Tensor) -> torch.Tensor:
    return (torch.exp(z) - 1) / z


def _phi2(z: torch.Tensor) -> torch.Tensor:
    return (torch.exp(z) - 1 - z) / z**2


SAMPLER = Sampler(
    "res_2s", res_2s, {"step_generators": STEP_SEED_OFFSET, "substep_generators": SUBSTEP_SEED_OFFSET}, rank=20
)
