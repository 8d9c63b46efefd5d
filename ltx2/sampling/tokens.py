"""Latents as the transformer sees them: one token per video latent cell and per audio latent, 128 values each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class AVTokens:
    """A value per stream: video [B, T, 128] and audio [B, Ta, 128], or None where the stream is absent."""

    video: torch.Tensor | None
    audio: torch.Tensor | None


def each(function: Callable, *streams: AVTokens) -> AVTokens:
    """``function`` applied stream by stream; an absent stream stays absent."""
    video = None if streams[0].video is None else function(*(s.video for s in streams))
    audio = None if streams[0].audio is None else function(*(s.audio for s in streams))
    return AVTokens(video, audio)


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
