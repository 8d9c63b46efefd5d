"""Reference videos: where their tokens lie, what looks at what, and that nothing of them is left in the result."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2 import clock
from ltx2.checkpoint.lora import Lora, Reference
from ltx2.errors import RequestError
from ltx2.networks.layers.attention import additive_attention_mask, additive_row_masks, attention
from ltx2.stages.conditioning.positions import reference_positions
from ltx2.stages.conditioning.references import (
    ReferenceLatent,
    check_references,
    encode_reference,
    expected_reference,
    reference_frames,
    reference_tokens,
    row_strengths,
    token_weights,
)
from ltx2.values import ReferenceCondition


def lora(name: str, reference: Reference | None) -> Lora:
    return Lora(Path(name), MappingProxyType({}), MappingProxyType({}), reference)


@pytest.mark.parametrize("temporal", [1, 2, 4])
@pytest.mark.parametrize("downscale", [1, 2])
def test_positions(downscale, temporal):
    latent = torch.zeros(1, 4, 3, 1, 2)
    seconds, rows, columns = reference_positions(
        latent, 25, downscale=downscale, temporal=temporal, video_offset_seconds=2, device="cpu"
    )[0]
    ends = [1, 1 + 8 * temporal, 1 + 16 * temporal]  # of a clip of 1 + 16 · temporal frames
    begins = [0, *ends[:2]] if temporal == 1 else [0, 1, 1 + 8 * temporal]
    assert torch.allclose(seconds[::2], torch.tensor([[b / 25 + 2, e / 25 + 2] for b, e in zip(begins, ends)]))
    assert rows.tolist() == [[0, 32 * downscale]] * 6
    assert columns[:2].tolist() == [[0, 32 * downscale], [32 * downscale, 64 * downscale]]


@given(frames=st.integers(0, 40).map(lambda k: 8 * k + 1), temporal=st.integers(1, 8))
def test_frames_of_a_slower_reference(frames, temporal):
    kept = reference_frames(frames, temporal)
    assert clock.is_valid_frame_count(len(kept)) and kept[0] == 0 and kept[-1] < frames
    assert all(b - a == temporal for a, b in zip(kept[1:], kept[2:])) and kept[1:2] in ([], [1])
    tokens = reference_tokens(Reference(2, temporal), width=128, height=64, frames=frames)
    assert tokens == clock.latent_frames(len(kept)) * 2


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_rows_are_the_matrix(data):
    """Attention by rows equals attention with the matrix of all tokens by all tokens, and makes none."""
    own, sizes = data.draw(st.integers(1, 6)), data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    value = st.sampled_from([0.0, 0.25, 1.0])
    given_references = []
    for size in sizes:
        weight = data.draw(value) if data.draw(st.booleans()) else torch.tensor([data.draw(value) for _ in range(size)])
        given_references.append(ReferenceLatent(torch.zeros(1, 4, 1, 1, size), attention=weight))
    rows = row_strengths(own, given_references, apart=data.draw(st.booleans()))
    if rows is None:
        assert all(bool((one.weights == 1).all()) for one in given_references)
        return
    total = own + sum(sizes)
    q, k, v = torch.randn(3, 2, total, 8, generator=torch.Generator().manual_seed(0))
    dense = torch.cat([row.strengths.expand(row.stop - row.start, -1) for row in rows])
    expected = attention(q, k, v, heads=2, mask=additive_attention_mask(dense[None], q.dtype))
    assert torch.allclose(attention(q, k, v, heads=2, mask=additive_row_masks(rows, q)), expected, atol=1e-6)
    assert dense[:own, :own].eq(1).all()


def test_weights_by_token():
    mask = torch.zeros(9, 4, 4)
    mask[0, :2, :2] = 1  # the first frame stands alone
    mask[1:5, :, 2:] = 1  # half of the frames of the second latent frame
    assert token_weights(mask, (2, 2, 2)).tolist() == [1, 0, 0, 0, 0, 0.5, 0, 0.5]


def test_encoding():
    shapes = []

    def encode(pixels):
        shapes.append(tuple(pixels.shape))
        return torch.zeros(1, 4, clock.latent_frames(pixels.shape[2]), pixels.shape[3] // 32, pixels.shape[4] // 32)

    frames = np.zeros((17, 50, 70, 3), np.uint8)
    mask = torch.ones(17, 50, 70)
    found = encode_reference(
        ReferenceCondition(frames, 0.9, 0.5, mask), Reference(2, 2), encode, width=128, height=64, frames=17
    )
    assert shapes == [(1, 3, 9, 32, 64)] and found.latent.shape == (1, 4, 2, 1, 2)
    assert torch.equal(found.weights, torch.full((4,), 0.5)) and found.strength == 0.9
    sheet = encode_reference(ReferenceCondition(frames[:1]), Reference(), encode, width=64, height=64, frames=17)
    assert shapes[1] == (1, 3, 17, 64, 64) and sheet.tokens == 3 * 4


def test_what_does_not_fit_is_refused():
    frames = np.zeros((20, 8, 8, 3), np.uint8)
    fits = ReferenceCondition(frames[:17])
    assert not check_references((fits, ReferenceCondition(frames[:1])), 17)
    (note,) = check_references((ReferenceCondition(frames),), 17)
    assert note == "the reference has 20 frames, the first 17 are shown, as many as the clip has"
    for wrong, said in (
        (ReferenceCondition(frames[:15]), "15 frames, the clip has 17: .* a clip of 9 frames"),
        (replace(fits, strength=1.5), "strength 1.5"),
        (replace(fits, attention=-1), "attention -1"),
        (replace(fits, mask=torch.ones(3, 8, 8)), "its mask 3"),
        (replace(fits, stages="second"), "expected one of first, both"),
    ):
        with pytest.raises(RequestError, match=said):
            check_references((wrong,), 17)


def test_what_loras_expect():
    plain, one, half = lora("a", None), lora("b", Reference()), lora("c", Reference(2))
    assert expected_reference([plain]) is None and expected_reference([plain, half, half]) == Reference(2)
    with pytest.raises(RequestError, match="b expects a .* c a reference video at the size divided by 2"):
        expected_reference([one, half])
