"""Weight files as mappings of lazy tensors: safetensors and GGUF, one or several at a time.

Nothing but the header is read until a tensor is loaded. Quantised weights appear under the name and with the shape of
the weight that they stand for; see :mod:`.quantized`.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..errors import CheckpointError
from .folders import gguf_names, is_part, part_stem, parts_of
from .folders.diffusers import in_official_names
from .gguf import read_gguf
from .lazy_tensor import LazyTensor
from .quantization.detection import fold_quantized
from .quantization.packed import FileTensor
from .recognition.damage import check_end, places_of
from .recognition.holes import check_sparse
from .safetensors_header import read_header
from .weight_file import WeightFile, held_weight_file, open_weight_file, shown

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "gguf_names",
    "held_checkpoint",
    "open_checkpoint",
    "parts_of",
]


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """What one file holds."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, FileTensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One or several files read as one.

    Where two files hold a tensor or a metadata key of the same name, the first file named counts; ``files`` keeps them
    apart.
    """

    files: tuple[CheckpointFile, ...]
    paths: tuple[Path, ...]
    metadata: Mapping[str, str]
    tensors: Mapping[str, FileTensor]

    def __str__(self) -> str:
        first, *others = (path.name for path in self.paths)
        return f"{first} (and {len(others)} more)" if others else first


def open_checkpoint(*paths: str | os.PathLike | Sequence[str | os.PathLike]) -> Checkpoint:
    """Open weight files, checking all headers. Raises CheckpointError naming the file, what was found and what to
    do."""
    given = [name for path in paths for name in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    names = list(dict.fromkeys(part for name in given for part in parts_of(name)))
    if not names:
        raise CheckpointError(
            "no checkpoint file was named, expected at least one: choose a .safetensors or .gguf file"
        )
    files = tuple(_open(name) for name in names)
    _check_parts(files)
    metadata: dict[str, str] = {}
    tensors: dict[str, FileTensor] = {}
    for file in reversed(files):
        metadata |= file.metadata
        tensors |= file.tensors
    return Checkpoint(files, tuple(file.path for file in files), MappingProxyType(metadata), MappingProxyType(tensors))


def _check_parts(files: Sequence[CheckpointFile]) -> None:
    """Raise CheckpointError where a tensor stands in two parts of one model: one was saved under another's name."""
    seen: dict[tuple[str, str], Path] = {}
    for file in files:
        stem = part_stem(file.path)
        for name in file.tensors if stem else ():
            before = seen.setdefault((stem, name), file.path)
            if before != file.path:
                raise CheckpointError(
                    f"{file.path} holds tensor {shown(name, 70)} as {before.name} does, expected another part of the "
                    "model: get both again"
                )


@contextlib.contextmanager
def held_checkpoint(path: str | os.PathLike) -> Iterator[CheckpointFile]:
    """One file that others may replace or take away meanwhile: read through one handle while the block lasts, so that
    its header and its tensors are of one file. Tensors are loaded in the block and not mapped.

    Raises OSError when it cannot be opened (FileNotFoundError: it is not there, or not any more), CheckpointError when
    it is damaged.
    """
    with held_weight_file(path) as (file, first):
        yield _parsed(file, first)


def _open(path: str | os.PathLike) -> CheckpointFile:
    file, first = open_weight_file(path)
    found = _parsed(file, first)
    places = [
        place for name, tensor in found.tensors.items() for place in places_of(name, tensor) if place[2].file is file
    ]
    check_end(file, places)
    check_sparse(file, places)
    return found


def _parsed(file: WeightFile, first: bytes) -> CheckpointFile:
    if first.startswith(b"GGUF") and file.path.suffix.lower() != ".safetensors":
        tensors, metadata = read_gguf(file)
        _check_part(file.path, metadata)
        return CheckpointFile(file.path, MappingProxyType(metadata), MappingProxyType(tensors))
    entries, metadata = read_header(file, first)
    lazy = {
        name: LazyTensor(name, entry.dtype, entry.shape, file, entry.offset, entry.nbytes, entry.stored)
        for name, entry in entries.items()
    }
    found, metadata = in_official_names(file.path, fold_quantized(lazy, metadata, file.path), metadata)
    return CheckpointFile(file.path, MappingProxyType(metadata), MappingProxyType(found))


def _check_part(path: Path, metadata: Mapping[str, str]) -> None:
    """Raise CheckpointError for a part of a GGUF model under a name by which the others cannot be found."""
    count, number = metadata.get("split.count", "1"), metadata.get("split.no", "0")
    if count.isdecimal() and int(count) > 1 and not is_part(path.name):
        raise CheckpointError(
            f"{path} is part {int(number) + 1 if number.isdecimal() else '?'} of {count} of a model, and its name does "
            f"not say so: give the parts their names back (…-00001-of-{int(count):05}.gguf)"
        )
