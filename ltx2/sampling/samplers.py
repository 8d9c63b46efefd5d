"""Samplers: from noise along a sigma schedule to a clean latent.

Each takes ``denoise(x, sigma, step) -> x0``, the starting tokens, the sigmas (float32 [steps + 1], on the CPU) and
``restore(x0) -> x0``, which puts known tokens back into a prediction. ``after_step(step, x0)`` is called after every
step. States stay in the dtype they come in; the arithmetic is float32 (float64 in res_2s).
"""

import math
from collections.abc import Callable, Sequence

import torch

from .noise import draw, unit_noise
from .tokens import AVTokens, each

Denoise = Callable[[AVTokens, float, int], AVTokens]
Restore = Callable[[AVTokens], AVTokens]
AfterStep = Callable[[int, AVTokens], None]

# res_2s takes its last steps at this level instead of 0, whose logarithm it cannot take.
RES_2S_FLOOR = 0.0011
# The perturbed pairs of res_2s are brought into agreement below this log step and above this sigma.
RES_2S_SMALL_STEP, RES_2S_LOW_SIGMA, RES_2S_ITERATIONS = 0.5, 0.03, 100
ETA_RES_2S = 0.5


def euler(
    denoise: Denoise, x: AVTokens, sigmas: torch.Tensor, *, restore: Restore, after_step: AfterStep | None = None
) -> AVTokens:
    """First-order steps along the velocity (x − x0)/σ."""
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        x0 = restore(denoise(x, float(sigma), step))
        x = each(lambda x, x0: _advance(x, _velocity(x, x0, sigma), sigma_next - sigma), x, x0)  # noqa: B023 (used at once)
        if after_step:
            after_step(step, x0)
    return x


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
            velocity = each(lambda x, x0: _velocity(x, x0, sigma), x, x0)  # noqa: B023 (used at once)
            if previous is not None:
                total = each(lambda v, p: gamma * (v - p) + p, velocity, previous)
                x0 = each(lambda x, v: _advance(x, v, -sigma), x, total)  # noqa: B023 (used at once)
            x = each(lambda x, x0: _advance(x, _velocity(x, x0, sigma), sigma_next - sigma), x, x0)  # noqa: B023 (used at once)
            previous = velocity
        if after_step:
            after_step(step, x0)
    return x


def euler_ancestral(
    denoise: Denoise,
    x: AVTokens,
    sigmas: torch.Tensor,
    *,
    restore: Restore,
    generators: Sequence[torch.Generator],
    after_step: AfterStep | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> AVTokens:
    """Euler that steps further down and adds fresh noise, for rectified flow: signal 1 − σ and noise σ stay in
    proportion.

    generators: one per sample, drawing video then audio at every step but the last. The 2.5 distilled model's first
    stage.
    """
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        x0 = restore(denoise(x, float(sigma), step))
        if sigma_next == 0:
            x = x0
        else:
            down = sigma_next * (1 + (sigma_next / sigma - 1) * eta)
            keep = (1 - sigma_next) / (1 - down)
            added = (sigma_next**2 - down**2 * keep**2).clamp(min=0).sqrt() * s_noise

            def renoise(x, x0, ratio=down / sigma, keep=keep, added=added):
                noise = draw(x.shape[1:], generators, dtype=x.dtype, device=x.device)
                return keep * (ratio * x.float() + (1 - ratio) * x0.float()) + added * noise.float()

            # known tokens are put back before rounding
            x = each(lambda y, x: y.to(x.dtype), restore(each(renoise, x, x0)), x)
        if after_step:
            after_step(step, x0)
    return x


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
        mixed = each(lambda a, y: _sde_step(a, y, sigma, sigma_next, _wide_noise(y, sources)), anchor, x)
        return restore(mixed)

    for step in range(steps):
        sigma, sigma_next = levels[step], levels[step + 1]
        h = torch.log(sigma / sigma_next)
        half = 0.5 * _phi1(-h * 0.5)
        second = _phi2(-h)
        second, first = second / 0.5, _phi1(-h) - second / 0.5
        middle = (sigma * sigma_next).sqrt()

        anchor = each(_wide, x)
        first_x0 = each(_wide, restore(denoise(x, float(sigma), step)))
        first_slope = each(lambda d, a: d - a, first_x0, anchor)
        halfway = each(lambda a, e: a + h * half * e, anchor, first_slope)  # noqa: B023 (used at once)
        halfway = step_from(anchor, halfway, sigma, middle, substep_generators)
        if h < RES_2S_SMALL_STEP and sigma > RES_2S_LOW_SIGMA:
            for _ in range(RES_2S_ITERATIONS):
                anchor = each(lambda m, e: m - h * half * e, halfway, first_slope)  # noqa: B023 (used at once)
                first_slope = each(lambda d, a: d - a, first_x0, anchor)
        x0 = restore(denoise(each(lambda m: m.to(dtype), halfway), float(middle), step))
        x0 = each(_wide, x0)
        end = each(lambda a, e, d: a + h * (first * e + second * (d - a)), anchor, first_slope, x0)  # noqa: B023 (used at once)
        x = each(lambda t: t.to(dtype), step_from(anchor, end, sigma, sigma_next, step_generators))
        if after_step:
            after_step(step, each(lambda t: t.to(dtype), x0))
    if ends_at_zero:
        x = restore(denoise(x, RES_2S_FLOOR, steps))
    return x


def _velocity(x: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    # rounded to the latent's dtype, as the released pipelines do
    return ((x.float() - x0.float()) / sigma).to(x.dtype)


def _advance(x: torch.Tensor, velocity: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    return (x.float() + velocity.float() * distance).to(x.dtype)


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
