"""Frames of a state as PNG files, and several of them packed into one blob."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..atomic_files import reason
from ..errors import ContinuationError
from .format import AGAIN
from .limits import DEFAULT_LIMITS, StateLimits

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A frame has a handful of chunks besides its image data; thousands are an attack on the reader.
_MAX_SIDE_CHUNKS = 64
_MAX_CHUNKS = 2**17  # of one file, a card of 2 GiB included
_NEEDED_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_MAX_DEFLATE = 1032  # bytes that one compressed byte can stand for
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# A progressive JPEG goes over the whole picture once a scan; encoders write about ten.
_MAX_JPEG_SCANS = 32
_FILTER_UP = 2
_COLOUR_TYPES = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGBA"}
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def encode_png(frame: np.ndarray) -> bytes:
    """Lossless 8-bit RGB PNG of a uint8 [H, W, 3] array; the same pixels always give the same bytes.

    Every row is stored as its difference to the row above, compressed by run lengths: on decoded video frames this is
    about fifteen times faster than the image library's default, no larger, and quicker to read.
    """
    height, width, _ = frame.shape
    pixels = frame.reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    image = packer.compress(rows.data) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join((PNG_SIGNATURE, *png_chunk(b"IHDR", header), *png_chunk(b"IDAT", image), *png_chunk(b"IEND", b"")))


def png_chunk(kind: bytes, *parts: bytes) -> tuple[bytes, ...]:
    """The pieces of one chunk: length, kind, content, checksum."""
    check = zlib.crc32(kind)
    for part in parts:
        check = zlib.crc32(part, check)
    return struct.pack(">I", sum(map(len, parts))), kind, *parts, struct.pack(">I", check)


def check_frame(frame: Any, path: str) -> np.ndarray:
    """The frame as an array, after checking it is uint8 [H, W, 3]. Raises TypeError for a non-array, else
    ContinuationError."""
    if isinstance(frame, Image.Image):
        frame = np.asarray(frame.convert("RGB"))
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"{path} is a {type(frame).__name__}, expected a uint8 array [H, W, 3]")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ContinuationError(f"{path} is {frame.dtype} {list(frame.shape)}, expected uint8 [H, W, 3] (uint8 HxWx3)")
    return frame


def check_frame_size(width: int, height: int, path: str, limits: StateLimits = DEFAULT_LIMITS) -> None:
    """Raises ContinuationError for an empty picture or one over the limits."""
    if width < 1 or height < 1 or max(width, height) > limits.frame_side or width * height > limits.frame_pixels:
        most = f"{limits.frame_side} a side and {limits.frame_pixels} in all"
        raise ContinuationError(f"{path} is {width}x{height} px, expected 1 to {most}")


def png_chunks(data: Any, path: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of each chunk's content, checking that the chunks fill the file and end with IEND."""
    at, kind = len(PNG_SIGNATURE), b""
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            raise ContinuationError(f"{path} is a truncated PNG, it has no end chunk: {AGAIN}")
        (length,) = struct.unpack_from(">I", data, at)
        kind = bytes(data[at + 4 : at + 8])
        if length > len(data) - at - 12:
            raise ContinuationError(
                f"{path} is a truncated PNG, a chunk of {length} bytes starts at byte {at} of {len(data)}: {AGAIN}"
            )
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND":
            return
        at += 12 + length
    raise ContinuationError(f"{path} is a PNG of more than {_MAX_CHUNKS} chunks, expected a picture")


@dataclass(frozen=True)
class _Png:
    """A checked PNG: its size, a note about the conversion that decoding will do (empty for plain RGB), and the file
    with nothing but its picture."""

    width: int
    height: int
    note: str
    data: bytes | memoryview


def _checked_png(data: bytes | memoryview, path: str, limits: StateLimits) -> _Png:
    chunks, side_chunks, packed, view = [], 0, 0, memoryview(data)
    for position, (kind, start, end) in enumerate(png_chunks(data, path)):
        if position == 0:
            if kind != b"IHDR" or end - start != 13:
                raise ContinuationError(f"{path} is a damaged PNG, it does not start with its header: {AGAIN}")
            width, height, bits, colour = struct.unpack_from(">IIBB", data, start)
            check_frame_size(width, height, path, limits)
            if bits > 8 or colour not in _COLOUR_TYPES:
                raise ContinuationError(f"{path} is a PNG of {bits} bits and colour type {colour}, expected 8-bit RGB")
        elif kind == b"acTL":
            raise ContinuationError(f"{path} is an animated PNG, expected a single picture")
        elif kind == b"IDAT":
            packed += end - start
        else:
            side_chunks += 1
            if side_chunks > _MAX_SIDE_CHUNKS:
                raise ContinuationError(
                    f"{path} is a PNG with more than {_MAX_SIDE_CHUNKS} side chunks, expected a plain frame"
                )
        if kind in _NEEDED_CHUNKS:
            chunks.append(view[start - 8 : end + 4])
    # told before any pixel has a place in memory
    if packed * _MAX_DEFLATE < height * ((width * bits * _CHANNELS[colour] + 7) // 8):
        raise ContinuationError(
            f"{path} is a damaged PNG, {packed} bytes of image data cannot hold {width}x{height} px: {AGAIN}"
        )
    note = "" if colour == 2 else f"a {_COLOUR_TYPES[colour]} PNG, converted to RGB"
    # texts and colour profiles may be small and unpack to much
    return _Png(width, height, note, b"".join((PNG_SIGNATURE, *chunks)) if side_chunks > 1 else data)


def decode_frame(
    data: bytes | memoryview, path: str, limits: StateLimits = DEFAULT_LIMITS, *, left: int | None = None
) -> tuple[np.ndarray, str]:
    """Decode one frame to a read-only uint8 [H, W, 3], and a note when it was not an 8-bit RGB PNG.

    JPEG and WebP are read with a note (they are lossy); other formats, animations and 16-bit PNG are refused. Sizes are
    checked before any pixel is decoded; left: pixels that the frames before it leave of the total. Raises
    ContinuationError naming ``path``.
    """
    if data[:8] == PNG_SIGNATURE:
        kind, png = "PNG", _checked_png(data, path, limits)
        data, note = png.data, png.note
    elif data[:3] == b"\xff\xd8\xff":
        kind, note = "JPEG", "a JPEG, which is lossy"
        if bytes(data).count(b"\xff\xda") > _MAX_JPEG_SCANS:
            raise ContinuationError(f"{path} is a JPEG of more than {_MAX_JPEG_SCANS} scans, expected an 8-bit RGB PNG")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind, note = "WEBP", "a WebP, which may be lossy"
    else:
        raise ContinuationError(
            f"{path} is not a PNG (it starts with {bytes(data[:8]).hex() or 'nothing'}), expected an 8-bit RGB PNG"
        )
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_opened(image, kind, path, limits, left)
            if note and "transparency" in image.info or image.mode in ("RGBA", "LA"):
                alpha = image.convert("RGBA").getchannel("A").getextrema()[0]
                if alpha < 255:
                    note += ", its transparency was dropped"
            frame = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except ContinuationError:
        raise
    except _BROKEN as error:
        raise ContinuationError(f"{path} is a damaged {kind} ({reason(error)}): {AGAIN}") from error
    frame.flags.writeable = False
    return frame, note


def _check_opened(image: Image.Image, kind: str, path: str, limits: StateLimits, left: int | None) -> None:
    """What an opened picture says of itself, before its pixels are decoded."""
    width, height = image.size
    check_frame_size(width, height, path, limits)
    if left is not None and width * height > left:
        raise ContinuationError(
            f"{path}: {limits.total_pixels - left + width * height} px in the frames so far, expected at most "
            f"{limits.total_pixels} in all"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise ContinuationError(f"{path} is an animated {kind}, expected a single picture")


# --- several frames in one blob: count, then length and PNG for each, unsigned 32-bit big-endian ----------------------


def pack_frames(pngs: list[bytes]) -> bytes:
    """PNG files as one blob: how many, then each with its length in front."""
    parts = [struct.pack(">I", len(pngs))]
    for png in pngs:
        parts += (struct.pack(">I", len(png)), png)
    return b"".join(parts)


def unpack_frames(data: bytes, path: str, limits: StateLimits = DEFAULT_LIMITS) -> tuple[list[memoryview], int]:
    """The PNG files of a packed blob, as views, and how many bytes follow the last one. Raises ContinuationError."""
    if len(data) < 4:
        raise ContinuationError(f"{path} is a frame blob of {len(data)} bytes, expected at least 4")
    view = memoryview(data)
    (count,) = struct.unpack_from(">I", view)
    if count > (len(view) - 4) // 4:
        raise ContinuationError(f"{path} is a frame blob that states {count} frames but has only {len(view)} bytes")
    if count > limits.frames:
        raise ContinuationError(f"{path} holds {count} frames, expected at most {limits.frames}")
    at, frames = 4, []
    for index in range(count):
        if at + 4 > len(view):
            raise ContinuationError(f"{path} ends before frame {index} of {count}")
        (length,) = struct.unpack_from(">I", view, at)
        at += 4
        if length > len(view) - at:
            raise ContinuationError(f"{path}: frame {index} states {length} bytes but {len(view) - at} are left")
        frames.append(view[at : at + length])
        at += length
    return frames, len(view) - at
