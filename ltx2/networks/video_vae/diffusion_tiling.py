"""The diffusion decoder on clips that do not fit at once: tiles for its costly last stages, pixels in order of time.

The stages before run on the whole clip, as they are cheap. Tiles are cut on the grid that enters the last upsampling,
whose cells are 2 frames of 8x8 pixels. A position near the edge of a tile sees a shifted window there, which the
overlap fades out.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config.diffusion_decoder import DiffusionDecoderConfig
from ...errors import RequestError
from ...values import Progress
from .diffusion_decoder import PIECE_ELEMENTS, WIDTH_CHUNKS, DiffusionDecoder, default_generator, draw_noise, pad_latent
from .neighborhood_attention import GATHERED_ELEMENTS
from .tiling import Place, Tiling, blend_tiles, fade_weights, place_axis, split_axis

# Twenty positions of the last stage reach as far as its eight blocks see, so this is what the official tiling uses.
OVERLAP_PIXELS = 160
OVERLAP_FRAMES = 40
DEFAULT_TILING = Tiling(768, OVERLAP_PIXELS, 80, OVERLAP_FRAMES)

_TILE_PIXELS = (None, 1280, 1024, 768, 640, 512, 448, 384, 320)
_TILE_FRAMES = (None, 240, 160, 120, 80)
_LOW_MEMORY_WORK = 1.2  # columns and context that low-memory mode computes again


def stream_diffusion_decode(
    decoder: DiffusionDecoder,
    latent: Tensor,
    *,
    tiling: Tiling | None = DEFAULT_TILING,
    low_memory: bool = False,
    steps: int | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[Progress], None] | None = None,
    device: torch.device | str | None = None,
) -> Iterator[Tensor]:
    """Decode a normalised latent [B, C, T, h, w] tile by tile: yields pixels [B, 3, n, 32h, 32w] in order of time.

    tiling None: one tile, which equals ``decoder(latent)``. low_memory: see DiffusionDecoder.forward. steps and
    generator as there; with one step every tile draws its own noise in the order of time, rows and columns, with more
    steps all tiles share one noise. Pixels are blended in float32 on ``device`` (default: that of the latent). progress
    is called between tiles; raising from it, or dropping the iterator, stops the work. Raises RequestError for a latent
    that does not fit.
    """
    decoder.check(latent)
    return _decode(decoder, latent, tiling, low_memory, steps, generator or default_generator(), progress, device)


def _decode(decoder, latent, tiling, low_memory, steps, generator, progress, device) -> Iterator[Tensor]:
    config = decoder.config
    steps = config.steps if steps is None else steps
    shape = decoder.noise_shape(latent)
    padded, crop = pad_latent(latent, config)
    left = (latent.shape[2] - 1) * config.time_compression + 1  # frames still to hand out
    times, rows, columns = tile_places(config, tuple(padded.shape[2:]), tiling)
    shared = draw_noise(shape, generator, latent, stay=True) if steps > 1 or config.output == "v" else None
    total, done = len(times) * len(rows) * len(columns), 0
    features = decoder.features(padded, low_memory=low_memory)
    end = times[-1].source.stop

    def compute(time: Place, row: Place, column: Place) -> Tensor:
        nonlocal done
        if progress is not None:
            progress(Progress("video decoding", done, total))
        last = time.source.stop == end
        cells = features[:, time.source.start : None if last else time.source.stop, row.source, column.source]
        context = decoder.context(cells, first=time.source.start == 0, last=last, low_memory=low_memory)
        if shared is None:
            noise = draw_noise(
                (shape[0], 3, *(place.target.stop - place.target.start for place in (time, row, column))),
                generator,
                latent,
            )
        else:
            noise = shared[:, :, time.target, row.target, column.target].to(latent.device)
        pixels = decoder.denoise(context, noise, steps, low_memory=low_memory)
        done += 1
        return pixels

    for piece in blend_tiles(compute, times, rows, columns, device=device):
        piece = piece[..., :left, crop[2], crop[3]]
        left -= piece.shape[2]
        if piece.shape[2]:
            yield piece
        del piece  # else it would live on beside the next one
    if progress is not None:
        progress(Progress("video decoding", total, total))


def tile_places(
    config: DiffusionDecoderConfig, latent_grid: tuple[int, ...], tiling: Tiling | None
) -> list[tuple[Place, ...]]:
    """Tiles along time, rows and columns for a latent of (frames, rows, columns): cells in, pixels out."""
    before, after = config.strides[-2], config.strides[-1]
    cell_frames = after[0] // before[0]
    cell_pixels = after[1] // before[1] * config.patch_size
    least = smallest_tile(config)
    cells = [(latent_grid[0] - 1) * before[0] + 1, latent_grid[1] * before[1], latent_grid[2] * before[2]]
    sizes: list[tuple[int | None, int]] = [(None, 0)] * 3
    if tiling is not None:
        space = (tiling.pixels and tiling.pixels // cell_pixels, tiling.overlap_pixels // cell_pixels)
        sizes = [(tiling.frames and tiling.frames // cell_frames, tiling.overlap_frames // cell_frames), space, space]
    places = []
    for axis, (count, (size, overlap), unit) in enumerate(zip(cells, sizes, (cell_frames, cell_pixels, cell_pixels))):
        if size is not None and size < least[axis]:
            name = ("frames", "rows", "columns")[axis]
            raise RequestError(
                f"tiles of {size * unit} {name} are too small for the diffusion decoder: use at least "
                f"{least[axis] * unit}"
            )
        spans = split_axis(count, size, overlap, minimum=least[axis])
        # The clip's first cell stands for one frame alone, so later cells begin one frame early.
        repeats = unit - 1 if axis == 0 else 0
        targets = [slice(s.start * unit - (repeats if s.start else 0), s.end * unit - repeats) for s in spans]
        weights = [fade_weights(t.stop - t.start, s.fade_in * unit, s.fade_out * unit) for s, t in zip(spans, targets)]
        places.append(place_axis([slice(s.start, s.end) for s in spans], targets, weights))
    return places


def smallest_tile(config: DiffusionDecoderConfig) -> tuple[int, ...]:
    """Cells along time, rows and columns that the windows of both tiled stages fit into."""
    before, after = config.strides[-2], config.strides[-1]
    return tuple(
        max(config.kernels[-2][axis], -(-config.kernels[-1][axis] * before[axis] // after[axis])) for axis in range(3)
    )


@dataclass(frozen=True)
class DiffusionDecodePlan:
    """How a clip will be decoded, and the memory that takes beside the weights."""

    tiling: Tiling | None
    low_memory: bool
    peak_bytes: int
    fits: bool

    def __str__(self) -> str:
        how = "at once" if self.tiling is None else f"in tiles: {self.tiling}"
        low = ", low memory" if self.low_memory else ""
        return f"diffusion decode {how}{low}, about {self.peak_bytes / 2**30:.1f} GiB"


def plan_diffusion_decode(
    config: DiffusionDecoderConfig,
    latent_shape: tuple[int, ...],
    free_bytes: int,
    *,
    itemsize: int = 2,
    fused: bool = True,
    blended_here: bool = False,
) -> DiffusionDecodePlan:
    """The way of decoding a latent [B, C, T, h, w] that repeats least work and fits into ``free_bytes`` (weights
    already loaded).

    itemsize: bytes of a value; fused: attention runs in a fused kernel, without copies of keys; blended_here: tiles are
    blended in the same memory (``device`` of stream_diffusion_decode). If nothing fits, the plan that needs least, with
    ``fits`` False.
    """
    grid = tuple(max(a, b) for a, b in zip(latent_shape[2:], config.smallest_latent))
    best = smallest = None
    for pixels in _TILE_PIXELS:
        for frames in _TILE_FRAMES:
            tiling = Tiling(pixels, OVERLAP_PIXELS, frames, OVERLAP_FRAMES) if pixels or frames else None
            places = tile_places(config, grid, tiling)
            for low_memory in (False, True):
                peak = latent_shape[0] * peak_bytes(
                    config, grid, tiling, low_memory, itemsize, blended_here=blended_here
                )
                peak += 0 if fused else 3 * GATHERED_ELEMENTS * itemsize // 2
                cells = [sum(place.source.stop - place.source.start for place in axis) for axis in places]
                work = math.prod(cells) * (_LOW_MEMORY_WORK if low_memory else 1)
                plan = DiffusionDecodePlan(tiling, low_memory, peak, peak <= free_bytes)
                if plan.fits and (best is None or work < best[0]):
                    best = work, plan
                if smallest is None or peak < smallest.peak_bytes:
                    smallest = plan
    return best[1] if best else smallest


def peak_bytes(
    config: DiffusionDecoderConfig,
    latent_grid: tuple[int, ...],
    tiling: Tiling | None,
    low_memory: bool,
    itemsize: int = 2,
    *,
    blended_here: bool = False,
) -> int:
    """Peak of live tensors for one clip with a fused attention kernel, without the weights."""
    frames = latent_grid[0] + config.ghost_latents
    peaks, features = [], 0
    for stage, stride in enumerate(config.strides[:-1]):
        count = ((frames - 1) * stride[0] + 1) * latent_grid[1] * stride[1] * latent_grid[2] * stride[2]
        features = count * config.channels[stage]
        peaks.append(5 * features)  # the stream, queries, keys, values and what was attended to
    peaks.pop()  # the last of these stages runs on tiles
    places = tile_places(config, latent_grid, tiling)
    sides = [max(place.source.stop - place.source.start for place in axis) for axis in places]
    if tiling is None or len(places[0]) == 1:
        sides[0] += frames * config.strides[-2][0] - latent_grid[0] * config.strides[-2][0]  # the ghosts
    narrow = config.channels[-2] * math.prod(sides)
    wide = config.channels[-1] * math.prod(sides) * math.prod(config.upsamples[-1][0])
    pixels = 3 * math.prod(max(place.target.stop - place.target.start for place in axis) for axis in places)
    columns = sides[2] * config.upsamples[-1][0][2]
    halo = config.kernels[-1][2] - 1
    chunk = min(1.0, 1 / WIDTH_CHUNKS + halo / columns)
    if low_memory:
        last = narrow + wide * (2 + 5 * chunk)
    else:
        last = wide * 6
    peaks += [features + narrow * 5, features + last + 2 * pixels]
    stretch = max(place.target.stop - place.target.start for place in places[0])
    blended = 4 * 3 * stretch * latent_grid[1] * latent_grid[2] * config.space_compression**2  # float32
    here = 3 * blended // 2 if blended_here else 0  # one stretch of time, and its overlap with the one before
    return int((max(peaks) + 4 * PIECE_ELEMENTS) * itemsize) + here
