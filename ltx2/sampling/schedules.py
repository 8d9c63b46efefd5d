"""Sigma schedules: noise levels from 1 (pure noise) down to 0, as float32 tensors of steps + 1 values.

Checked against ltx-core 1.0.0 (LTX2Scheduler) and the released distilled lists, which 2.0, 2.3 and 2.5 share.
"""

import itertools
import math
from collections.abc import Sequence

import torch

from ..errors import RequestError, is_out_of_memory

DISTILLED = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
REFINE = {2: (0.909375, 0.421875, 0.0), 3: (0.909375, 0.725, 0.421875, 0.0)}

# The shift of the dev schedule is linear in the token count, through these two points.
BASE_TOKENS, MAX_TOKENS = 1024, 4096
BASE_SHIFT, MAX_SHIFT = 0.95, 2.05
TERMINAL = 0.1


def dev_sigmas(
    steps: int,
    *,
    tokens: int = MAX_TOKENS,
    base_shift: float = BASE_SHIFT,
    max_shift: float = MAX_SHIFT,
    terminal: float | None = TERMINAL,
) -> torch.Tensor:
    """Schedule of the dev models: evenly spaced, shifted towards noise, stretched so that the last step starts at
    ``terminal``.

    tokens: video tokens the shift is meant for. The released pipelines pass 4096 whatever the size; HQ passes the
    stage-1 count.
    terminal: None leaves out the stretch. Raises RequestError for less than one step.
    """
    _check_steps(steps)
    slope = (max_shift - base_shift) / (MAX_TOKENS - BASE_TOKENS)
    weight = math.exp(tokens * slope + base_shift - BASE_TOKENS * slope)
    sigmas = [weight / (weight + 1 / s - 1) for s in (1 - i / steps for i in range(steps))]
    if terminal is not None and steps > 1:
        last = 1 - sigmas[-1]
        sigmas = [1 - (1 - s) * (1 - terminal) / last for s in sigmas]
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


def distilled_subset(steps: int) -> tuple[int, ...]:
    """Which of the nine distilled noise levels a run of 1…8 steps visits.

    The first and last always; between them the choice with the smallest largest gap, then the smallest last gap, then
    the smallest sum of squared gaps.
    """
    if not 1 <= steps <= len(DISTILLED) - 1:
        raise RequestError(f"{steps} distilled steps, expected 1 to {len(DISTILLED) - 1}: use a dev schedule for more")
    last = len(DISTILLED) - 1

    def cost(inner):
        levels = [DISTILLED[i] for i in (0, *inner, last)]
        gaps = [a - b for a, b in itertools.pairwise(levels)]
        # rounded, so that equal gaps compare as equal
        return tuple(round(value, 9) for value in (max(gaps), gaps[-1], sum(g * g for g in gaps)))

    return 0, *min(itertools.combinations(range(1, last), steps - 1), key=cost), last


def distilled_sigmas(steps: int = 8) -> torch.Tensor:
    """Schedule of the distilled models, 1 to 8 steps."""
    return torch.tensor([DISTILLED[i] for i in distilled_subset(steps)], dtype=torch.float32)


def refine_sigmas(steps: int = 3) -> torch.Tensor:
    """Schedule of the second stage: starts from partly re-noised latents. 2 or 3 steps."""
    if steps not in REFINE:
        raise RequestError(f"{steps} refine steps, expected 2 or 3")
    return torch.tensor(REFINE[steps], dtype=torch.float32)


def linear_quadratic_sigmas(steps: int, *, threshold: float = 0.025, linear_steps: int | None = None) -> torch.Tensor:
    """Small even steps first, then quadratically growing ones. Of 8 steps this is the distilled schedule."""
    _check_steps(steps)
    if steps == 1:
        return torch.tensor([1.0, 0.0])
    linear = steps // 2 if linear_steps is None else linear_steps
    slope = threshold / linear
    rest = steps - linear
    difference = linear - threshold * steps
    a = difference / (linear * rest**2)
    b = slope - 2 * difference / rest**2
    c = a * linear**2
    rising = [i * slope for i in range(linear)] + [a * i**2 + b * i + c for i in range(linear, steps)]
    return torch.tensor([1 - s for s in rising] + [0.0], dtype=torch.float32)


def check_sigmas(sigmas: torch.Tensor | Sequence[float], *, to_zero: bool = False) -> torch.Tensor:
    """A sigma list as a float32 CPU tensor [steps + 1], if it is one.

    Raises RequestError unless there are two values or more, all in 0…1, each below the one before, and (``to_zero``)
    the last 0.
    """
    try:
        values = torch.as_tensor(sigmas, dtype=torch.float32).detach().cpu().flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise RequestError(f"sigma list is {sigmas!r}, expected numbers from 1 down to 0") from error
    listed = values.tolist()
    if len(listed) < 2:
        raise RequestError(f"sigma list has {len(listed)} values, expected two or more")
    for i, (high, low) in enumerate(itertools.pairwise(listed)):
        if not low < high:
            raise RequestError(f"sigma list does not descend: value {i + 2} is {low:g} after {high:g}")
    # single precision may put the first level a hair above 1
    if listed[0] > 1.0 + 1e-4 or listed[-1] < 0:
        raise RequestError(f"sigma list runs from {listed[0]:g} to {listed[-1]:g}, expected values between 1 and 0")
    if to_zero and listed[-1] != 0:
        raise RequestError(f"sigma list ends at {listed[-1]:g}, expected 0: the result would still hold noise")
    return values


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise RequestError(f"{steps} steps, expected 1 or more")
