"""Normalised attention guidance: a negative prompt for models that run without a second pass (Chen et al., 2505.21179).

It acts inside the text attention alone, on what the heads read, before the head gates and the output projection.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Nag:
    """scale: how far from the negative prompt (1: not at all); alpha: share of the guided value, 0…1; tau: how many
    times larger than before it may get, per token."""

    scale: float
    alpha: float = 0.25
    tau: float = 2.5

    def __bool__(self) -> bool:
        return self.scale != 1 and self.alpha != 0


def guided_heads(positive: torch.Tensor, negative: torch.Tensor, nag: Nag) -> torch.Tensor:
    """Heads [B, T, H·d] that read the positive prompt, moved away from those that read the negative one.

    Both are taken in float32 where their own type is narrower; the sizes compared are sums of magnitudes over all heads
    of a token.
    """
    wide = positive.float()
    guided = torch.lerp(negative.float(), wide, nag.scale)  # s·z⁺ − (s − 1)·z⁻
    size = wide.abs().sum(-1, keepdim=True)
    limit = nag.tau * size / guided.abs().sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    guided = guided * limit.clamp_max(1.0)
    return torch.lerp(wide, guided, nag.alpha).to(positive.dtype)
