"""What a sampler is: its name, its function, and which noise it draws on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..noise import generators
from ..tokens import AVTokens

Denoise = Callable[[AVTokens, float, int], AVTokens]
Restore = Callable[[AVTokens], AVTokens]
AfterStep = Callable[[int, AVTokens], None]


@dataclass(frozen=True)
class Sampler:
    """One way from noise to a clean latent.

    run: takes ``denoise(x, sigma, step) -> x0``, the starting tokens, the sigmas (float32 [steps + 1], on the CPU),
    ``restore(x0) -> x0``, which puts known tokens back into a prediction, and ``after_step(step, x0)``, called after
    every step. noise: argument of ``run`` → what is added to the seeds of the clips for the generators that it gets;
    empty for samplers that add no noise. rank: place in lists. uses_negative: ``run`` also takes ``negative() -> x0``,
    the last prediction for the negative prompt. uses_eta: ``run`` also takes ``eta``, how much of the noise is fresh.
    """

    name: str
    run: Callable[..., AVTokens]
    noise: Mapping[str, int] = field(default_factory=dict)
    rank: int = 100
    uses_negative: bool = False
    uses_eta: bool = False

    def sources(self, seeds: Sequence[int], device: torch.device | str) -> dict[str, list[torch.Generator]]:
        """The generators that ``run`` takes, one a sample each. device: where they draw."""
        return {
            argument: [source for seed in seeds for source in generators(seed + offset, 1, device)]
            for argument, offset in self.noise.items()
        }


def velocity(x: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """(x − x0)/σ, rounded to the latent's dtype as the released pipelines do."""
    return ((x.float() - x0.float()) / sigma).to(x.dtype)


def advance(x: torch.Tensor, velocity: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """x moved along a velocity by a difference of sigmas."""
    return (x.float() + velocity.float() * distance).to(x.dtype)
