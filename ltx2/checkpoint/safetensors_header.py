"""The header of a safetensors file, checked in full before anything is made from it."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import CheckpointError
from .quantization.foreign import INSTEAD
from .recognition.file_kinds import kind_of
from .weight_file import HEADER_LIMIT_BYTES, NAME_LIMIT, WeightFile, is_name, shown, unfinished

METADATA_LIMIT_BYTES = 1_000_000
# Far above any real entry. It keeps a header full of something else from being taken apart at all.
ENTRY_LIMIT_BYTES = 4_000
DIMENSIONS_LIMIT = 16
_INT64_MAX = 2**63 - 1
_LABEL = "\0"  # in a message, where the tensor is to be named: a header has thousands of them

# Names of the format → torch. Some are missing from older torch.
_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
# Names that newer writers of the format use, for numbers that torch has no type for, or has it packed.
_UNREAD = ("F4", "F6_E2M3", "F6_E3M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I4", "U4", "C128")
DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, known) for name, known in _NAMES.items() if hasattr(torch, known)
}


@dataclass(frozen=True)
class Entry:
    """One tensor: dtype as torch's and as the format's name, shape, and where its bytes lie in the file."""

    dtype: torch.dtype
    stored: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_header(file: WeightFile, first: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """Tensors and metadata of a file whose first bytes are ``first``. Raises CheckpointError for whatever is not as it
    has to be."""
    fail = _failing(file)
    other = kind_of(first, file.size)
    if other:
        what, fix = other
        raise CheckpointError(f"{file.path} is {what}, expected a safetensors file: {fix}")
    if file.size < 8:
        raise fail(f"is {file.size} bytes long, expected at least 8")
    if len(first) > 8 and not any(first):
        raise CheckpointError(
            f"{file.path} begins with zeros where its header stands: its download is not finished, go on with it or "
            "get the file again"
        )
    length = int.from_bytes(first[:8], "little")
    if length > HEADER_LIMIT_BYTES:
        raise fail(f"gives its header {length} bytes, expected at most {HEADER_LIMIT_BYTES}")
    if 8 + length > file.size:
        if first[8:10] == b'{"':
            raise unfinished(file, 8 + length, "for its header alone")
        raise fail(f"gives its header {length} bytes, but only {file.size - 8} follow")
    if first[8:9] != b"{" or length < 2:
        raise fail(f"has a header that starts with {first[8:9]!r}, expected {{")
    raw = bytes(file.read(8, length).numpy())
    if length > 2 * METADATA_LIMIT_BYTES + ENTRY_LIMIT_BYTES * raw.count(b'"data_offsets"'):
        raise fail(f"has a header of {length} bytes for {raw.count(b'data_offsets')} tensors, which is too much")
    header = _parse(raw, fail)
    metadata = _metadata(header.pop("__metadata__", {}), fail)
    entries = {name: _entry(file.path, name, value, 8 + length, fail) for name, value in header.items()}
    _check_ranges(entries, 8 + length, file, fail)
    return entries, metadata


def _failing(file: WeightFile):
    def fail(what: str) -> CheckpointError:
        return CheckpointError(f"{file.path} {what}: the file is damaged or not a safetensors file, download it again")

    return fail


def _parse(raw: bytes, fail) -> dict:
    def without_duplicates(pairs):
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise fail(f"names {shown(twice)} twice in its header")
        return found

    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail(f"has a header that is not UTF-8 (byte {error.start})") from error
    try:
        header = json.loads(text, object_pairs_hook=without_duplicates)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        reason = (
            f"position {error.pos}"
            if isinstance(error, json.JSONDecodeError)
            else "nested too deep or a number too long"
        )
        raise fail(f"has a header that is not JSON ({reason})") from error
    if not isinstance(header, dict):
        raise fail("has a header that is not a JSON object")
    return header


def _metadata(found, fail) -> dict[str, str]:
    if not isinstance(found, dict):
        raise fail(f"has metadata of kind {type(found).__name__}, expected an object of strings")
    wrong = next((key for key, value in found.items() if not isinstance(value, str)), None)
    if wrong is not None:
        raise fail(f"has metadata {shown(wrong)} of kind {type(found[wrong]).__name__}, expected a string")
    size = sum(len(key) + len(value) for key, value in found.items())
    if size > METADATA_LIMIT_BYTES:
        raise fail(f"has {size} characters of metadata, expected at most {METADATA_LIMIT_BYTES}")
    return found


def _entry(path: Path, name: str, value, start: int, fail) -> Entry:
    def fails(what: str) -> CheckpointError:
        return fail(what.replace(_LABEL, f"tensor {shown(name)}", 1))

    if not is_name(name):
        raise fails(
            f"has {_LABEL} under a name of {len(name)} characters, expected at most {NAME_LIMIT} that can be shown"
        )
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        keys = ", ".join(sorted(map(shown, value))[:5]) if isinstance(value, dict) else type(value).__name__
        raise fails(f"describes {_LABEL} by {keys or 'nothing'}, expected dtype, shape and data_offsets")
    stored, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if isinstance(stored, str) and (stored in _UNREAD or stored in _NAMES) and stored not in DTYPES:
        instead = INSTEAD if stored in _UNREAD else "update PyTorch"
        raise CheckpointError(f"{path} has tensor {shown(name)} of dtype {stored}, which is not read here: {instead}")
    if not isinstance(stored, str) or stored not in DTYPES:
        raise fails(
            f"has {_LABEL} of dtype {shown(stored)}, expected one of the format's, such as F32, BF16 or F8_E4M3"
        )
    if not _whole_numbers(shape) or len(shape) > DIMENSIONS_LIMIT:
        raise fails(
            f"has {_LABEL} of shape {shown(shape)}, expected a list of at most {DIMENSIONS_LIMIT} whole numbers "
            "from 0 on"
        )
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise fails(f"has {_LABEL} at {shown(offsets)}, expected a start and an end from 0 on")
    begin, end = offsets
    dtype, expected = DTYPES[stored], DTYPES[stored].itemsize
    for extent in shape:
        expected *= extent
        if expected > _INT64_MAX:
            raise fails(f"has {_LABEL} of shape {shown(shape)}, which is larger than any file")
    if expected != end - begin:
        raise fails(f"has {_LABEL} of {stored} {shown(shape)} in {end - begin} bytes, expected {expected}")
    return Entry(dtype, stored, tuple(shape), start + begin, end - begin)


def _whole_numbers(value) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= _INT64_MAX for number in value)


def _check_ranges(entries: dict[str, Entry], start: int, file: WeightFile, fail) -> None:
    """The tensors have to fill the rest of the file, one after the other."""
    at, before = start, None
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if entry.offset < at:
            raise fail(f"has tensor {shown(name)} over bytes of {shown(before)}")
        if entry.offset > at:
            raise fail(f"has {entry.offset - at} bytes of no tensor before tensor {shown(name)}")
        at, before = entry.offset + entry.nbytes, name
    if at > file.size:
        raise unfinished(file, at, "by its header")
    if at != file.size:
        raise fail(f"has {file.size - at} bytes after its last tensor, expected none")
