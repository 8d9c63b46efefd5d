"""GGUF files: the header, read with bounds, and the tensors under their official names."""

import math
import struct

import torch

from ..errors import CheckpointError
from .lazy_tensor import LazyTensor
from .quantization.gguf_blocks import BLOCK_TYPES, UNREAD_TYPES, Gguf
from .quantization.packed import QuantizedTensor
from .weight_file import HEADER_LIMIT_BYTES, NAME_LIMIT, WeightFile, is_name, shown, unfinished

COUNT_LIMIT = 100_000
NAME_LIMIT_BYTES = 512
DIMENSIONS_LIMIT = 4
NESTING_LIMIT = 2
LARGEST_FILE_BYTES = 1 << 48
KEPT_STRING_BYTES = 65_536
KEPT_ITEMS = 16

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."


class _Cursor:
    """Walks the header; every length is compared with what is left before anything is made of that length."""

    def __init__(self, file: WeightFile):
        self.path = file.path
        self.data = file.view(0, min(file.size, HEADER_LIMIT_BYTES)).numpy().data
        self.at = 0

    def fail(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} {what}: the file is damaged or not a GGUF file, download it again")

    def take(self, nbytes: int) -> memoryview:
        if nbytes > len(self.data) - self.at:
            raise self.fail(f"ends inside its header (at byte {self.at}, which asks for {nbytes} more)")
        self.at += nbytes
        return self.data[self.at - nbytes : self.at]

    def number(self, code: str):
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))
        return value

    def count(self, code: str, what: str, limit: int) -> int:
        value = self.number(code)
        if value > limit:
            raise self.fail(f"has {value} {what}, expected at most {limit}")
        return value

    def text(self, limit: int, what: str) -> str:
        """A string that has to be short."""
        raw = bytes(self.take(self.count("Q", f"bytes of {what}", limit)))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"has a {what} that is not UTF-8") from error

    def value(self, kind: int, depth: int = 0):
        """A metadata value; long strings and long arrays are stepped over and come back as None."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            raw = self.take(self.number("Q"))
            return bytes(raw).decode("utf-8", "replace") if len(raw) <= KEPT_STRING_BYTES else None
        if kind != _ARRAY or depth >= NESTING_LIMIT:
            raise self.fail(f"has a metadata value of type {kind} at depth {depth}, expected types 0 to 12")
        item, length = self.number("I"), self.number("Q")
        if item in _SCALARS and length > KEPT_ITEMS:
            self.take(length * struct.calcsize(f"<{_SCALARS[item]}"))
            return None
        if length > len(self.data) - self.at:
            raise self.fail(f"has a list of {length} metadata values in {len(self.data) - self.at} bytes")
        values = (self.value(item, depth + 1) for _ in range(length))
        if length <= KEPT_ITEMS:
            return list(values)
        for _ in values:  # strings of a vocabulary
            pass
        return None


def read_gguf(file: WeightFile) -> tuple[dict[str, LazyTensor | QuantizedTensor], dict[str, str]]:
    """Tensors and metadata (values as strings) of a GGUF file. Raises CheckpointError for whatever is not as it has to
    be."""
    cursor = _Cursor(file)
    cursor.take(4)
    version = cursor.number("I")
    if version not in (2, 3):
        raise cursor.fail(f"is GGUF version {version}, expected 2 or 3")
    tensor_count = cursor.count("Q", "tensors", COUNT_LIMIT)
    value_count = cursor.count("Q", "metadata values", COUNT_LIMIT)
    values = {}
    for _ in range(value_count):
        key = cursor.text(NAME_LIMIT_BYTES, "metadata key")
        values[key] = cursor.value(cursor.number("I"))
    found = [_tensor_info(cursor) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise cursor.fail(f"has general.alignment {shown(alignment)}, expected a power of two")
    start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, LazyTensor | QuantizedTensor] = {}
    for name, shape, kind, offset in found:
        if name in tensors:
            raise cursor.fail(f"names {name} twice in its header")
        tensors[name] = _tensor(cursor, file, name, shape, kind, start + offset, values.get(_ORIGINAL_SHAPE + name))
    _check_ranges(cursor, file, tensors)
    metadata = {
        key: str(value) for key, value in values.items() if value is not None and not key.startswith(_ORIGINAL_SHAPE)
    }
    return tensors, metadata


def _tensor_info(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.text(NAME_LIMIT_BYTES, "tensor name")
    if not is_name(name):
        raise cursor.fail(
            f"has a tensor named {shown(name)}, expected at most {NAME_LIMIT} characters that can be shown"
        )
    dimensions = cursor.count("I", f"dimensions of {name}", DIMENSIONS_LIMIT)
    shape = tuple(reversed([cursor.number("Q") for _ in range(dimensions)]))  # stored from the innermost out
    return name, shape, cursor.number("I"), cursor.number("Q")


def _tensor(cursor, file, name, shape, kind, offset, original) -> LazyTensor | QuantizedTensor:
    block = BLOCK_TYPES.get(kind)
    if block is None:
        known = ", ".join(block.name for block in BLOCK_TYPES.values())
        raise CheckpointError(
            f"{file.path} stores {name} as GGUF type {UNREAD_TYPES.get(kind, kind)}, expected one of {known}: choose "
            "another quantisation"
        )
    weights = math.prod(shape)
    if not weights:
        raise cursor.fail(f"has tensor {name} of shape {list(shape)}, expected sizes from 1 on")
    if weights > 2**62 or (shape[-1] if shape else 1) % block.block_weights:
        raise cursor.fail(
            f"has tensor {name} of shape {list(shape)}, which is not made of {block.name} blocks of "
            f"{block.block_weights}"
        )
    nbytes = weights // block.block_weights * block.block_bytes
    if offset + nbytes > LARGEST_FILE_BYTES:
        raise cursor.fail(f"has tensor {name} end at byte {offset + nbytes}, but is {file.size} bytes long")
    if original is not None:
        if (
            not isinstance(original, list)
            or any(type(n) is not int or n < 0 for n in original)
            or math.prod(original) != weights
        ):
            raise cursor.fail(
                f"gives tensor {name} the original shape {shown(original)}, which does not hold its {weights} weights"
            )
        shape = tuple(original)
    if block.dtype is not None:
        return LazyTensor(name, block.dtype, shape, file, offset, nbytes, block.name)
    data = LazyTensor(name, torch.uint8, (nbytes,), file, offset, nbytes, block.name)
    return QuantizedTensor(name, shape, Gguf(block), {"weight": data})


def _check_ranges(cursor: _Cursor, file: WeightFile, tensors) -> None:
    at, before = 0, None
    parts = [t.parts["weight"] if isinstance(t, QuantizedTensor) else t for t in tensors.values()]
    for part in sorted(parts, key=lambda t: (t.offset, t.nbytes)):
        if part.offset < at:
            raise cursor.fail(f"has tensor {part.name} over bytes of {before}")
        at, before = part.offset + part.nbytes, part.name
    if at > file.size:
        raise unfinished(file, at, "by its header")
