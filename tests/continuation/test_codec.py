"""Writing states: round trips, thresholds, checks, and what goes out is plain JSON that the published reader opens."""

import base64
import dataclasses
import inspect
import json
import struct

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from ltx2.continuation import (
    InMemoryBlobStore,
    LTX2ContinuationState,
    StateLimits,
    audio_mask,
    read_envelope,
    write_envelope,
)
from ltx2.errors import BlobNotFoundError, ContinuationError, Ltx2Warning

from .vectors import GivenBlobs, described, formula_frame, formula_latents

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def full_state(dtype=torch.float32, **changes):
    fields = dict(
        segment_index=3,
        video_frames=[formula_frame(i, 64, 96) for i in range(9)],
        video_conditioning_frame_idx=0,
        video_conditioning_strength=0.75,
        audio_latents=formula_latents(51, dtype),
        audio_sample_rate=48000,
        audio_conditioning_num_frames=49,
        audio_conditioning_strength=0.25,
        video_position_offset_sec=5 / 3,
        metadata={"comfy_ltx2": {"v": 1, "fps": [24000, 1001]}, "note": "größe"},
    )
    return LTX2ContinuationState(**{**fields, **changes})


def decode(envelope, **keywords):
    return LTX2ContinuationState.from_continuation_state(envelope, **keywords)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("threshold", (None, 0, 10 * 2**20))
def test_decode_of_encode_is_the_same_state(dtype, threshold):
    state, store = full_state(dtype), InMemoryBlobStore()
    where = {} if threshold is None else {"blob_store": store, "inline_threshold_bytes": threshold}
    envelope = state.to_continuation_state(**where)
    again = decode(
        read_envelope(json.dumps({"kind": envelope.kind, "payload": envelope.payload}, allow_nan=False)),
        blob_store=store,
    )
    assert described(again) == described(state)
    assert again.audio_latents.dtype == dtype and torch.equal(again.audio_latents, state.audio_latents)
    members = envelope.payload["video"], envelope.payload["audio"]
    if threshold == 0:
        assert len(store) == 2 and all(
            "blob_id" in m and not {"frames_b64", "safetensors_b64"} & set(m) for m in members
        )
        assert members[0]["frame_count"] == 9
    else:
        assert len(store) == 0 and not any("blob_id" in m for m in members)


def test_ids_survive_without_a_store():
    store = InMemoryBlobStore()
    first = full_state().to_continuation_state(blob_store=store, inline_threshold_bytes=0)
    first.payload["video"]["codec"] = "png"
    held = decode(first)
    assert held.video_frames is None and held.audio_latents is None
    second = held.to_continuation_state(blob_store=GivenBlobs({}))
    assert second.payload == first.payload and list(second.payload) == list(first.payload)


def test_encoding_what_came_from_a_store_reuses_its_blobs():
    store = InMemoryBlobStore()
    state = decode(full_state().to_continuation_state(blob_store=store, inline_threshold_bytes=0), blob_store=store)
    assert state.video_frames_blob_id is None and state.audio_latents_blob_id is None
    again = state.to_continuation_state(blob_store=store, inline_threshold_bytes=0)
    assert len(store) == 2 and decode(again, blob_store=store).video_frames[0].shape == (64, 96, 3)
    other = dataclasses.replace(state, video_frames=[formula_frame(5, 8, 8)], audio_latents=state.audio_latents + 1)
    changed = other.to_continuation_state(blob_store=store, inline_threshold_bytes=0)
    assert len(store) == 4 and changed.payload["video"]["frame_count"] == 1
    elsewhere = InMemoryBlobStore()
    state.to_continuation_state(blob_store=elsewhere, inline_threshold_bytes=0)
    assert len(elsewhere) == 2


def test_threshold_is_strictly_greater_and_per_member():
    state = full_state(video_frames=[formula_frame(i, 8, 12) for i in range(3)])
    inline = state.to_continuation_state().payload
    pictures = sum(len(base64.b64decode(text)) for text in inline["video"]["frames_b64"])
    sound = len(base64.b64decode(inline["audio"]["safetensors_b64"]))
    for threshold, expected in ((pictures, "frames_b64"), (pictures - 1, "blob_id")):
        payload = state.to_continuation_state(blob_store=InMemoryBlobStore(), inline_threshold_bytes=threshold).payload
        assert expected in payload["video"] and "blob_id" in payload["audio"]
    for threshold, expected in ((sound, "safetensors_b64"), (sound - 1, "blob_id")):
        payload = state.to_continuation_state(blob_store=InMemoryBlobStore(), inline_threshold_bytes=threshold).payload
        assert expected in payload["audio"]
    assert sound == 26192  # the size the format's documentation gives for [1, 8, 51, 16] fp32


def test_packed_frames_have_the_published_layout():
    store = InMemoryBlobStore()
    payload = full_state().to_continuation_state(blob_store=store, inline_threshold_bytes=0).payload
    data = store.get(payload["video"]["blob_id"])
    (count,) = struct.unpack_from(">I", data)
    at = 4
    for _ in range(count):
        at += 4 + struct.unpack_from(">I", data, at)[0]
    assert count == 9 and at == len(data)
    sound = store.get(payload["audio"]["blob_id"])
    assert sound == safetensors.torch.save({"t": full_state().audio_latents})


def test_sound_of_any_layout_is_written():
    whole = formula_latents(60)
    for latents in (whole[:, :, 9:], whole[:, :, 9:].numpy(), whole[:, :, 9:].clone().requires_grad_()):
        again = decode(full_state(audio_latents=latents).to_continuation_state())
        assert torch.equal(again.audio_latents, whole[:, :, 9:])


def test_frames_of_any_layout_are_written():
    frame = formula_frame(2, 20, 30)
    for given in (frame[::2, ::3], np.asfortranarray(frame), Image.fromarray(frame)):
        again = decode(full_state(video_frames=[given]).to_continuation_state())
        assert np.array_equal(again.video_frames[0], np.asarray(given))
    assert "video" not in full_state(video_frames=[]).to_continuation_state().payload


@pytest.mark.parametrize(
    "changes, error",
    [
        (dict(video_frames=["frame"]), TypeError),
        (dict(video_frames=[np.zeros((8, 8, 3), np.float32)]), ContinuationError),
        (dict(video_frames=[np.zeros((8, 8), np.uint8)]), ContinuationError),
        (dict(video_frames=[np.zeros((8, 8, 4), np.uint8)]), ContinuationError),
        (dict(video_frames=[np.zeros((3, 8, 8), np.uint8)]), ContinuationError),
        (dict(video_frames=[np.zeros((0, 8, 3), np.uint8)]), ContinuationError),
        (dict(audio_latents=[1.0]), TypeError),
        (dict(audio_latents=torch.full((1, 8, 2, 16), float("nan"))), ContinuationError),
        (dict(metadata={"x": torch.zeros(2)}), ContinuationError),
        (dict(metadata={"x": float("nan")}), ContinuationError),
        (dict(metadata={1: 2}), ContinuationError),
        (dict(video_conditioning_strength=float("nan")), ContinuationError),
        (dict(audio_conditioning_strength=1.5), ContinuationError),
        (dict(segment_index=-1), ContinuationError),
        (dict(segment_index=10**6000), ContinuationError),
        (dict(segment_index="3"), ContinuationError),
        (dict(video_position_offset_sec=10**400), ContinuationError),
        (dict(video_position_offset_sec=-1.0), ContinuationError),
        (dict(audio_sample_rate=0), ContinuationError),
        (dict(video_frames_blob_id=7), ContinuationError),
    ],
)
def test_what_no_reader_would_accept_is_refused_when_writing(changes, error):
    with pytest.raises(error) as caught:
        full_state(**changes).to_continuation_state()
    assert len(str(caught.value)) < 300


def test_large_inline_states_are_pointed_out():
    with pytest.warns(Ltx2Warning, match="give a blob store"):
        full_state().to_continuation_state(limits=StateLimits(inline_warning_bytes=1000))


def test_audio_strength_is_the_mask_that_the_format_says():
    mask, note = audio_mask(full_state(audio_conditioning_strength=1.0))
    assert mask == 1.0 and "made anew" in note  # the default of other programs: told, since the sound is there
    assert audio_mask(full_state(audio_conditioning_strength=0.25)) == (0.25, "")
    assert audio_mask(
        full_state(audio_conditioning_strength=1.0, metadata={"comfy_ltx2": {"audio_strength_is": "mask"}})
    ) == (1.0, "")
    assert audio_mask(full_state(audio_conditioning_strength=1.0, audio_latents=None)) == (1.0, "")
    assert audio_mask(full_state(audio_conditioning_strength=1.0, audio_conditioning_num_frames=0)) == (1.0, "")


def payload_of(**changes):
    payload = full_state().to_continuation_state().payload
    return {**payload, **changes}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"schema_version": 2}, "schema_version is 2, expected 1"),
        ({"schema_version": 1.5}, "schema_version is 1.5"),
        ({"schema_version": 1.0}, "schema_version"),
        ({"schema_version": "x" * 10**5}, "schema_version"),
        ({"segment_index": True}, "segment_index"),
        ({"segment_index": 1.5}, "segment_index"),
        ({"segment_index": None}, "segment_index"),
        ({"segment_index": 10**5000}, "segment_index"),
        ({"video_conditioning_strength": "0.5"}, "strength"),
        ({"video_conditioning_strength": 10**400}, "strength"),
        ({"video_position_offset_sec": 1e300}, "offset"),
        ({"audio_sample_rate": -1}, "sample_rate"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {"x": "y" * 70000}}, "payload.metadata.x"),
        ({"future": float("inf")}, "payload.future"),
        ({"video": {"frames_b64": ["ab cd#ef="]}}, r"frames_b64\[0\] is not base64"),
        ({"video": {"frames_b64": ["é"]}}, "base64"),
        ({"video": {"frames_b64": "abc"}}, "expected a list"),
        ({"video": {"blob_id": ""}}, "blob_id"),
        ({"video": {"frames_b64": ["AAAA"] * 258}}, "258 frames, expected at most 257"),
        ({"audio": {"safetensors_b64": 5}}, "expected base64 text"),
        ({"audio": {"safetensors_b64": base64.b64encode(b"\xff" * 40).decode()}}, "not a safetensors file"),
        ({"audio": {"safetensors_b64": base64.b64encode(b"PK\3\4" + b"\0" * 40).decode()}}, "not a safetensors file"),
    ],
)
def test_wrong_fields_are_refused_by_name(changes, words):
    envelope = read_envelope('{"kind": "ltx2.v1", "payload": {}}')
    envelope.payload.update(payload_of(**changes))
    with pytest.raises(ContinuationError, match=words) as caught:
        decode(envelope)
    assert len(str(caught.value)) < 400


def test_the_tensor_of_a_sound_is_found_by_its_name_or_because_it_is_alone():
    """What is read of an attached sound with these tensors: the latents, a note beside them, or a refusal."""

    def read(limits=StateLimits(), **tensors):  # noqa: B008 (frozen)
        text = base64.b64encode(safetensors.torch.save(tensors)).decode()
        payload = payload_of(audio={"safetensors_b64": text})
        envelope = dataclasses.replace(full_state().to_continuation_state(), payload=payload)
        return LTX2ContinuationState.decoded(envelope, limits=limits)

    latents, other = formula_latents(51), torch.zeros(1)
    named = next(iter(safetensors.torch.load(base64.b64decode(payload_of()["audio"]["safetensors_b64"]))))
    for tensors, noted in (
        ({named: latents}, ""),
        ({"x": latents}, ""),
        ({named: latents, "x": other}, "2 tensors; only"),
    ):
        state, notes = read(**tensors)
        assert torch.equal(state.audio_latents, latents) and noted in " ".join(notes)
    with pytest.raises(ContinuationError, match="holds the tensors .*, expected one named"):
        read(x=latents, y=other)
    with pytest.raises(ContinuationError, match=f"{latents.numel()} elements, expected at most 100"):
        read(StateLimits(audio_elements=100), **{named: latents})


def test_nesting_and_text_are_bounded():
    deep = {}
    for _ in range(40):
        deep = {"x": deep}
    with pytest.raises(ContinuationError, match="nested deeper than 16"):
        decode(read_envelope(json.dumps({"kind": "ltx2.v1", "payload": {"schema_version": 1, "metadata": deep}})))
    with pytest.raises(ContinuationError):
        read_envelope("[" * 200_000)
    with pytest.raises(ContinuationError, match="expected at most"):
        read_envelope("{}" * 50, limits=StateLimits(inline_bytes=10))
    for text in (b"\xff\xfe", b"", b"7", b"{", b'{"kind": "ltx2.v1", "payload": 1e999, }'):
        with pytest.raises(ContinuationError):
            read_envelope(text)


def test_whitespace_in_base64_is_let_through():
    payload = payload_of()
    text = payload["audio"]["safetensors_b64"]
    payload["audio"] = {"safetensors_b64": "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))}
    again = decode(dataclasses.replace(full_state().to_continuation_state(), payload=payload))
    assert torch.equal(again.audio_latents, full_state().audio_latents)


def test_frame_count_must_match_the_blob():
    store = InMemoryBlobStore()
    envelope = full_state().to_continuation_state(blob_store=store, inline_threshold_bytes=0)
    envelope.payload["video"]["frame_count"] = 8
    with pytest.raises(ContinuationError, match="frame_count is 8 but the blob holds 9"):
        decode(envelope, blob_store=store)
    with pytest.warns(Ltx2Warning):
        assert len(decode(envelope, blob_store=store, strict=False).video_frames) == 9
    store.drop(envelope.payload["video"]["blob_id"])
    with pytest.raises(BlobNotFoundError):
        decode(envelope, blob_store=store)


def test_the_public_surface_has_the_published_names_and_order():
    parameters = inspect.signature(LTX2ContinuationState).parameters
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [
        "segment_index",
        "video_frames",
        "video_frames_blob_id",
        "video_conditioning_frame_idx",
        "video_conditioning_strength",
        "audio_latents",
        "audio_latents_blob_id",
        "audio_sample_rate",
        "audio_conditioning_num_frames",
        "audio_conditioning_strength",
        "video_position_offset_sec",
        "metadata",
    ]
    assert LTX2ContinuationState().to_continuation_state().payload == {
        "schema_version": 1,
        "segment_index": 0,
        "video_conditioning_frame_idx": 0,
        "video_conditioning_strength": 1.0,
        "audio_conditioning_num_frames": 0,
        "audio_conditioning_strength": 1.0,
        "video_position_offset_sec": 0.0,
        "metadata": {},
    }
    assert write_envelope(LTX2ContinuationState().to_continuation_state()).startswith('{"kind": "ltx2.v1", "payload"')


def test_decoded_frames_cannot_be_written_to():
    frame = decode(full_state().to_continuation_state()).video_frames[0]
    with pytest.raises(ValueError):
        frame[0, 0] = 0
