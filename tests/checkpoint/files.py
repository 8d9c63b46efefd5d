"""Weight files made by hand, whole and broken."""

import json
import struct
from pathlib import Path

import torch

from ltx2.checkpoint.safetensors_header import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}


def header_bytes(header, start: bytes = b"") -> bytes:
    """The first part of a safetensors file: length and header, given as JSON text, bytes or an object."""
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(start + raw)) + start + raw


def one(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def write(path: Path, header, data: bytes = b"\0" * 8, **more) -> Path:
    path.write_bytes(header_bytes(header, **more) + data)
    return path


def save(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    """A sound safetensors file."""
    header: dict = {"__metadata__": metadata} if metadata else {}
    chunks, at = [], 0
    for name, tensor in tensors.items():
        data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = one(NAMES[tensor.dtype], tensor.shape, (at, at + len(data)))
        chunks.append(data)
        at += len(data)
    text = json.dumps(header)
    # renamed into place: an earlier file of that name may be mapped, and overwriting it would pull its memory away
    return write(path.with_suffix(".partial"), text + " " * (-len(text) % 8), b"".join(chunks)).replace(path)
