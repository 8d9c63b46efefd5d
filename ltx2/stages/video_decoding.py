"""Video latents to pictures, handed out in order of time while later ones are still to be decoded."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import RequestError
from ..networks.video_vae.diffusion_decoder import DiffusionDecoder
from ..networks.video_vae.diffusion_tiling import (
    DEFAULT_TILING,
    DiffusionDecodePlan,
    plan_diffusion_decode,
    stream_diffusion_decode,
)
from ..networks.video_vae.plan import TILES, DecodePlan, decode, decode_bytes, plan_decode
from ..networks.video_vae.streaming import DEFAULT_PIECE_FRAMES
from ..networks.video_vae.tiny_decoder import FRAMES_PER_LATENT, TinyDecoder
from ..values import Progress
from .memory import free_bytes

MODES = ("auto", "whole", "stream", "tiles")
# What to ask a host to make free for decoding when nobody said how it is to be done.
ROOM_TO_DECODE = 6 * 2**30


def decode_video(
    decoder: nn.Module,
    latent: torch.Tensor,
    *,
    plan: DecodePlan | DiffusionDecodePlan | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[torch.Tensor]:
    """Decode a normalised latent [1, 128, F, h, w]: yields pixels [1, 3, n, 32h, 32w] around -1…1 on the CPU, in order
    of time.

    decoder: convolutional or diffusion, on ``device`` with weights of ``dtype``. plan: how (:func:`plan_video`), chosen
    for the memory that is free when left out. generator: of the noise that some decoders take; the next draws of the
    clip's own, so that a result depends on its seed alone. progress may raise to stop; so does dropping the iterator.
    Raises RequestError.
    """
    if latent.ndim != 5 or len(latent) != 1:
        raise RequestError(
            f"video latent has shape {list(latent.shape)}, expected one clip [1, 128, frames, rows, columns]"
        )
    plan = plan or plan_video(decoder, tuple(latent.shape), device=device, dtype=dtype)
    latent = latent.to(device, dtype)
    if isinstance(decoder, DiffusionDecoder) and isinstance(plan, DiffusionDecodePlan):
        pieces = stream_diffusion_decode(
            decoder,
            latent,
            tiling=plan.tiling,
            low_memory=plan.low_memory,
            generator=generator,
            progress=progress,
            device="cpu",
        )
    else:
        pieces = decode(decoder, latent, plan, device="cpu", generator=generator, progress=progress)
    return _without_gradients(pieces)


@torch.no_grad()
def _without_gradients(pieces: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    yield from pieces


def plan_video(
    decoder: nn.Module,
    shape: tuple[int, ...],
    *,
    mode: str = "auto",
    device: torch.device | str,
    dtype: torch.dtype,
    free: int | None = None,
) -> DecodePlan | DiffusionDecodePlan:
    """How to decode a latent of a shape: ``auto`` by the memory that is free, ``whole``, ``stream`` (exact pieces) or
    ``tiles``.

    A diffusion decoder has no exact pieces: ``stream`` means tiles there too. free: bytes, what the device tells unless
    given.
    """
    if mode not in MODES:
        raise RequestError(f"video decoding is {mode!r}, expected one of {', '.join(MODES)}")
    free = free_bytes(device) if free is None else free
    if isinstance(decoder, DiffusionDecoder):
        fused = torch.device(device).type == "cuda"
        if mode == "auto":
            return plan_diffusion_decode(decoder.config, shape, free, itemsize=dtype.itemsize, fused=fused)
        planned = plan_diffusion_decode(decoder.config, shape, 0, itemsize=dtype.itemsize, fused=fused)
        return replace(planned, tiling=None if mode == "whole" else DEFAULT_TILING, low_memory=False, fits=True)
    if mode == "auto":
        return plan_decode(decoder.config, shape, free, dtype)
    piece = None if mode == "whole" else DEFAULT_PIECE_FRAMES
    return DecodePlan(
        mode, decode_bytes(decoder.config, shape, dtype, piece), piece, TILES[0] if mode == "tiles" else None
    )


def room_to_decode(
    decoder: nn.Module, shape: tuple[int, ...], *, mode: str = "auto", device: torch.device | str, dtype: torch.dtype
) -> int:
    """Bytes beside the weights that decoding asks a host for: ``auto`` takes what a middle-sized card has, at the
    most."""
    plan = plan_video(decoder, shape, mode=mode, device=device, dtype=dtype, free=ROOM_TO_DECODE)
    return plan.peak_bytes if isinstance(plan, DiffusionDecodePlan) else plan.estimate_bytes


@torch.no_grad()
def decode_tiny(
    decoder: TinyDecoder, latent: torch.Tensor, *, progress: Callable[[Progress], None] | None = None
) -> Iterator[torch.Tensor]:
    """Decode a normalised latent [1, 128, F, h, w] with a tiny autoencoder, on its device: pieces [1, 3, n, 32h, 32w]
    around -1…1 on the CPU, in order of time."""
    weight = next(decoder.parameters())
    total = latent.shape[2]
    for done, piece in enumerate(decoder.stream(latent.to(weight.device, weight.dtype)), 1):
        if progress is not None:
            progress(Progress("video decoding", done, total))
        yield piece.movedim(0, 1)[None].float().mul(2).sub(1).cpu()


def tiny_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes beside the weights that ``decode_tiny`` takes: some copies of eight frames at its widest place."""
    return 8 * FRAMES_PER_LATENT * 64 * 64 * shape[3] * shape[4] * dtype.itemsize


def resized(pixels: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Decoded pixels [1, 3, n, h, w] around -1…1 at another size; as they are where that is theirs."""
    if pixels.shape[3:] == (height, width):
        return pixels
    frames = F.interpolate(pixels[0].movedim(1, 0), (height, width), mode="bicubic", align_corners=False)
    return frames.movedim(0, 1)[None]


def pictures(pixels: torch.Tensor) -> torch.Tensor:
    """Decoded pixels [1, 3, n, H, W] around -1…1 as pictures [n, H, W, 3] float32 in 0…1, the layout hosts exchange."""
    return pixels[0].permute(1, 2, 3, 0).float().add(1).div_(2).clamp_(0, 1)
