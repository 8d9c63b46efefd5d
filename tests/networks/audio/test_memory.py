"""Live memory of the sound networks at their released sizes, on the meta device."""

from functools import partial

import pytest
import torch

from benchmarks.live_memory import live_peak
from ltx2.networks.audio.codec import decode_mel, encode_mel, vocode

from .references import audio_metadata, build, vocoder_20_metadata, vocoder_23_metadata

GIB = 2**30
FRAMES = 1997  # 500 latents, 20 s


@pytest.mark.parametrize(
    "component, metadata, shape, gib",
    [
        ("audio_decoder", audio_metadata(), (1, 8, 500, 16), 0.43),
        ("audio_encoder", audio_metadata(), (1, 2, FRAMES, 64), 0.31),
        ("vocoder", vocoder_20_metadata(), (1, 2, FRAMES, 64), 0.30),
        ("vocoder", vocoder_23_metadata(), (1, 2, FRAMES, 64), 0.60),
    ],
)
def test_twenty_seconds(component, metadata, shape, gib):
    module = build(component, metadata, device="meta", dtype=torch.bfloat16)
    assert live_peak(lambda: module(torch.zeros(shape, device="meta"))) < gib * GIB


def test_a_minute_needs_hardly_more_than_twenty_seconds():
    decoder, encoder = (build(f"audio_{half}", audio_metadata(), device="meta") for half in ("decoder", "encoder"))
    vocoder = build("vocoder", vocoder_20_metadata(), device="meta")
    works = (
        lambda n: decode_mel(decoder, torch.zeros(1, 8, 500 * n, 16, device="meta")),
        lambda n: encode_mel(encoder, torch.zeros(1, 2, 2000 * n, 64, device="meta")),
        lambda n: vocode(vocoder, torch.zeros(1, 2, 2000 * n, 64, device="meta"), 2000),
    )
    for work in works:
        one, three = (live_peak(partial(work, n)) for n in (1, 3))
        assert three < 1.15 * one
