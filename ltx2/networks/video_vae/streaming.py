"""Exact streaming through the video VAE: pieces in, pieces out, the same numbers as the whole clip at once.

Every layer is a generator that pulls pieces from the one before it, so a piece runs as deep as it can before the next
one starts. A layer keeps the last two frames of what its convolutions read, and nothing else: a res block's skip path
needs the same two frames as its first convolution. Memory therefore depends on the picture size and the piece size, not
on the length of the clip. Whoever hands a piece on lets go of it, hence the ``pop`` in each ``yield``.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ...clock import frames_of_latents, latent_frames
from ...config.video_vae import VideoVaeConfig
from ...errors import RequestError
from ...values import Progress
from ..layers.typed_modules import list_of
from .model import (
    CausalConv,
    DecoderModulation,
    ResBlock,
    ResBlocks,
    VideoDecoder,
    VideoDownsample,
    VideoEncoder,
    VideoUpsample,
    edge_frames,
    patchify,
    space_to_depth,
    unpatchify,
)

# A piece of a stream: frames [B, C, n, H, W] and whether they are the clip's last.
Piece = tuple[Tensor, bool]
Stream = Iterator[Piece]

# Pieces of small pictures may be longer: convolutions are slow on slivers, and memory is no concern there.
DEFAULT_PIECE_FRAMES = 8
DEFAULT_PIECE_BYTES = 64 * 2**20


def default_piece_frames(config: VideoVaeConfig, rows: int, columns: int, dtype: torch.dtype) -> int:
    """Frames per piece for pictures of so many latent rows and columns: 8, or more while the widest layer's piece stays
    small."""
    scale = config.space_compression // config.patch_size
    width = max(
        config.decoder_channels if config.decoder_blocks else 0, config.encoder_channels if config.encoder_blocks else 0
    )
    return max(DEFAULT_PIECE_FRAMES, DEFAULT_PIECE_BYTES // (width * rows * columns * scale**2 * dtype.itemsize))


def stream_decode(
    decoder: VideoDecoder,
    latent: Tensor,
    *,
    piece_frames: int | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Tensor]:
    """Decode a normalised latent [B, C, T, h, w] piece by piece: yields pixels [B, 3, n, 32h, 32w] in order of time.

    The pieces together equal ``decoder(latent)``. piece_frames: the most frames that any layer works on at once;
    smaller needs less memory, larger is faster; None takes :func:`default_piece_frames`. progress is called between
    pieces, also before the first frames come out; raising from it, or dropping the iterator, stops the work. Raises
    RequestError for a latent that does not fit.
    """
    decoder.check(latent)
    if piece_frames is None:
        piece_frames = default_piece_frames(decoder.config, latent.shape[3], latent.shape[4], latent.dtype)
    _check_piece(piece_frames)
    return _decode(decoder, latent, piece_frames, generator, progress)


def _decode(decoder: VideoDecoder, latent: Tensor, piece_frames: int, generator, progress) -> Iterator[Tensor]:
    causal = decoder.config.causal_decoder
    total, done = frames_of_latents(latent.shape[2]), 0

    def report() -> None:
        if progress is not None:
            progress(Progress("video decoding", done, total))

    latent, timestep = decoder.prepare(latent, generator)

    def source() -> Stream:
        for start in range(0, latent.shape[2], piece_frames):
            stop = start + piece_frames
            yield decoder.per_channel_statistics.un_normalize(latent[:, :, start:stop]), stop >= latent.shape[2]

    stream = _conv(decoder.conv_in, source(), causal)
    for block in decoder.up_blocks:
        if isinstance(block, ResBlocks):
            embedding = block.embedding(timestep, latent.dtype)
            for res_block in list_of(ResBlock, block.res_blocks):
                stream = _res_block(res_block, _split(stream, piece_frames, report), causal, embedding, generator)
        elif isinstance(block, VideoUpsample):
            stream = _upsample(block, _split(stream, max(1, piece_frames // block.stride[0]), report), causal)
    modulation = decoder.last_modulation(timestep, latent.dtype)
    stream = _split(stream, piece_frames, report)
    for x, _ in _conv(decoder.conv_out, stream, causal, activate=True, modulation=modulation):
        pixels = [unpatchify(x, decoder.config.patch_size)]
        del x
        done += pixels[0].shape[2]
        yield pixels.pop()
    report()


def stream_encode(
    encoder: VideoEncoder,
    frames: Tensor | Iterable[Tensor],
    *,
    piece_frames: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Tensor]:
    """Encode pictures piece by piece: yields normalised latents [B, C, n, H/32, W/32] in order of time.

    frames: [B, 3, 8k+1, H, W] in -1…1, or an iterable of such pieces of any lengths that add up to 8k+1. Each piece
    is moved to ``device`` and ``dtype`` when its turn comes (default: as it is). The pieces together equal
    ``encoder(frames)``. progress and piece_frames as in :func:`stream_decode`. Raises RequestError for sizes that do
    not fit; for an iterable of the wrong total, at its end.
    """
    if isinstance(frames, Tensor):
        encoder.check(frames)
    if piece_frames is None:
        piece_frames = DEFAULT_PIECE_FRAMES
        if isinstance(frames, Tensor):
            rows, columns = (side // encoder.config.space_compression for side in frames.shape[3:])
            piece_frames = default_piece_frames(encoder.config, rows, columns, dtype or frames.dtype)
    _check_piece(piece_frames)
    return _encode(encoder, frames, piece_frames, device, dtype, progress)


def _encode(
    encoder: VideoEncoder, frames: Tensor | Iterable[Tensor], piece_frames: int, device, dtype, progress
) -> Iterator[Tensor]:
    given = frames if isinstance(frames, Tensor) else None
    taken = 0

    def source() -> Stream:
        nonlocal taken
        for part in frames if given is None else [given]:
            if given is None:
                encoder.check_picture(part)
            start = 0
            while start < part.shape[2]:
                if progress is not None:
                    progress(Progress("video encoding", taken, taken if given is None else given.shape[2]))
                # The first frame goes alone: then the pairs of every halving of the frame rate fall into one piece.
                piece = part[:, :, start : start + (piece_frames if taken else 1)]
                start, taken = start + piece.shape[2], taken + piece.shape[2]
                handed = [patchify(piece.to(device=device, dtype=dtype), encoder.config.patch_size)]
                del piece
                yield handed.pop(), False

    stream = _conv(encoder.conv_in, source(), True)
    for block in encoder.down_blocks:
        if isinstance(block, ResBlocks):
            for res_block in list_of(ResBlock, block.res_blocks):
                stream = _res_block(res_block, stream, True)
        elif isinstance(block, VideoDownsample):
            stream = _downsample(block, stream)
    for x, _ in _conv(encoder.conv_out, stream, True, activate=True):
        yield encoder.latent(x)
    latent_frames(taken)  # an iterable may end anywhere


def _check_piece(piece_frames: int) -> None:
    if piece_frames < 1:
        raise RequestError(f"piece size is {piece_frames} frames, expected at least 1: 8 is the default")


# --- streams -------------------------------------------------------------------------------------------------------


def _split(stream: Stream, frames: int, between: Callable[[], None]) -> Stream:
    """The same frames in pieces of at most ``frames``, cut evenly; ``between`` is called before each piece.

    What waits is copied, so that the frames that have gone on are not kept with it.
    """
    for x, last in stream:
        waiting = [x]
        del x
        while waiting:
            between()
            x = waiting.pop()
            size = math.ceil(x.shape[2] / math.ceil(x.shape[2] / frames))
            if x.shape[2] > size:
                waiting = [x[:, :, size:].clone()]
            piece = [x[:, :, :size]]
            del x
            yield piece.pop(), last and not waiting


def _conv(
    conv: CausalConv,
    stream: Stream,
    causal: bool,
    *,
    activate: bool = False,
    modulation: DecoderModulation | None = None,
) -> Stream:
    front, after = edge_frames(causal)
    held = None  # the last two frames that the convolution read
    for x, last in stream:
        buffer = conv.fill([x], front, after * last, ready=held, activate=activate, modulation=modulation)
        del x
        front, held = 0, None if last else conv.inside(buffer)[:, :, -2:].clone()
        if buffer.shape[2] < 3:
            continue
        out = [conv(buffer)]
        del buffer
        yield out.pop(), last


def _res_block(
    block: ResBlock, stream: Stream, causal: bool, embedding: Tensor | None = None, generator=None
) -> Stream:
    modulation1, modulation2 = block.modulations(embedding)
    before, after = edge_frames(causal)
    front1 = front2 = before
    raw = None  # the last two input frames: read again by the first convolution, and still to be added by the skip path
    ready = None  # the last two frames that the second convolution read
    noise1 = noise2 = None
    waiting = 0  # newest input frames that no output has been made for
    for x, last in stream:
        parts = [x] if raw is None else [raw, x]
        waiting += x.shape[2]
        del x
        buffer = block.conv1.fill(parts, front1, after * last, activate=True, modulation=modulation1)
        front1, raw = 0, None if last else _last_two(parts)
        if buffer.shape[2] < 3:
            continue
        hidden = block.conv1(buffer)
        del buffer
        noise1 = block.noise(1, hidden, generator) if noise1 is None else noise1
        if noise1 is not None:
            hidden += noise1
        buffer = block.conv2.fill([hidden], front2, after * last, ready=ready, activate=True, modulation=modulation2)
        del hidden
        front2, ready = 0, None if last else block.conv2.inside(buffer)[:, :, -2:].clone()
        if buffer.shape[2] < 3:
            continue
        out = block.conv2(buffer)
        del buffer
        noise2 = block.noise(2, out, generator) if noise2 is None else noise2
        if noise2 is not None:
            out += noise2
        _add_frames(out, parts, waiting)
        waiting -= out.shape[2]
        del parts
        out = [out]
        yield out.pop(), last


def _last_two(parts: list[Tensor]) -> Tensor:
    """A copy of the last two frames, so that no larger tensor stays alive for them; a lone first frame counts twice."""
    x = parts[-1]
    if x.shape[2] >= 2:
        return x[:, :, -2:].clone()
    return torch.cat([x if len(parts) == 1 else parts[0][:, :, -1:], x], 2)


def _add_frames(out: Tensor, parts: list[Tensor], waiting: int) -> None:
    """Add to ``out`` the first of the last ``waiting`` frames of ``parts``, in place."""
    at = waiting - sum(part.shape[2] for part in parts)  # where in out the parts begin
    for part in parts:
        start, stop = max(at, 0), min(at + part.shape[2], out.shape[2])
        if start < stop:
            out[:, :, start:stop] += part[:, :, start - at : stop - at]
        at += part.shape[2]


def _upsample(block: VideoUpsample, stream: Stream, causal: bool) -> Stream:
    before, after = edge_frames(causal)
    front, held, drop = before, None, int(block.stride[0] == 2)
    for x, last in stream:
        buffer = block.conv.fill([x], front, after * last, ready=held)
        del x
        frames = block.conv.inside(buffer)
        front, held = 0, None if last else frames[:, :, -2:].clone()
        count = frames.shape[2] - 2
        if count < 1:
            continue
        out = [block.expand(block.conv(buffer), frames[:, :, before : before + count])[:, :, drop:]]
        drop = 0
        del buffer, frames
        yield out.pop(), last


def _downsample(block: VideoDownsample, stream: Stream) -> Stream:
    stride = block.stride[0]
    front, held, left = 2, None, None  # left: a frame whose pair has not come yet
    for x, last in stream:
        if left is None and front:
            left = x[:, :, :1] if stride == 2 else x[:, :, :0]
        if left is not None and left.shape[2]:
            x = torch.cat([left, x], 2)
        whole = x.shape[2] - x.shape[2] % stride
        left = x[:, :, whole:].clone()
        if not whole:
            continue
        x = x[:, :, :whole]
        buffer = block.conv.fill([x], front, 0, ready=held)
        front, held = 0, block.conv.inside(buffer)[:, :, -2:].clone()
        out = space_to_depth(block.conv(buffer), block.stride)
        del buffer
        handed = [out.add_(block.skip(x))]
        del x, out
        yield handed.pop(), last
