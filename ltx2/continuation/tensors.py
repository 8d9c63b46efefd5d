"""Tensors as safetensors files with bytes that depend on the content alone, and a bounded reader."""

import json
import struct
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from ..errors import ContinuationError, is_out_of_memory
from .format import AGAIN
from .strict_json import check_values, shown

HEADER_BYTES = 2**25  # enough for the workflow texts of an attachment; the format itself allows 100 MB
METADATA = "__metadata__"
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file with the tensors in the given order.

    Written here and not by the library because that shuffles the metadata: the same state must give the same bytes.
    Raises ContinuationError for a dtype the format does not know.
    """
    header: dict = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    parts, at = [], 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise ContinuationError(f"tensor {name} is {tensor.dtype}, which a safetensors file cannot hold")
        tensor = tensor.detach().to("cpu").contiguous()
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().data if size else b"")
        at += size
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return b"".join((struct.pack("<Q", len(text)), text, *parts))


def tensor_metadata(data: Any, path: str) -> dict[str, str]:
    """The metadata texts of a safetensors file, after checking its header. Raises ContinuationError."""
    return _header(data, path).get(METADATA, {})


def read_tensors(data: Any, path: str) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file held in memory. Raises ContinuationError naming ``path`` for any damage."""
    for name, entry in _header(data, path).items():
        if name != METADATA and (not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES.values()):
            found = entry.get("dtype") if isinstance(entry, dict) else entry
            raise ContinuationError(
                f"{path} is a damaged safetensors file, tensor {shown(name)} has the type {shown(found)}: {AGAIN}"
            )
    try:
        return safetensors.torch.load(bytes(data))
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        if is_out_of_memory(error):
            raise
        raise ContinuationError(f"{path} is a damaged safetensors file ({error}): {AGAIN}") from error


def _header(data, path: str) -> dict:
    if len(data) < 10:
        raise ContinuationError(
            f"{path} is not a safetensors file, it has {len(data)} bytes, expected at least 10: {AGAIN}"
        )
    (length,) = struct.unpack_from("<Q", data)
    if length > min(HEADER_BYTES, len(data) - 8):
        raise ContinuationError(
            f"{path} is cut off or not a safetensors file, it states a header of {length} bytes in a file of "
            f"{len(data)}: {AGAIN}"
        )
    text = bytes(data[8 : 8 + length])
    if not text.startswith(b"{"):
        raise ContinuationError(
            f"{path} is not a safetensors file, its header starts with {text[:8]!r}, expected '{{': {AGAIN}"
        )
    try:
        written = text.decode("utf-8")
        check_values(written, f"the header of {path}")
        header = json.loads(written, object_pairs_hook=_unique)
    except ContinuationError:
        raise
    except (ValueError, RecursionError) as error:
        raise ContinuationError(f"{path} has a damaged safetensors header ({error}): {AGAIN}") from error
    if not isinstance(header, dict):
        raise ContinuationError(f"{path} has a damaged safetensors header, a JSON {type(header).__name__}: {AGAIN}")
    metadata = header.get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ContinuationError(f"{path} has safetensors metadata that is not text, expected text under every key")
    return header


def _unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def as_tensor(value: Any, path: str) -> torch.Tensor:
    """A torch tensor on the CPU from a tensor or numpy array. Raises TypeError for anything else."""
    if isinstance(value, np.ndarray):
        try:
            # a copy of its own, in the machine's byte order
            return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{path} is an array of {value.dtype}, expected numbers [B, C, T, F]") from error
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{path} is a {type(value).__name__}, expected a tensor or an array [B, C, T, F]")
    if value.layout != torch.strided or value.device.type == "meta":
        raise TypeError(f"{path} is a tensor without plain content, expected a dense one [B, C, T, F]")
    return value.detach().to("cpu")


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    if not tensor.is_floating_point():
        return True
    # float8 has no isfinite of its own
    return bool(torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all())
