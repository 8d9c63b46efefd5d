"""Weight files as mappings of lazy tensors: safetensors and GGUF, one or several at a time.

Nothing but the header is read until a tensor is loaded. Quantised weights appear under the name and with the shape of
the weight that they stand for; see :mod:`.quantized`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..errors import CheckpointError
from .gguf import read_gguf
from .lazy_tensor import LazyTensor
from .quantization.detection import fold_quantized
from .quantization.packed import QuantizedTensor
from .safetensors_header import read_header
from .weight_file import open_weight_file


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """What one file holds."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, LazyTensor | QuantizedTensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One or several files read as one.

    Where two files hold a tensor or a metadata key of the same name, the first file named counts; ``files`` keeps them
    apart.
    """

    files: tuple[CheckpointFile, ...]
    paths: tuple[Path, ...]
    metadata: Mapping[str, str]
    tensors: Mapping[str, LazyTensor | QuantizedTensor]

    def __str__(self) -> str:
        first, *others = (path.name for path in self.paths)
        return f"{first} (and {len(others)} more)" if others else first


def open_checkpoint(*paths: str | os.PathLike | Sequence[str | os.PathLike]) -> Checkpoint:
    """Open weight files, checking all headers. Raises CheckpointError naming the file, what was found and what to
    do."""
    names = [name for path in paths for name in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    if not names:
        raise CheckpointError(
            "no checkpoint file was named, expected at least one: choose a .safetensors or .gguf file"
        )
    files = tuple(_open(name) for name in names)
    metadata: dict[str, str] = {}
    tensors: dict[str, LazyTensor | QuantizedTensor] = {}
    for file in reversed(files):
        metadata |= file.metadata
        tensors |= file.tensors
    paths = tuple(file.path for file in files)
    return Checkpoint(files, paths, MappingProxyType(metadata), MappingProxyType(tensors))


def _open(path: str | os.PathLike) -> CheckpointFile:
    file, first = open_weight_file(path)
    if first.startswith(b"GGUF") and file.path.suffix.lower() != ".safetensors":
        tensors, metadata = read_gguf(file)
        return CheckpointFile(file.path, MappingProxyType(metadata), MappingProxyType(tensors))
    entries, metadata = read_header(file, first)
    tensors = {
        name: LazyTensor(name, entry.dtype, entry.shape, file, entry.offset, entry.nbytes, entry.stored)
        for name, entry in entries.items()
    }
    return CheckpointFile(
        file.path, MappingProxyType(metadata), MappingProxyType(fold_quantized(tensors, metadata, file.path))
    )
