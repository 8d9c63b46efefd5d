"""Modulation by distinct timesteps, looked up for runs of tokens."""

import pytest
import torch

from ltx2.networks.layers import adaln, slices


def layouts():
    generator = torch.Generator().manual_seed(0)
    yield "one value", torch.full((2, 1), 0.5), 7
    yield "one a sample", torch.tensor([[0.5], [0.2]]), 7
    yield "first frame", torch.tensor([[0.0] * 3 + [0.7] * 9, [0.3] * 3 + [0.7] * 9]), 12
    yield "every token its own", torch.rand(2, 200, generator=generator), 200
    yield "many runs", (torch.rand(1, 200, generator=generator) > 0.5).float().repeat(2, 1), 200


@pytest.mark.parametrize("name, timesteps, tokens", list(layouts()), ids=lambda v: v if isinstance(v, str) else "")
def test_lookup_equals_one_row_a_token(name, timesteps, tokens, monkeypatch):
    monkeypatch.setattr(slices, "ON_CPU", 50)
    generator = torch.Generator().manual_seed(1)
    found = adaln.distinct_timesteps(timesteps, tokens)
    assert len(found.values) == len(timesteps.unique())
    width = 4
    whole = timesteps.expand(2, tokens)[..., None] * torch.ones(width)
    x, update = (torch.randn(2, tokens, width, generator=generator) for _ in range(2))
    rows = found.values[:, None] * torch.ones(width)
    torch.testing.assert_close(adaln.modulated(x, found.pieces, rows, rows), x * whole + whole)
    normed = torch.nn.functional.rms_norm(x, (width,), eps=1e-6)
    torch.testing.assert_close(adaln.modulated_norm(x, found.pieces, rows, rows, 1e-6), normed * whole + whole)
    for start, end in ((0, tokens), (2, 5), (tokens - 3, tokens + 9)):
        pieces = adaln.clipped(found.pieces, start, end)
        changed = x.clone()
        adaln.add_gated(changed[:, start:end], update[:, start:end], pieces, rows)
        expected = x.clone()
        expected[:, start:end] += (update * whole)[:, start:end]
        torch.testing.assert_close(changed, expected)


def test_sinusoid_is_cosines_then_sines():
    s = adaln.sinusoid(torch.tensor([0.0, 500.0]))
    assert s.shape == (2, 256)
    assert s[0].tolist() == [1.0] * 128 + [0.0] * 128
    angle = torch.tensor(500.0)
    torch.testing.assert_close(s[1, [0, 128]], torch.stack([angle.cos(), angle.sin()]))


@pytest.mark.parametrize("at_once", [5, 12])
def test_runs_of_other_timesteps_are_bit_for_bit_as_if_each_were_alone(at_once, monkeypatch):
    monkeypatch.setattr(slices, "ON_CPU", at_once)
    generator = torch.Generator().manual_seed(2)
    x, update = (torch.randn(2, 12, 16, generator=generator) for _ in range(2))
    shift, factor, gate = torch.randn(3, 2, 16, generator=generator)
    pieces = adaln.distinct_timesteps(torch.tensor([[0.0] * 5 + [0.7] * 7]), 12).pieces
    assert [piece.tokens for piece in pieces] == [slice(0, 5), slice(5, 12)]
    found, changed = adaln.modulated_norm(x, pieces, factor, shift, 1e-6), x.clone()
    adaln.add_gated(changed, update, pieces, gate)
    for row, run in enumerate((slice(0, 5), slice(5, 12))):
        (alone,) = adaln.distinct_timesteps(torch.full((1, 1), 0.5), run.stop - run.start).pieces
        rows = (factor[row : row + 1], shift[row : row + 1])
        assert torch.equal(found[:, run], adaln.modulated_norm(x[:, run].contiguous(), [alone], *rows, 1e-6))
        expected = x[:, run].clone()
        adaln.add_gated(expected, update[:, run].contiguous(), [alone], gate[row : row + 1])
        assert torch.equal(changed[:, run], expected)
