"""Scales of eight-bit weights by what they are of: all of a weight, its rows, its columns, groups of a row, or blocks.

The shape says which, read as the weight's own: [out] and [out, 1] are of rows, [1, in] of columns, [out, n] (or
[out, n, 1]) of n groups of each row, [m, n] of square blocks, whose last ones may be cut off. [1, out] is of rows where
there are not as many columns.
"""

import math

import torch

from .stored import StoredWeight

_BLOCKS = tuple(1 << power for power in range(3, 11))  # sides that quantisers use
_STORED = ("F32", "BF16", "F16")
Steps = tuple[int, int]


def scale_steps(weight: StoredWeight) -> Steps | None:
    """How many rows and columns of a weight a scale is of; None: there is no scale, or one for all. Raises
    CheckpointError for a shape that can be meant in no way or in several."""
    found = weight.beside.get("scale")
    if found is None:
        return None
    if found.stored not in _STORED:
        raise weight.refuse(f"scales of {found.stored}", f"{', '.join(_STORED)}")
    shape = found.shape
    if math.prod(shape) == 1:
        return None
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    rows, columns = weight.rows, math.prod(weight.shape[1:])
    if len(shape) == 1:
        shape = (shape[0], 1)
    steps = _steps(rows, columns, shape, weight.option("group_size")) if len(shape) == 2 else None
    if steps is None:
        raise weight.refuse(
            f"scales {list(found.shape)} beside {list(weight.shape)}",
            f"one, or one a row [{rows}], a column [1, {columns}], a group of a row or a square block",
        )
    return steps


def _steps(rows: int, columns: int, shape: tuple[int, ...], stated: object) -> Steps | None:
    down, across = shape
    if down == rows and across and columns % across == 0:
        return 1, columns // across
    if down == 1 and across == columns:
        return rows, 1
    if down == 1 and across == rows:
        return 1, columns
    fitting = {
        side
        for side in ((stated,) if isinstance(stated, int) and stated > 0 else _BLOCKS)
        if (-(-rows // side), -(-columns // side)) == (down, across)
    }
    side = next(iter(fitting), 0)
    return (side, side) if len(fitting) == 1 else None


def scales_of_rows(scale: torch.Tensor, steps: Steps, rows: slice, columns: int) -> torch.Tensor:
    """The scales of some rows, float32 [n, columns] or [n, 1]. scale: in a shape of :func:`scale_steps`."""
    down, across = steps
    if across == columns and down == 1:
        return scale.float().view(-1, 1)[rows]
    table = scale.float().view(-1, -(-columns // across))
    picked = table[torch.arange(rows.start, rows.stop, device=scale.device) // down]
    return picked.repeat_interleave(across, 1)[:, :columns]
