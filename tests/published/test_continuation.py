"""The typed state through its envelope, as FastVideo's tests of it ask."""

import json

import numpy as np
import pytest
import torch

from .adapter import (
    LTX2_CONTINUATION_KIND,
    LTX2_CONTINUATION_SCHEMA_VERSION,
    ContinuationState,
    InMemoryBlobStore,
    LTX2ContinuationState,
    accept,
)

FIELDS = {
    "segment_index": 3,
    "video_conditioning_frame_idx": 9,
    "video_conditioning_strength": 0.75,
    "audio_sample_rate": 24000,
    "audio_conditioning_num_frames": 5,
    "audio_conditioning_strength": 0.5,
    "video_position_offset_sec": 0.125,
    "metadata": {"note": "unit-test"},
}
MEBIBYTE = 2**20


def state(**changes):
    """Any count of frames and any shape of latents: the envelope carries them, who uses them checks them."""
    frames = [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(4)]
    latents = torch.randn(1, 4, 16, 64, generator=torch.Generator().manual_seed(1))
    return LTX2ContinuationState(**{**FIELDS, "video_frames": frames, "audio_latents": latents, **changes})


def read(envelope, **keywords):
    return LTX2ContinuationState.from_continuation_state(envelope, **keywords)


def test_the_envelope_says_kind_and_version():
    envelope = state().to_continuation_state()
    assert envelope.kind == LTX2_CONTINUATION_KIND
    assert envelope.payload["schema_version"] == LTX2_CONTINUATION_SCHEMA_VERSION


@pytest.mark.parametrize("through_json", (False, True))
@pytest.mark.parametrize("threshold", (None, 0, 10 * MEBIBYTE), ids=("no store", "all in a store", "all inline"))
def test_everything_comes_back(through_json, threshold):
    store = InMemoryBlobStore()
    where = {} if threshold is None else {"blob_store": store, "inline_threshold_bytes": threshold}
    original = state()
    envelope = original.to_continuation_state(**where)
    if through_json:
        envelope = ContinuationState(kind=envelope.kind, payload=json.loads(json.dumps(envelope.payload)))
    found = read(envelope, blob_store=store)
    assert {name: getattr(found, name) for name in FIELDS} == FIELDS
    assert len(found.video_frames) == 4
    for before, after in zip(original.video_frames, found.video_frames):
        np.testing.assert_array_equal(before, after)
    assert found.audio_latents.dtype == torch.float32 and tuple(found.audio_latents.shape) == (1, 4, 16, 64)
    torch.testing.assert_close(found.audio_latents, original.audio_latents, rtol=0, atol=0)


def test_half_precision_stays_half_precision():
    original = LTX2ContinuationState(audio_latents=torch.randn(1, 4, 16, 64).to(torch.bfloat16))
    found = read(original.to_continuation_state())
    assert found.audio_latents.dtype == torch.bfloat16
    torch.testing.assert_close(found.audio_latents, original.audio_latents, rtol=0, atol=0)


def test_what_is_above_the_threshold_lies_in_the_store_and_only_there():
    store = InMemoryBlobStore()
    payload = state().to_continuation_state(blob_store=store, inline_threshold_bytes=0).payload
    assert set(payload["video"]) >= {"blob_id"} and "frames_b64" not in payload["video"]
    assert set(payload["audio"]) >= {"blob_id"} and "safetensors_b64" not in payload["audio"]
    assert len(store) == 2
    store = InMemoryBlobStore()
    payload = state().to_continuation_state(blob_store=store, inline_threshold_bytes=10 * MEBIBYTE).payload
    assert "frames_b64" in payload["video"] and "safetensors_b64" in payload["audio"] and len(store) == 0


def test_ids_are_held_where_there_is_no_store():
    payload_of = state().to_continuation_state(blob_store=InMemoryBlobStore(), inline_threshold_bytes=0)
    found = read(payload_of)
    assert found.video_frames is None and found.audio_latents is None
    assert found.video_frames_blob_id == payload_of.payload["video"]["blob_id"]
    assert found.audio_latents_blob_id == payload_of.payload["audio"]["blob_id"]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: read(ContinuationState("longcat.v1", {})), "Expected ContinuationState.kind"),
        (
            lambda: read(ContinuationState(LTX2_CONTINUATION_KIND, {"schema_version": 999})),
            "Unsupported LTX-2 continuation schema",
        ),
        (lambda: state(video_frames=[np.ones((64, 64, 3), np.float32)]).to_continuation_state(), "uint8 HxWx3"),
        (lambda: accept(ContinuationState("mystery.v1", {})), "Unknown ContinuationState kind"),
        (lambda: accept(ContinuationState("", {})), "non-empty string"),
    ],
)
def test_clients_find_the_words_they_look_for(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert len(str(caught.value)) <= 300


def test_a_whole_state_passes_the_border():
    envelope = state().to_continuation_state()
    assert accept(envelope) == envelope
