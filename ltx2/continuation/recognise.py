"""Whether a file or folder holds a state, from its first bytes and without reading what is in it: for lists of many
files. What is damaged further inside is found when it is loaded."""

import json
import os
import struct
from pathlib import Path

from .format import LTX2_CONTINUATION_KIND
from .forms.card import CHUNK
from .forms.folder import STATE_FILE
from .forms.parts import KIND, PAYLOAD
from .frame_files import PNG_SIGNATURE

STATE_SUFFIXES = (".png", ".safetensors", ".json")
_MAX_CHUNKS = 64
# a card has one; other programs write one for each 8 or 64 KB, and thousands of their pictures may lie beside it
_MAX_IMAGE_CHUNKS = 8
_MAX_HEADER_BYTES = 64 * 2**20
_JSON_BYTES = 4096  # of its start and of its end, where the kind stands


def holds_state(path: str | Path) -> bool:
    """Whether ``path`` is a card, a .safetensors file, a JSON document or a folder of a state; False for what cannot be
    read."""
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    try:
        if os.path.isdir(path):
            return os.path.isfile(os.path.join(path, STATE_FILE))
        if suffix not in STATE_SUFFIXES:
            return False
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return {".png": _is_card, ".safetensors": _is_tensor_file, ".json": _is_document}[suffix](file, size)
    except (OSError, ValueError, RecursionError):
        return False


def _is_card(file, size: int) -> bool:
    """Goes from chunk to chunk; a picture's own data is passed over."""
    if file.read(8) != PNG_SIGNATURE:
        return False
    at, image_chunks = 8, 0
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return False
        if head[4:] == CHUNK:
            return True
        image_chunks += head[4:] == b"IDAT"
        if image_chunks > _MAX_IMAGE_CHUNKS:
            return False
        at += 12 + struct.unpack(">I", head[:4])[0]
        if at >= size:
            return False
    return False


def _is_tensor_file(file, size: int) -> bool:
    head = file.read(8)
    if len(head) < 8:
        return False
    length = struct.unpack("<Q", head)[0]
    if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
        return False
    # metadata comes first in every file that a library writes: most others need no more than this
    start = file.read(min(length, 64))
    if start[:1] != b"{" or b"__metadata__" not in start:
        return False
    metadata = json.loads(start + file.read(length - len(start)))["__metadata__"]
    return KIND in metadata and PAYLOAD in metadata


def _is_document(file, size: int) -> bool:
    start = file.read(_JSON_BYTES)
    file.seek(max(size - _JSON_BYTES, 0))
    kind = f'"{LTX2_CONTINUATION_KIND}"'.encode()
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" and (
        kind in start or kind in file.read(_JSON_BYTES)
    )
