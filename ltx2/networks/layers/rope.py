"""Positions of tokens in seconds and pixels, and their rotary embedding.

A position is an interval [start, end): seconds, and for video also pixel rows and columns. Checked against ltx-core
1.0.0.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch

from ... import clock
from ...clock import Seconds
from ...config.transformer import RotaryConfig

TOKENS_AT_ONCE = (
    2048  # angles are float32 and as wide as a token: made in slices, so that only the table itself is large
)


def video_positions(
    latent_frames: int,
    latent_height: int,
    latent_width: int,
    fps: Fraction | float | str,
    *,
    video_offset_seconds: Seconds = 0,
    device: torch.device | str,
) -> torch.Tensor:
    """Positions of a video latent's tokens, in the order frame, row, column: [1, 3, T, 2] float32.

    Time is in seconds and moved by ``video_offset_seconds``; rows and columns are in pixels. Times are computed as
    fractions and rounded once, so they do not depend on where a clip starts.
    """
    rate, offset = clock.parse_fps(fps), clock.exact_seconds(video_offset_seconds)
    side = clock.PIXELS_PER_LATENT
    axes = (
        [[float(edge / rate + offset) for edge in clock.latent_frame_span(i)] for i in range(latent_frames)],
        [[side * i, side * (i + 1)] for i in range(latent_height)],
        [[side * i, side * (i + 1)] for i in range(latent_width)],
    )
    shape = (latent_frames, latent_height, latent_width, 2)
    times, rows, columns = (torch.tensor(axis, dtype=torch.float32, device=device) for axis in axes)
    grid = (times[:, None, None], rows[None, :, None], columns[None, None])
    return torch.stack([axis.expand(shape).reshape(-1, 2) for axis in grid])[None]  # [1, 3, F·H·W, 2]


def audio_positions(latents: int, *, video_offset_seconds: Seconds = 0, device: torch.device | str) -> torch.Tensor:
    """Positions of audio latents in seconds, moved by ``video_offset_seconds``: [1, 1, T, 2] float32."""
    offset = clock.exact_seconds(video_offset_seconds)
    spans = [[float(edge + offset) for edge in clock.audio_latent_span(i)] for i in range(latents)]
    return torch.tensor(spans, dtype=torch.float32, device=device)[None, None]


class RotaryTable(NamedTuple):
    """cos and sin of every rotated pair: [B or 1, T, heads, head_dim / 2]. ``interleaved``: pairs are neighbours, not
    halves."""

    cos: torch.Tensor
    sin: torch.Tensor
    interleaved: bool


def rotary_table(
    positions: torch.Tensor,
    *,
    heads: int,
    head_dim: int,
    max_positions: Sequence[float],
    rotary: RotaryConfig,
    middle: bool,
    dtype: torch.dtype,
) -> RotaryTable:
    """The rotation of tokens at ``positions`` [B, n, T, 2], for ``heads`` of ``head_dim``, in ``dtype``.

    Angles are float32; of equal clips one is kept. ``middle``: a token sits in the middle of its interval, else at
    its start.
    """
    positions = positions.float()
    if len(positions) > 1 and torch.equal(positions[:1].expand_as(positions), positions):
        positions = positions[:1]
    points = positions.mean(-1) if middle else positions[..., 0]  # [B, n, T]
    batch, dims, tokens = points.shape
    limits = torch.tensor(max_positions, dtype=torch.float32, device=points.device)
    fractions = (points.mT / limits) * 2 - 1  # [B, T, n]

    slots = heads * head_dim // 2
    grid = frequencies(slots // dims, rotary).to(points.device)
    unused = slots - dims * len(grid)  # slots that do not divide by the dimensions lie in front and stay unrotated
    cos = torch.ones(batch, tokens, heads, head_dim // 2, dtype=dtype, device=points.device)
    sin = torch.zeros_like(cos)
    flat_cos, flat_sin = cos.flatten(2), sin.flatten(2)
    for start in range(0, tokens, TOKENS_AT_ONCE):
        part = slice(start, start + TOKENS_AT_ONCE)
        angles = (fractions[:, part, None] * grid[:, None]).flatten(2)  # [B, t, k·n], the dimension runs fastest
        flat_cos[:, part, unused:] = angles.cos()
        flat_sin[:, part, unused:] = angles.sin_()
    return RotaryTable(cos, sin, rotary.interleaved)


def frequencies(count: int, rotary: RotaryConfig) -> torch.Tensor:
    """π/2 · theta^(0…1), float32. The released models were trained with powers taken in float64."""
    dtype = torch.float64 if rotary.double else torch.float32
    exponents = torch.linspace(0, 1, count, dtype=dtype, device="cpu")
    return (torch.pow(rotary.theta, exponents) * (math.pi / 2)).float()


def rotated(x: torch.Tensor, table: RotaryTable) -> torch.Tensor:
    """x [B, T, heads·head_dim] rotated as the table says, in memory of its own."""
    cos, sin = table.cos, table.sin
    axis = 4 if table.interleaved else 3
    pairs = (-1, 2) if table.interleaved else (2, -1)
    a, b = x.unflatten(-1, (cos.shape[2], *pairs)).unbind(axis)  # [B, T, heads, head_dim / 2] each
    return torch.stack([a * cos - b * sin, b * cos + a * sin], axis).flatten(2)


def rotate_into(out: torch.Tensor, x: torch.Tensor, table: RotaryTable, tokens: slice) -> None:
    """Write x [B, t, heads·head_dim], rotated as ``tokens`` of the table say, to ``out`` of the same shape."""
    cos, sin = table.cos[:, tokens], table.sin[:, tokens]
    axis = 4 if table.interleaved else 3
    pairs = (-1, 2) if table.interleaved else (2, -1)
    x, out = (tensor.unflatten(-1, (cos.shape[2], *pairs)) for tensor in (x, out))  # [B, t, heads, a pair and pairs]
    torch.mul(x, cos.unsqueeze(axis), out=out)
    (a, b), (out_a, out_b) = x.unbind(axis), out.unbind(axis)  # [B, t, heads, head_dim / 2] each
    out_a.addcmul_(b, sin, value=-1)
    out_b.addcmul_(a, sin)
