"""The rotation of "convrot" files, which spreads outliers before quantisation. Checked against comfy-kitchen."""

import torch

from ...errors import CheckpointError
from .stored import StoredWeight

_H4 = ((1.0, 1.0, 1.0, -1.0), (1.0, 1.0, -1.0, 1.0), (1.0, -1.0, 1.0, 1.0), (-1.0, 1.0, 1.0, 1.0))


def is_group_size(size: int) -> bool:
    """Whether there is such a rotation: groups are powers of four."""
    return size >= 4 and size & (size - 1) == 0 and size.bit_length() % 2 == 1


def rotated_group(weight: StoredWeight, columns: int) -> int:
    """Columns of a rotation as a layer's description says. Raises CheckpointError for a size that there is not."""
    size = weight.option("convrot_groupsize", 256)
    if type(size) is not int or not is_group_size(size) or columns % size:
        raise weight.refuse(
            f"rotated groups of {str(size)[:20]} in {columns} columns", "a power of four that divides them"
        )
    return size


def rotation(size: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Orthonormal, symmetric matrix [size, size] float32: a Kronecker power of a 4 × 4 Hadamard matrix."""
    if not is_group_size(size):
        raise CheckpointError(f"a rotation of groups of {size} was asked for, expected a power of four")
    base = torch.tensor(_H4, device=device) / 2
    out = base
    while len(out) < size:
        out = torch.kron(out, base)
    return out


def rotate_rows(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Rotate each group of a row: rows [n, in] → [n, in]. The rotation undoes itself."""
    return (rows.unflatten(1, (-1, len(matrix))) @ matrix).flatten(1)
