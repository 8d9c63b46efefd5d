"""Tiles of a clip and how they are blended: the splitter, the weights, and the walk over tiles in order of time.

Nothing here knows a network. A decoder, convolutional or diffusion, gives a function that turns one tile into pixels;
the frames of the blended clip come out in order while later tiles are still to be decoded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...clock import FRAMES_PER_LATENT, PIXELS_PER_LATENT, latent_frames, latent_size
from ...errors import RequestError
from ...values import Progress

# Below these overlaps the padding inside an encoder tile reaches the part of it that is kept.
MIN_ENCODE_OVERLAP_PIXELS = 64
MIN_ENCODE_OVERLAP_FRAMES = 16


@dataclass(frozen=True)
class Tiling:
    """Tile sizes and overlaps in pixels (multiples of 32) and frames (multiples of 8); a size of None leaves that axis
    whole."""

    pixels: int | None = 768
    overlap_pixels: int = 64
    frames: int | None = 80
    overlap_frames: int = 24

    def __post_init__(self):
        for name, size, overlap, unit in (
            ("pixels", self.pixels, self.overlap_pixels, PIXELS_PER_LATENT),
            ("frames", self.frames, self.overlap_frames, FRAMES_PER_LATENT),
        ):
            if size is None:
                continue
            if size < 2 * unit or size % unit or overlap % unit or not 0 <= overlap < size:
                raise RequestError(
                    f"tile of {size} {name} with overlap {overlap}, expected multiples of {unit}, at least {2 * unit}, "
                    f"and an overlap below the tile: use {max(2, round(size / unit)) * unit} and {unit}"
                )

    def __str__(self) -> str:
        space = f"{self.pixels} px tiles overlapping by {self.overlap_pixels}" if self.pixels else "whole pictures"
        time = f"{self.frames} frames overlapping by {self.overlap_frames}" if self.frames else "the whole length"
        return f"{space}, {time}"


@dataclass(frozen=True)
class Span:
    """One tile of one axis: the part [start, end) and how many units of it fade in and fade out."""

    start: int
    end: int
    fade_in: int = 0
    fade_out: int = 0


@dataclass(frozen=True)
class Place:
    """One tile of one axis: what it reads, where its output belongs, and the output's weights (float32, 1-D)."""

    source: slice
    target: slice
    weights: Tensor


def split_axis(
    length: int, size: int | None, overlap: int, *, causal: bool = False, minimum: int = 1
) -> tuple[Span, ...]:
    """Overlapping spans that cover an axis, as the official tiling cuts it (checked against ltx-core 1.0.0).

    size None or >= length: one span. causal (time): every span but the first starts one unit earlier, as context for
    the frame that a decoder makes of a tile's first latent alone. minimum: a shorter last span is extended to the left.
    """
    if size is None or length <= size:
        return (Span(0, length),)
    step = size - overlap
    count = (length + size - 2 * overlap - 1) // step
    early = int(causal)
    spans = []
    for index in range(count):
        first, last = index == 0, index == count - 1
        start = index * step
        spans.append(
            Span(
                start=start if first else start - early,
                end=length if last else start + size,
                fade_in=0 if first else overlap + early,
                fade_out=0 if last else overlap,
            )
        )
    short = minimum - (spans[-1].end - spans[-1].start)
    if short > 0:
        before, tail = spans[-2:]
        spans[-2] = Span(before.start, before.end, before.fade_in, before.fade_out + short)
        spans[-1] = Span(tail.start - short, tail.end, tail.fade_in + short, 0)
    return tuple(spans)


def fade_weights(length: int, fade_in: int, fade_out: int, *, from_zero: bool = False) -> Tensor:
    """Trapezoid of ``length`` weights (float32): rises over fade_in, falls over fade_out, neither end touching 0.

    from_zero: the rise begins at exactly 0, for the one frame that only served as context.
    """
    weights = torch.ones(length)
    fade_in, fade_out = min(fade_in, length), min(fade_out, length)
    if fade_in:
        rise = torch.linspace(0, 1, fade_in + (1 if from_zero else 2))[:-1]
        weights[:fade_in] *= rise if from_zero else rise[1:]
    if fade_out:
        weights[length - fade_out :] *= torch.linspace(1, 0, fade_out + 2)[1:-1]
    return weights


def place_axis(sources: Sequence[slice], targets: Sequence[slice], weights: Sequence[Tensor]) -> tuple[Place, ...]:
    """Places of one axis, with weights divided by their sum at each target, so that they always sum to one.

    As tiles are a grid, making each axis sum to one is the same as dividing by the accumulated product of the weights.
    """
    total = torch.zeros(max(target.stop for target in targets))
    for target, weight in zip(targets, weights):
        total[target] += weight
    return tuple(Place(s, t, w / total[t]) for s, t, w in zip(sources, targets, weights))


def decode_time_places(latent_frames: int, tiling: Tiling, scale: int = FRAMES_PER_LATENT) -> tuple[Place, ...]:
    """Tiles of the time axis for decoding: latent frames [a, b) give frames [a·scale, (b-1)·scale + 1)."""
    size = tiling.frames and tiling.frames // scale
    spans = split_axis(latent_frames, size, tiling.overlap_frames // scale, causal=True)
    targets = [slice(s.start * scale, (s.end - 1) * scale + 1) for s in spans]
    weights = [
        fade_weights(
            t.stop - t.start, 1 + (s.fade_in - 1) * scale if s.fade_in else 0, s.fade_out * scale, from_zero=True
        )
        for s, t in zip(spans, targets)
    ]
    return place_axis([slice(s.start, s.end) for s in spans], targets, weights)


def decode_space_places(latent_size: int, tiling: Tiling, scale: int = PIXELS_PER_LATENT) -> tuple[Place, ...]:
    """Tiles of rows or columns for decoding: latents [a, b) give pixels [a·scale, b·scale)."""
    size = tiling.pixels and tiling.pixels // scale
    spans = split_axis(latent_size, size, tiling.overlap_pixels // scale)
    targets = [slice(s.start * scale, s.end * scale) for s in spans]
    weights = [fade_weights(t.stop - t.start, s.fade_in * scale, s.fade_out * scale) for s, t in zip(spans, targets)]
    return place_axis([slice(s.start, s.end) for s in spans], targets, weights)


def encode_time_places(latent_frames: int, tiling: Tiling, scale: int = FRAMES_PER_LATENT) -> tuple[Place, ...]:
    """Tiles of the time axis for encoding: frames [a·scale, (b-1)·scale + 1) give latent frames [a, b)."""
    size = tiling.frames and tiling.frames // scale
    spans = split_axis(latent_frames, size, tiling.overlap_frames // scale, causal=True)
    sources = [slice(s.start * scale, (s.end - 1) * scale + 1) for s in spans]
    weights = [fade_weights(s.end - s.start, s.fade_in, s.fade_out, from_zero=True) for s in spans]
    return place_axis(sources, [slice(s.start, s.end) for s in spans], weights)


def encode_space_places(latent_size: int, tiling: Tiling, scale: int = PIXELS_PER_LATENT) -> tuple[Place, ...]:
    """Tiles of rows or columns for encoding: pixels [a·scale, b·scale) give latents [a, b)."""
    size = tiling.pixels and tiling.pixels // scale
    spans = split_axis(latent_size, size, tiling.overlap_pixels // scale)
    sources = [slice(s.start * scale, s.end * scale) for s in spans]
    weights = [fade_weights(s.end - s.start, s.fade_in, s.fade_out) for s in spans]
    return place_axis(sources, [slice(s.start, s.end) for s in spans], weights)


def blend_tiles(
    compute: Callable[[Place, Place, Place], Tensor],
    times: Sequence[Place],
    rows: Sequence[Place],
    columns: Sequence[Place],
    *,
    device: torch.device | str | None = None,
) -> Iterator[Tensor]:
    """Compute every tile and yield the blended clip in order of time, piece by piece.

    compute(time, row, column) gives the tile [B, C, n, h, w] of exactly the target sizes. All tiles of one stretch of
    time are summed in float32 on ``device`` (default: where the tiles are); only the overlap with the next stretch is
    kept.
    """
    height, width = rows[-1].target.stop, columns[-1].target.stop
    overlap = None  # weighted frames of earlier stretches that the next one adds to
    for index, time in enumerate(times):
        frames = time.target.stop - time.target.start
        buffer = None  # made with the first tile, whose device and batch it takes; the previous stretch is freed here
        for row in rows:
            for column in columns:
                tile = compute(time, row, column)
                wanted = (frames, row.target.stop - row.target.start, column.target.stop - column.target.start)
                if tuple(tile.shape[2:]) != wanted:
                    raise RequestError(
                        f"tile came out as {list(tile.shape[2:])}, expected {list(wanted)} frames, rows and columns"
                    )
                if buffer is None:
                    where = tile.device if device is None else device
                    buffer = torch.zeros(*tile.shape[:2], frames, height, width, dtype=torch.float32, device=where)
                space = row.weights[:, None] * column.weights
                weights = (time.weights[:, None, None] * space).to(buffer.device)
                tile = tile.to(buffer.device, torch.float32)
                buffer[:, :, :, row.target, column.target].addcmul_(tile, weights)
                del tile
        if overlap is not None:
            buffer[:, :, : overlap.shape[2]] += overlap
        done = frames if index == len(times) - 1 else times[index + 1].target.start - time.target.start
        overlap = buffer[:, :, done:].clone()
        yield buffer[:, :, :done]


def tiled_decode(
    decode: Callable[[Tensor], Tensor],
    latent: Tensor,
    tiling: Tiling,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Tensor]:
    """Decode a latent [B, C, T, h, w] tile by tile: yields pixels [B, 3, n, 32h, 32w] (float32) in order of time.

    decode: a whole decoder for one tile of the latent. An approximation wherever a tile is smaller than what the
    decoder looks at; tiles are blended over their overlaps. device: where the picture is put together (default: where
    tiles are).
    """
    _, _, frames, rows, columns = latent.shape
    axes = decode_time_places(frames, tiling), decode_space_places(rows, tiling), decode_space_places(columns, tiling)

    def compute(time: Place, row: Place, column: Place) -> Tensor:
        return decode(latent[:, :, time.source, row.source, column.source])

    yield from blend_tiles(_counted(compute, "video decoding", axes, progress), *axes, device=device)


def tiled_encode(
    encode: Callable[[Tensor], Tensor],
    frames: Tensor,
    tiling: Tiling,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Tensor:
    """Encode pictures [B, 3, 8k+1, H, W] tile by tile → normalised latent [B, C, k+1, H/32, W/32] (float32).

    Overlaps below 64 px or 16 frames are refused with RequestError: padding inside the tiles would show.
    """
    too_small = [
        f"{overlap} {name}, expected at least {least}"
        for name, size, overlap, least in (
            ("pixels", tiling.pixels, tiling.overlap_pixels, MIN_ENCODE_OVERLAP_PIXELS),
            ("frames", tiling.frames, tiling.overlap_frames, MIN_ENCODE_OVERLAP_FRAMES),
        )
        if size is not None and overlap < least
    ]
    if too_small:
        raise RequestError(f"tiles to encode overlap by {' and by '.join(too_small)}")
    _, _, count, height, width = frames.shape
    axes = (
        encode_time_places(latent_frames(count), tiling),
        encode_space_places(latent_size(height), tiling),
        encode_space_places(latent_size(width), tiling),
    )

    def compute(time: Place, row: Place, column: Place) -> Tensor:
        return encode(frames[:, :, time.source, row.source, column.source])

    return torch.cat(list(blend_tiles(_counted(compute, "video encoding", axes, progress), *axes, device=device)), 2)


def _counted(compute, stage: str, axes: Sequence[Sequence[Place]], progress):
    """The same function, reporting before each tile."""
    total, done = len(axes[0]) * len(axes[1]) * len(axes[2]), 0

    def counted(*places: Place) -> Tensor:
        nonlocal done
        if progress is not None:
            progress(Progress(stage, done, total))
        done += 1
        return compute(*places)

    return counted
