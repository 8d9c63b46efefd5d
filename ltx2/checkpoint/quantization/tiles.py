"""Scales of blocks of a row in the order of tiles that cuBLAS wants. Checked against comfy-kitchen."""

import torch


def tiled_size(rows: int, columns: int) -> int:
    """Number of scales in the tiled layout: rows padded to 128, columns to 4."""
    return -(-rows // 128) * 128 * -(-columns // 4) * 4


def untile_scales(scales: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Scales from the tiles of 128 × 4 that cuBLAS wants, flat or not, to [rows, columns] of the same dtype."""
    across = -(-columns // 4)
    tiles = scales.reshape(-1, across, 32, 4, 4)  # [tile rows, tile columns, row % 32, row // 32 % 4, column % 4]
    return tiles.permute(0, 3, 2, 1, 4).reshape(-1, across * 4)[:rows, :columns]
