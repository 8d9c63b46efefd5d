"""Latents as the transformer sees them: one token per video latent cell and per audio latent, 128 values each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class AVTokens:
    """A value per stream: video [B, T, 128] and audio [B, Ta, 128], or None where the stream is absent."""

    video: torch.Tensor | None
    audio: torch.Tensor | None

    def map(self, function: Callable, *others: "AVTokens") -> "AVTokens":
        """``function`` of the streams of this one and of others, one by one; an absent stream stays absent."""

        def one(name: str):
            first = getattr(self, name)
            return None if first is None else function(first, *(getattr(other, name) for other in others))

        return AVTokens(one("video"), one("audio"))

    def to(self, *target: Any) -> "AVTokens":
        """Both streams on a device, in a dtype, or both (see ``torch.Tensor.to``)."""
        return self.map(lambda tokens: tokens.to(*target))

    @property
    def batch_size(self) -> int:
        """How many clips at once."""
        return len(self.video if self.video is not None else self.audio)


def patchify_video(latent: torch.Tensor) -> torch.Tensor:
    """[B, C, F, H, W] → [B, F·H·W, C]: frame by frame, row by row."""
    return latent.flatten(2).transpose(1, 2)


def unpatchify_video(tokens: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
    """[B, F·H·W, C] → [B, C, F, H, W]."""
    return tokens.transpose(1, 2).unflatten(2, (frames, height, width)).contiguous()


def patchify_audio(latent: torch.Tensor) -> torch.Tensor:
    """[B, C, T, M] → [B, T, C·M]: the channels of one latent side by side."""
    return latent.transpose(1, 2).flatten(2)


def unpatchify_audio(tokens: torch.Tensor, bins: int = 16) -> torch.Tensor:
    """[B, T, C·M] → [B, C, T, M]."""
    return tokens.unflatten(2, (-1, bins)).transpose(1, 2).contiguous()
