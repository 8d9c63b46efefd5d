"""A PNG card: a picture a person can look at and send, with a state inside a private chunk after the image data.

The chunk is ``ltXs``: four bytes ``LTXS``, a big-endian format version, then the state as a safetensors file. The
names' letter case
says: may be ignored, private, safe to copy. Texts such as ``workflow`` are ordinary text chunks.
"""

import struct
import zlib

import numpy as np
import torch

from ...errors import ContinuationError
from ..format import AGAIN
from ..frame_files import PNG_SIGNATURE, png_chunk, png_chunks
from ..limits import DEFAULT_LIMITS, StateLimits

CHUNK = b"ltXs"
MAGIC = b"LTXS"
VERSION = 1
_MAX_TEXTS = 1000
_PICTURE, _MARGIN = (144, 256), 8  # of a state without frames: rows and columns, and rows left free above and below
_PAPER, _INK = 48, (120, 190, 240)


def write_card(picture: bytes, state: bytes, texts: dict[str, str]) -> bytes:
    """The PNG ``picture`` with the state and the texts in it. Raises ContinuationError for texts a PNG cannot name."""
    if len(state) > 2**31 - 16:
        raise ContinuationError(
            f"the state has {len(state)} bytes, a PNG chunk holds at most 2 GiB: use a folder or a .safetensors file"
        )
    parts: list[bytes | memoryview] = [PNG_SIGNATURE]
    view = memoryview(picture)
    for kind, start, end in png_chunks(picture, "the card's picture"):
        if kind == b"IEND":
            parts += png_chunk(CHUNK, MAGIC, struct.pack(">I", VERSION), state)
        parts.append(view[start - 8 : end + 4])
        if kind == b"IHDR":
            parts += [piece for key, text in sorted(texts.items()) for piece in _text_chunk(key, text)]
    return b"".join(parts)


def sound_levels(latents: torch.Tensor | None) -> np.ndarray:
    """A picture [144, 256, 3] uint8 for a state without frames: how much each moment of its sound differs from the
    quietest one, as a waveform around the middle; plain where there is no sound."""
    picture = np.full((*_PICTURE, 3), _PAPER, np.uint8)
    if latents is None or not latents.numel():
        return picture
    moments = latents[0].detach().float().cpu().movedim(1, 0).flatten(1).square().mean(1).sqrt().nan_to_num(0)  # [T]
    levels = (moments - moments.min()) / (moments.max() - moments.min()).clamp_min(1e-6)
    rows, columns = _PICTURE
    middle = (rows - 1) / 2
    for column in range(columns):
        level = float(levels[column * len(levels) // columns])
        reach = 1 + level * (middle - _MARGIN)
        picture[round(middle - reach) : round(middle + reach) + 1, column] = _INK
    return picture


def read_card(data: bytes, path: str, limits: StateLimits = DEFAULT_LIMITS) -> tuple[memoryview, dict[str, str]]:
    """The state's safetensors file and the texts of a card. Raises ContinuationError when there is none or it is
    damaged."""
    if data[:8] != PNG_SIGNATURE:
        raise ContinuationError(f"{path} is not a PNG")
    view, state = memoryview(data), None
    for kind, start, end in png_chunks(data, path):
        if kind == CHUNK:
            if state is not None:
                raise ContinuationError(f"{path} carries more than one state, expected one: save it again")
            if zlib.crc32(view[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
                raise ContinuationError(f"{path} carries a damaged state, its checksum is wrong: {AGAIN}")
            if end - start < 8 or view[start : start + 4] != MAGIC:
                raise ContinuationError(f"{path} carries a chunk named like a state that is none: save it again")
            (version,) = struct.unpack_from(">I", data, start + 4)
            if version != VERSION:
                raise ContinuationError(
                    f"{path} carries a state of card version {version}, expected {VERSION}: written by another version"
                )
            state = view[start + 8 : end]
    if state is None:
        raise ContinuationError(
            f"{path} carries no state: use the file as it was saved, previews and edited copies lose it"
        )
    return state, card_texts(data, path, limits)


def card_texts(data: bytes, path: str, limits: StateLimits = DEFAULT_LIMITS) -> dict[str, str]:
    """Uncompressed text chunks of a PNG by keyword. Raises ContinuationError when there are too many or they are too
    long."""
    texts: dict[str, str] = {}
    view, size = memoryview(data), 0
    for kind, start, end in png_chunks(data, path):
        if kind not in (b"tEXt", b"iTXt"):
            continue
        size += end - start
        if len(texts) >= _MAX_TEXTS or size > limits.workflow_bytes:
            raise ContinuationError(f"{path} has more than {_MAX_TEXTS} texts or {limits.workflow_bytes} bytes of them")
        key, _, rest = bytes(view[start:end]).partition(b"\0")
        if kind == b"tEXt":
            texts[key.decode("latin-1")] = rest.decode("latin-1")
        elif rest[:1] == b"\0":  # not compressed; then method, language, translated keyword
            *_, text = rest[2:].split(b"\0", 2)
            texts[key.decode("latin-1")] = text.decode("utf-8", "replace")
    return texts


def _text_chunk(key: str, text: str) -> tuple[bytes, ...]:
    if not 1 <= len(key) <= 79 or not key.isascii() or not key.isprintable():
        raise ContinuationError(f"a text of a card is named {key[:90]!r}, expected 1 to 79 ASCII characters")
    if text.isascii() and "\0" not in text:
        return png_chunk(b"tEXt", key.encode(), b"\0", text.encode())
    return png_chunk(b"iTXt", key.encode(), b"\0\0\0\0\0", text.replace("\0", "").encode("utf-8"))
