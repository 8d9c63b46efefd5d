"""Requests as bytes: what comes back is what went in, and nothing unknown is read."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2 import values
from ltx2.errors import RequestError
from ltx2.parallel.wire import KINDS, from_bytes, to_bytes
from ltx2.stages.request import Request
from ltx2.values import AudioCondition, ClipCondition, ImageCondition, ReferenceCondition, TextContext, Waveform

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.fractions()
VALUES = st.recursive(PLAIN, lambda one: st.lists(one) | st.dictionaries(st.text(), one) | st.tuples(one, one))


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_plain_values_come_back(value):
    found = from_bytes(to_bytes(value))
    assert found == value and type(found) is type(value)


def test_a_whole_request_comes_back():
    request = Request(
        prompt="a harbour – “dawn”",
        frames=33,
        fps=Fraction(24000, 1001),
        seed=2**63,
        images=(ImageCondition(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), strength=0.5),),
        clips=(ClipCondition(torch.rand(9, 2, 2, 3), frame=8),),
        audio=AudioCondition(torch.randn(1, 8, 5, 16).bfloat16(), waveform=Waveform(torch.rand(2, 7), 16000)),
        overrides={"denoise": {"sigmas": [1.0, 0.5, 0.0]}},
        positive=TextContext(torch.rand(1, 3, 4), None),
    )
    found = from_bytes(to_bytes(request))
    assert (found.prompt, found.frames, found.fps, found.seed) == (request.prompt, 33, request.fps, 2**63)
    assert np.array_equal(found.images[0].image, request.images[0].image) and found.images[0].strength == 0.5
    assert torch.equal(found.clips[0].frames, request.clips[0].frames) and found.clips[0].frame == 8
    assert torch.equal(found.audio.latent, request.audio.latent) and found.audio.latent.dtype == torch.bfloat16
    assert torch.equal(found.audio.waveform.samples, request.audio.waveform.samples)
    assert found.overrides == request.overrides and found.positive.audio is None
    assert torch.equal(found.positive.video, request.positive.video)


def test_every_kind_that_a_request_may_hold_is_known():
    kinds = {name for name, kind in vars(values).items() if dataclasses.is_dataclass(kind)} - {"Progress"}
    assert kinds <= set(KINDS)
    shown = ReferenceCondition(np.zeros((1, 2, 2, 3), np.uint8), 0.5, mask=torch.rand(1, 2, 2), stages="both")
    found = from_bytes(to_bytes(Request(references=(shown,)))).references[0]
    assert torch.equal(found.mask, shown.mask) and (found.strength, found.stages) == (0.5, "both")


def test_what_cannot_travel_is_refused():
    with pytest.raises(RequestError, match="a type cannot be sent"):
        to_bytes(Request(overrides={"denoise": {"sampler": int}}))
    known = to_bytes(Request())
    with pytest.raises(RequestError, match="unknown kind"):
        from_bytes(known.replace(b"Request", b"Reqyest"))
