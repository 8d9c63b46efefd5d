"""Neighbourhood attention in three dimensions: every position attends to a window of fixed size around it.

At the borders the window is shifted inwards, so it always holds exactly kernel positions (NATTEN's ``na3d``, checked
against comfy_kitchen). Queries are cut into boxes; a box attends to itself grown by the window, with a mask for what
lies outside the window of each query. Boxes that see the same mask are computed together, so that no mask ever grows
with the clip.
"""

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import RequestError

Grid = tuple[int, int, int]

# Of one box: smaller boxes waste less on keys outside the windows, larger ones keep a device busier.
MASK_ELEMENTS = 2**22
# Of the keys and values copied at a time: 256 MiB in bfloat16.
GATHERED_ELEMENTS = 2**27


def neighborhood_attention(q: Tensor, k: Tensor, v: Tensor, kernel: Grid) -> Tensor:
    """softmax(q · kᵀ) v over each position's window; the scale is already in q.

    q, k, v: [B, T, H, W, heads, head_dim]; kernel: window in (T, H, W), none larger than its axis. Returns the shape of
    q. On a CUDA device comfy_kitchen's fused kernel is used where that package is installed.
    """
    grid = q.shape[1:4]
    if any(size < window for size, window in zip(grid, kernel)):
        raise RequestError(
            f"neighbourhood attention over {list(grid)} positions needs at least its window {list(kernel)}: pad the "
            "latent"
        )
    fused = _fused_kernel() if q.device.type == "cuda" else None
    if fused is not None:
        return fused(q, k, v, list(kernel), None, 1.0)
    return boxed_attention(q, k, v, kernel)


def _fused_kernel():
    try:
        from comfy_kitchen import na3d
    except ImportError:
        return None
    return na3d


def window_starts(size: int, window: int) -> list[int]:
    """First key of each query's window along one axis."""
    return [min(max(i - window // 2, 0), size - window) for i in range(size)]


def boxed_attention(q: Tensor, k: Tensor, v: Tensor, kernel: Grid) -> Tensor:
    """The same with torch's scaled_dot_product_attention alone, on any device."""
    batch, *grid, heads, width = q.shape
    box = box_size((grid[0], grid[1], grid[2]), kernel)
    axes = [_axis_boxes(size, window, length) for size, window, length in zip(grid, kernel, box)]
    groups: dict[tuple, list[tuple[tuple[slice, slice], ...]]] = {}
    for t in axes[0]:
        for h in axes[1]:
            for w in axes[2]:
                # boxes whose queries see their keys in the same way share a mask
                groups.setdefault((t[2], h[2], w[2]), []).append((t[:2], h[:2], w[:2]))
    out = torch.empty_like(v, memory_format=torch.contiguous_format)
    for pattern, boxes in groups.items():
        mask = _mask(pattern, kernel, q)  # [queries, keys]
        queries, keys = mask.shape
        at_once = boxes_at_once(q.device.type, 2 * batch * heads * keys * width)
        for start in range(0, len(boxes), at_once):
            part = boxes[start : start + at_once]
            small_q = _gather(q, [tuple(axis[0] for axis in where) for where in part], queries)
            small_k = _gather(k, [tuple(axis[1] for axis in where) for where in part], keys)
            small_v = _gather(v, [tuple(axis[1] for axis in where) for where in part], keys)
            found = F.scaled_dot_product_attention(small_q, small_k, small_v, attn_mask=mask, scale=1.0)
            found = found.unflatten(0, (len(part), batch)).transpose(2, 3)  # [boxes, B, queries, heads, head_dim]
            for index, where in enumerate(part):
                target = out[:, where[0][0], where[1][0], where[2][0]]
                target.copy_(found[index].reshape(target.shape))
    return out


def box_size(grid: Grid, kernel: Grid) -> Grid:
    """Queries of one box: the whole grid, halved where it is longest in windows until its mask is small enough."""
    box = list(grid)
    while (
        math.prod(box) * math.prod(min(s, b + k - 1) for s, b, k in zip(grid, box, kernel)) > MASK_ELEMENTS
        and max(box) > 1
    ):
        axis = max((a for a in range(3) if box[a] > 1), key=lambda a: box[a] / kernel[a])
        box[axis] = -(-box[axis] // 2)
    return box[0], box[1], box[2]


def boxes_at_once(device_type: str, gathered_elements: int) -> int:
    """How many boxes to compute together, given the keys and values gathered for each."""
    return 1 if device_type == "cpu" else max(1, GATHERED_ELEMENTS // gathered_elements)


def _axis_boxes(size: int, window: int, length: int) -> list[tuple[slice, slice, tuple[int, ...]]]:
    """Boxes of one axis: which queries, which keys, and where each query's window starts among these keys."""
    starts = window_starts(size, window)
    boxes = []
    for first in range(0, size, length):
        last = min(first + length, size)
        origin = starts[first]
        boxes.append(
            (
                slice(first, last),
                slice(origin, starts[last - 1] + window),
                tuple(s - origin for s in starts[first:last]),
            )
        )
    return boxes


def _mask(pattern: tuple[tuple[int, ...], ...], kernel: Grid, like: Tensor) -> Tensor:
    """0 where a query sees a key and -inf elsewhere, [queries, keys], in the type of the queries."""
    axes = []
    for starts, window in zip(pattern, kernel):
        first = torch.tensor(starts, device=like.device)[:, None]
        key = torch.arange(max(starts) + window, device=like.device)
        axes.append((key >= first) & (key < first + window))  # [queries, keys] of this axis
    seen = reduce(lambda a, b: (a[:, None, :, None] & b[None, :, None, :]).flatten(2).flatten(0, 1), axes)
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, -torch.inf)


def _gather(x: Tensor, where: list[tuple[slice, ...]], positions: int) -> Tensor:
    """Boxes of x [B, T, H, W, heads, head_dim] as one batch: [boxes · B, heads, positions, head_dim]."""
    batch, heads, width = x.shape[0], x.shape[-2], x.shape[-1]
    out = x.new_empty(len(where), batch, heads, positions, width)
    for index, (t, h, w) in enumerate(where):
        piece = x[:, t, h, w].permute(0, 4, 1, 2, 3, 5)  # [B, heads, t, h, w, head_dim]
        out[index].view(piece.shape).copy_(piece)
    return out.flatten(0, 1)
