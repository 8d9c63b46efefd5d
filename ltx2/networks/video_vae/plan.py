"""How to decode or encode a clip in the memory that is free: whole, in an exact stream of pieces, or in tiles."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...clock import frames_of_latents
from ...config.video_vae import VideoVaeConfig
from ...values import Progress
from .model import VideoDecoder, VideoEncoder
from .streaming import stream_decode, stream_encode
from .tiling import Tiling, tiled_decode, tiled_encode

PIECES = (32, 16, 8, 4, 2, 1)
TILES = tuple(Tiling(pixels=pixels, overlap_pixels=64, frames=80, overlap_frames=24) for pixels in (768, 512, 256))
# Workspaces of the convolutions, which turn what they read and give to another layout, and fragmentation come on top of
# the tensors that are counted: up to 1.27 times these on a card in pieces of 16 frames, 1.39 of 32, 1.65 at once.
MARGIN, MARGIN_OF_LONG_PIECES, MARGIN_OF_WHOLE = 1.3, 1.45, 1.75
LONG_PIECE_FRAMES = 16


@dataclass(frozen=True)
class DecodePlan:
    """One way to decode or encode, and the bytes of tensors that it needs at its peak (weights not counted).

    mode: "whole"; "stream", exact, in pieces of at most ``piece_frames``; or "tiles", blended, each of them streamed.
    free_bytes: what it was chosen for, None when it was not chosen but asked for.
    """

    mode: str
    estimate_bytes: int
    piece_frames: int | None = None
    tiling: Tiling | None = None
    free_bytes: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the memory that is free is enough."""
        return self.free_bytes is None or self.estimate_bytes * self.margin <= self.free_bytes

    @property
    def margin(self) -> float:
        """How many times the estimate has to be free."""
        if self.piece_frames is None:
            return MARGIN_OF_WHOLE
        return MARGIN_OF_LONG_PIECES if self.piece_frames > LONG_PIECE_FRAMES else MARGIN

    def __str__(self) -> str:
        ways = {
            "whole": "the whole clip at once",
            "stream": f"an exact stream in pieces of {self.piece_frames} frame{'s' * (self.piece_frames != 1)}",
            "tiles": f"tiles ({self.tiling}), blended at their seams",
        }
        needs = f"{ways[self.mode]}, about {_gib(self.estimate_bytes)} beside the weights"
        if self.free_bytes is None:
            return needs
        return f"{needs}, {_gib(self.free_bytes)} free" + (
            "" if self.fits else ": the leanest way there is, and it may not fit"
        )


def choose(plans: Iterable[DecodePlan], free_bytes: int) -> DecodePlan:
    """The first of the plans that fits with a margin, else the one that needs least. Put the preferred ones first."""
    plans = [replace(plan, free_bytes=free_bytes) for plan in plans]
    return next((plan for plan in plans if plan.fits), min(plans, key=lambda plan: plan.estimate_bytes))


def plan_decode(
    config: VideoVaeConfig, latent_shape: tuple[int, ...], free_bytes: int, dtype: torch.dtype
) -> DecodePlan:
    """How to decode a latent [B, C, T, h, w] of ``dtype`` with the convolutional decoder in ``free_bytes``."""
    return choose(_plans(latent_shape, lambda shape, piece: decode_bytes(config, shape, dtype, piece)), free_bytes)


def plan_encode(
    config: VideoVaeConfig, latent_shape: tuple[int, ...], free_bytes: int, dtype: torch.dtype
) -> DecodePlan:
    """How to encode pictures into a latent [B, C, T, h, w] in ``free_bytes``."""
    return choose(_plans(latent_shape, lambda shape, piece: encode_bytes(config, shape, dtype, piece)), free_bytes)


def _plans(shape: tuple[int, ...], estimate: Callable) -> Iterator[DecodePlan]:
    yield DecodePlan("whole", estimate(shape, None))
    for piece in PIECES:
        yield DecodePlan("stream", estimate(shape, piece), piece)
    batch, channels, frames, rows, columns = shape
    for tiling in TILES:
        for piece in (8, 2):
            tile = batch, channels, frames, min(rows, tiling.pixels // 32), min(columns, tiling.pixels // 32)
            yield DecodePlan("tiles", estimate(tile, piece), piece, tiling)


def decode(
    decoder: VideoDecoder,
    latent: Tensor,
    plan: DecodePlan,
    *,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Tensor]:
    """Decode a normalised latent [B, C, T, h, w] as planned: yields pixels [B, 3, n, 32h, 32w] in order of time.

    device: where the pixels are wanted (default: where the latent is). progress may raise to stop.
    """
    if plan.mode == "tiles":
        decoder.check(latent)

        def tile(part: Tensor) -> Tensor:
            # Each tile comes out in pieces too, and leaves the decoder's device at once.
            return torch.cat(
                [
                    x.to(device)
                    for x in stream_decode(decoder, part, piece_frames=plan.piece_frames, generator=generator)
                ],
                2,
            )

        yield from tiled_decode(tile, latent, plan.tiling, device=device, progress=progress)
    elif plan.mode == "stream":
        for x in stream_decode(decoder, latent, piece_frames=plan.piece_frames, generator=generator, progress=progress):
            yield x.to(device)
    else:
        total = frames_of_latents(latent.shape[2])
        if progress is not None:
            progress(Progress("video decoding", 0, total))
        yield decoder(latent, generator=generator).to(device)
        if progress is not None:
            progress(Progress("video decoding", total, total))


def encode(
    encoder: VideoEncoder,
    frames: Tensor,
    plan: DecodePlan,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Tensor:
    """Encode pictures [B, 3, 8k+1, H, W] in -1…1 as planned → normalised latent [B, C, k+1, H/32, W/32] on ``device``.

    The pictures may lie elsewhere: what is worked on is moved to ``device`` and ``dtype`` when its turn comes.
    """
    if plan.mode == "whole":
        if progress is not None:
            progress(Progress("video encoding", 0, frames.shape[2]))
        return encoder(frames.to(device=device, dtype=dtype))

    def stream(part: Tensor, report=None) -> Tensor:
        return torch.cat(
            list(
                stream_encode(
                    encoder, part, piece_frames=plan.piece_frames, device=device, dtype=dtype, progress=report
                )
            ),
            2,
        )

    if plan.mode == "stream":
        return stream(frames, progress)
    encoder.check(frames)
    return tiled_encode(stream, frames, plan.tiling, progress=progress).to(dtype)


# --- what it takes -------------------------------------------------------------------------------------------------


def decode_bytes(
    config: VideoVaeConfig, latent_shape: tuple[int, ...], dtype: torch.dtype, piece_frames: int | None
) -> int:
    """Peak bytes of live tensors while decoding a latent [B, C, T, h, w]; piece_frames None: the whole clip at once."""
    batch, _, latent_count, rows, columns = latent_shape
    area = batch * rows * columns * dtype.itemsize  # one channel of one frame, growing with each upsampling
    border = _border(config.decoder_padding, rows, columns)
    width, frames = config.bottleneck_channels, latent_count

    def kept(amount: float) -> float:  # by a layer between pieces: nothing while one piece holds the whole clip
        return amount if piece_frames and frames > piece_frames else 0

    history = kept(2 * config.latent_channels * area)
    held, work = 0, 0.0  # pieces that wait while later layers run; the largest working set of one layer
    for block in config.decoder_blocks:
        size = min(frames, piece_frames or frames)
        if block.layers:
            work = max(work, _res_block_work(size, border) * width * area)
            history += kept(4 * block.layers * width * area)
        else:
            history += kept(2 * width * area)
            before, inputs = width * area, max(1, size // block.stride[0])
            held += (size - inputs) * before
            width, area = width // block.multiplier, area * block.stride[1] * block.stride[2]
            frames = (frames - 1) * block.stride[0] + 1
            out = (inputs if piece_frames else size) * block.stride[0] * width * area
            work = max(work, (2 + bool(block.residual)) * out + 2 * size * before)
    pixels = 3 * config.patch_size**2 * area
    size = min(frames, piece_frames or frames)
    history += kept(2 * width * area)
    work = max(work, size * (2 * border * width * area + pixels), size * 2 * pixels + 2 * width * area)
    return math.ceil(work + history + held if piece_frames else work)


def encode_bytes(
    config: VideoVaeConfig, latent_shape: tuple[int, ...], dtype: torch.dtype, piece_frames: int | None
) -> int:
    """Peak bytes of live tensors while encoding to a latent [B, C, T, h, w]; piece_frames None: the whole clip at
    once."""
    batch, _, latent_count, rows, columns = latent_shape
    scale = config.space_compression // config.patch_size
    area = 1.0 * batch * rows * columns * scale**2 * dtype.itemsize
    border = _border(config.encoder_padding, rows, columns)
    width, frames = config.encoder_channels, frames_of_latents(latent_count)
    pixels = 3 * config.patch_size**2 * area
    size = min(frames, piece_frames or frames)
    history = (2 * pixels + 2 * width * area) * 1.0
    work = size * (3 * pixels + width * area)
    for block in config.encoder_blocks:
        size = min(frames, piece_frames or frames) + 2 * (piece_frames is None)
        if block.layers:
            work = max(work, _res_block_work(size, border) * width * area)
            history += 4 * block.layers * width * area
        else:
            history += 2 * width * area
            work = max(work, (3 * border * size + 2) * width * area)
            width, area = width * block.multiplier, area / (block.stride[1] * block.stride[2])
            frames = (frames - 1) // block.stride[0] + 1
            if piece_frames:
                piece_frames = max(1, math.ceil(piece_frames / block.stride[0]))
    history += 2 * width * area
    return math.ceil(work + (history if piece_frames else 0))


def _res_block_work(frames: int, border: float) -> float:
    """Tensors of one frame's size: input, what a convolution reads, what the other one gave, and fresh copies of the
    history."""
    return frames + (frames + 2) * border + frames + 4


def _border(padding: str, rows: int, columns: int) -> float:
    """How much larger a mirrored border makes a convolution's input, at most."""
    return (1 + 2 / rows) * (1 + 2 / columns) if padding == "reflect" else 1.0


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"
