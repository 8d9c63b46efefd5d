"""Where the tokens of guides and references lie: seconds, pixel rows, pixel columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from ... import clock
from ...clock import Seconds


@dataclass(frozen=True)
class Guide:
    """Latents [1 or B, 128, f, h, w] for the model to look at, from picture frame ``frame`` on. attention: 0…1, how
    much the clip and they look at each other."""

    latent: torch.Tensor
    frame: int
    strength: float = 1.0
    attention: float = 1.0

    @property
    def tokens(self) -> int:
        """How many tokens it takes."""
        return self.latent.shape[2] * self.latent.shape[3] * self.latent.shape[4]

    @property
    def weights(self) -> torch.Tensor:
        """Its attention by token: [tokens] float32."""
        return torch.full((self.tokens,), self.attention, dtype=torch.float32)


def guide_positions(
    guide: Guide, fps: Fraction | float | str, *, video_offset_seconds: Seconds = 0, device: torch.device | str
) -> torch.Tensor:
    """Positions of a guide's tokens: [1, 3, tokens, 2] float32; seconds, pixel rows, pixel columns.

    A picture lasts one frame; a clip that does not start the film has latent frames of eight frames each.
    """
    rate, offset = clock.parse_fps(fps), clock.exact_seconds(video_offset_seconds)
    frames = guide.latent.shape[2]
    if frames == 1:
        spans = [(0, 1)]
    elif guide.frame == 0:
        spans = [clock.latent_frame_span(i) for i in range(frames)]
    else:
        spans = [(clock.FRAMES_PER_LATENT * i, clock.FRAMES_PER_LATENT * (i + 1)) for i in range(frames)]
    times = [[(edge + guide.frame) / rate + offset for edge in span] for span in spans]
    return _grid(guide.latent, times, 1, device)


def reference_positions(
    latent: torch.Tensor,
    fps: Fraction | float | str,
    *,
    downscale: int = 1,
    temporal: int = 1,
    video_offset_seconds: Seconds = 0,
    device: torch.device | str,
) -> torch.Tensor:
    """Positions [1, 3, tokens, 2] float32 of a clip [1 or B, C, f, h, w] that lies over the whole of another one.

    downscale: how much smaller its picture is, temporal: how much slower its frames follow each other. Its last latent
    frame ends with that of the clip that it lies over. Source: ltx-core's reference conditioning, equal to it where
    that has the factor.
    """
    rate, offset = clock.parse_fps(fps), clock.exact_seconds(video_offset_seconds)
    spans = [clock.latent_frame_span(i) for i in range(latent.shape[2])]
    # the first frame of a slower clip lasts as long as any other one of the clip under it
    late = temporal - 1
    times = [[max(edge * temporal - late, 0) / rate + offset for edge in span] for span in spans]
    return _grid(latent, times, downscale, device)


def _grid(latent: torch.Tensor, times: Sequence[Sequence], scale: int, device: torch.device | str) -> torch.Tensor:
    frames, height, width = latent.shape[2:]
    side = clock.PIXELS_PER_LATENT * scale
    axes = (
        [[float(edge) for edge in span] for span in times],
        [[side * i, side * (i + 1)] for i in range(height)],
        [[side * i, side * (i + 1)] for i in range(width)],
    )
    seconds, rows, columns = (torch.tensor(axis, dtype=torch.float32, device=device) for axis in axes)
    grid = (seconds[:, None, None], rows[None, :, None], columns[None, None])
    return torch.stack([axis.expand(frames, height, width, 2).reshape(-1, 2) for axis in grid])[None]
