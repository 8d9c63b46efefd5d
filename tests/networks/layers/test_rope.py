"""Positions in seconds and pixels, and the angles that they turn tokens by."""

import numpy as np
import pytest
import torch

from ltx2.config.transformer import RotaryConfig
from ltx2.networks.layers import rope


def test_video_positions_are_seconds_and_pixels():
    p = rope.video_positions(3, 2, 4, 24, device="cpu")
    assert p.shape == (1, 3, 24, 2) and p.dtype == torch.float32
    assert p[0, 0, ::8].tolist() == [[0, np.float32(1 / 24)], [np.float32(1 / 24), 0.375], [0.375, np.float32(17 / 24)]]
    assert p[0, 1, :8:4].tolist() == [[0, 32], [32, 64]]
    assert p[0, 2, :4].tolist() == [[0, 32], [32, 64], [64, 96], [96, 128]]


@pytest.mark.parametrize("fps", [24, 25.0, "30000/1001", 60])
def test_offset_moves_times_without_drift(fps):
    from fractions import Fraction

    from ltx2 import clock

    offset = Fraction(40, 25)
    p = rope.video_positions(16, 1, 1, fps, video_offset_seconds=offset, device="cpu")[0, 0]
    for i in range(16):
        expected = [np.float32(float(edge / clock.parse_fps(fps) + offset)) for edge in clock.latent_frame_span(i)]
        assert p[i].tolist() == expected


def test_audio_positions_are_seconds():
    p = rope.audio_positions(3, device="cpu")
    assert p.shape == (1, 1, 3, 2)
    torch.testing.assert_close(p[0, 0], torch.tensor([[0, 0.01], [0.01, 0.05], [0.05, 0.09]]), rtol=0, atol=0)
    assert rope.audio_positions(2, video_offset_seconds=-1, device="cpu")[0, 0, 0, 0] == -1


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_by_hand(interleaved):
    heads, head_dim, tokens = 2, 16, 5
    positions = rope.video_positions(5, 1, 1, 24, device="cpu")
    config = RotaryConfig(interleaved=interleaved)
    table = rope.rotary_table(
        positions,
        heads=heads,
        head_dim=head_dim,
        max_positions=(20, 2048, 2048),
        rotary=config,
        middle=True,
        dtype=torch.float64,
    )
    x = torch.randn(1, tokens, heads * head_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(x)
    rope.rotate_into(out, x, table, slice(0, tokens))

    count = 16 // 3  # a slot is left over, in front
    grid = np.float32(10000.0 ** np.linspace(0, 1, count) * (np.pi / 2))
    limits = (20, 2048, 2048)
    for t in range(tokens):
        middle = positions[0, :, t].mean(-1).numpy()
        angles = [0.0] + [g * (2 * np.float32(m) / limit - 1) for g in grid for m, limit in zip(middle, limits)]
        for slot, angle in enumerate(angles):
            head, j = divmod(slot, head_dim // 2)
            first, second = (2 * j, 2 * j + 1) if interleaved else (j, j + head_dim // 2)
            a, b = (float(x[0, t, head * head_dim + i]) for i in (first, second))
            expected = (a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle))
            got = [float(out[0, t, head * head_dim + i]) for i in (first, second)]
            np.testing.assert_allclose(
                got, expected, atol=3e-3 if angle > 1e3 else 1e-4
            )  # angles are float32, up to 15708


def test_equal_samples_share_a_table_and_others_do_not():
    one = rope.audio_positions(4, device="cpu")
    options = {
        "heads": 2,
        "head_dim": 8,
        "max_positions": (20,),
        "rotary": RotaryConfig(),
        "middle": True,
        "dtype": torch.float32,
    }
    assert rope.rotary_table(one.repeat(3, 1, 1, 1), **options).cos.shape == (1, 4, 2, 4)
    assert rope.rotary_table(torch.cat([one, one + 1]), **options).cos.shape == (2, 4, 2, 4)


def test_long_tables_equal_short_ones(monkeypatch):
    positions = rope.video_positions(5, 2, 2, 24, device="cpu")
    limits = (20, 2048, 2048)
    options = {
        "heads": 2,
        "head_dim": 16,
        "max_positions": limits,
        "rotary": RotaryConfig(),
        "middle": True,
        "dtype": torch.float32,
    }
    whole = rope.rotary_table(positions, **options)
    monkeypatch.setattr(rope, "TOKENS_AT_ONCE", 3)
    assert torch.equal(rope.rotary_table(positions, **options).sin, whole.sin)
