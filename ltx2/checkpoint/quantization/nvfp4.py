"""NVFP4: four-bit floats with an eight-bit scale for each 16 of a row. Checked against comfy-kitchen."""

import torch

GROUP = 16  # weights per scale
# E2M1 with its sign in bit 3.
_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


def tiled_size(rows: int, columns: int) -> int:
    """Number of scales in the tiled layout: rows padded to 128, columns to 4."""
    return -(-rows // 128) * 128 * -(-columns // 4) * 4


def untile_scales(scales: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Scales from the tiles of 128 × 4 that cuBLAS wants, flat or not, to [rows, columns] of the same dtype."""
    across = -(-columns // 4)
    tiles = scales.reshape(-1, across, 32, 4, 4)  # [tile rows, tile columns, row % 32, row // 32 % 4, column % 4]
    return tiles.permute(0, 3, 2, 1, 4).reshape(-1, across * 4)[:rows, :columns]


def dequantize_rows(packed: torch.Tensor, scales: torch.Tensor, tensor_scale: torch.Tensor) -> torch.Tensor:
    """Rows packed [n, in / 2] uint8 with scales [n, in / 16] and one scale of the whole tensor → [n, in] float32."""
    values = torch.tensor(_VALUES, device=packed.device)
    nibbles = torch.stack([packed >> 4, packed & 15], -1).flatten(1)  # the first weight of a pair is the high nibble
    weights = values[nibbles.int()].unflatten(1, (-1, GROUP))
    return (weights * (scales.float() * tensor_scale.float())[..., None]).flatten(1)
