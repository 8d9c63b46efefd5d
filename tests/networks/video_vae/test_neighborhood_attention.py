"""Attention within a window, against its definition."""

import sys
import types

import pytest
import torch

from ltx2.errors import RequestError
from ltx2.networks.video_vae import neighborhood_attention as neighborhood
from ltx2.networks.video_vae.neighborhood_attention import (
    box_size,
    boxed_attention,
    neighborhood_attention,
    window_starts,
)


def by_definition(q, k, v, kernel):
    """Every query on its own."""
    out = torch.zeros_like(v)
    grid = q.shape[1:4]
    starts = [window_starts(size, window) for size, window in zip(grid, kernel)]
    for t in range(grid[0]):
        for h in range(grid[1]):
            for w in range(grid[2]):
                cut = tuple(slice(s[i], s[i] + n) for s, i, n in zip(starts, (t, h, w), kernel))
                keys, values = (x[(slice(None), *cut)].flatten(1, 3) for x in (k, v))  # [B, keys, heads, head_dim]
                scores = torch.einsum("bhd,bkhd->bhk", q[:, t, h, w], keys).softmax(-1)
                out[:, t, h, w] = torch.einsum("bhk,bkhd->bhd", scores, values)
    return out


def sample(grid, batch=2, heads=2, width=4):
    return torch.randn(3, batch, *grid, heads, width, generator=torch.Generator().manual_seed(0))


def test_windows_shift_inwards_at_the_borders():
    assert window_starts(7, 3) == [0, 0, 1, 2, 3, 4, 4]
    assert window_starts(5, 5) == [0] * 5
    assert window_starts(12, 11) == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    "grid, kernel", [((5, 6, 7), (3, 5, 3)), ((3, 3, 3), (3, 3, 3)), ((4, 1, 9), (3, 1, 5)), ((6, 5, 8), (5, 5, 5))]
)
@pytest.mark.parametrize("budget", [2**22, 2**10, 1])
def test_boxes_do_not_change_the_result(grid, kernel, budget, monkeypatch):
    monkeypatch.setattr(neighborhood, "MASK_ELEMENTS", budget)
    q, k, v = sample(grid)
    assert (neighborhood_attention(q, k, v, kernel) - by_definition(q, k, v, kernel)).abs().max() < 1e-5


def test_many_boxes_at_a_time_do_not_change_the_result(monkeypatch):
    q, k, v = sample((4, 8, 8))
    expected = by_definition(q, k, v, (3, 3, 3))
    monkeypatch.setattr(neighborhood, "MASK_ELEMENTS", 2**10)
    monkeypatch.setattr(neighborhood, "boxes_at_once", lambda *_: 3)
    assert (boxed_attention(q, k, v, (3, 3, 3)) - expected).abs().max() < 1e-5


def test_workspace_is_bounded():
    assert neighborhood.boxes_at_once("cpu", 1) == 1
    assert neighborhood.boxes_at_once("cuda", neighborhood.GATHERED_ELEMENTS // 5) == 5
    assert neighborhood.boxes_at_once("cuda", 2 * neighborhood.GATHERED_ELEMENTS) == 1


def test_memory_of_one_box_is_bounded():
    for grid in ((121, 272, 480), (33, 34, 60), (11, 11, 11)):
        box = box_size(grid, (11, 11, 11))
        keys = [min(s, b + 10) for s, b in zip(grid, box)]
        assert box[0] * box[1] * box[2] * keys[0] * keys[1] * keys[2] <= neighborhood.MASK_ELEMENTS
    assert box_size((3, 4, 4), (3, 3, 3)) == (3, 4, 4)


def test_too_small_a_grid_is_one_sentence():
    with pytest.raises(RequestError, match="window"):
        neighborhood_attention(*sample((2, 5, 5)), (3, 5, 5))


def test_the_fused_kernel_is_only_asked_on_a_gpu(monkeypatch):
    calls = []
    module = types.ModuleType("comfy_kitchen")
    module.na3d = lambda *args: calls.append(args)
    monkeypatch.setitem(sys.modules, "comfy_kitchen", module)
    neighborhood_attention(*sample((3, 5, 5)), (3, 5, 5))
    assert not calls and neighborhood._fused_kernel() is module.na3d
    monkeypatch.setitem(sys.modules, "comfy_kitchen", None)
    assert neighborhood._fused_kernel() is None
