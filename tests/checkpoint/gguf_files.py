"""GGUF files made by hand, whole and broken."""

import struct
from pathlib import Path

ALIGNMENT = 32


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(key: str, kind: int, raw: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + raw


def info(name: str, shape, kind: int, offset: int) -> bytes:
    """A tensor's entry; shape as torch has it."""
    dimensions = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    return text(name) + struct.pack("<I", len(shape)) + dimensions + struct.pack("<IQ", kind, offset)


def header(infos: list[bytes], values: list[bytes] = (), version: int = 3, tensors: int | None = None) -> bytes:
    count = len(infos) if tensors is None else tensors
    return b"GGUF" + struct.pack("<IQQ", version, count, len(values)) + b"".join(values) + b"".join(infos)


def write(
    path: Path, tensors: dict[str, tuple[tuple[int, ...], int, bytes]], values: list[bytes] = (), version: int = 3
) -> Path:
    """A sound file of name → (shape, type number, bytes)."""
    infos, data = [], b""
    for name, (shape, kind, raw) in tensors.items():
        infos.append(info(name, shape, kind, len(data)))
        data += raw + b"\0" * (-len(raw) % ALIGNMENT)
    start = header(infos, values, version)
    path.write_bytes(start + b"\0" * (-len(start) % ALIGNMENT) + data)
    return path
