"""Every published vector decodes to the stated hashes, and every malformed one behaves as its advice says."""

import json
import warnings

import pytest

from ltx2.continuation import LTX2ContinuationState, read_envelope, write_envelope
from ltx2.errors import BlobNotFoundError, ContinuationError, Ltx2Warning

from .vectors import DATA, MALFORMED, VALID, blobs_of, described

BY_NAME = {v["name"]: v for v in MALFORMED}
# What each borderline vector that is read must warn about; None: read without a word.
ACCEPTED = {
    "m04_payload_null": "read as empty",
    "m06_schema_version_missing": "schema_version is missing",
    "m10_schema_version_text_1": None,
    "m12_audio_sample_rate_null": None,
    "m17_metadata_null": None,
    "m20_unknown_key": None,
    "m23_frames_empty_list": None,
    "m29_frame_jpeg": "lossy",
    "m30_frame_rgba": "RGBA",
    "m31_frame_gray": "gray",
    "m32_frame_palette": "palette",
    "m39_packed_trailing_bytes": "after the last frame",
    "m40_packed_zero_frames": None,
    "m43_blob_and_inline": "blob id and inline frames",
    "m50_audio_missing_key_t": None,
    "m51_audio_extra_keys": "holds 2 tensors",
    "m57_audio_num_frames_without_latents": "carries no latents",
}
# What the published reader lets pass and a forgiving reader only warns about.
LENIENT = {
    "m13_strength_out_of_range",
    "m14_strength_nan",
    "m15_negative_indices",
    "m21_video_not_object",
    "m24_frames_with_null",
    "m44_blob_id_not_text",
    "m46_audio_not_object",
    "m52_audio_wrong_rank",
    "m54_audio_nan",
}


def read(vector, *, store=None, strict=True):
    envelope = read_envelope((DATA / vector["file"]).read_bytes(), vector["name"], strict=strict)
    return LTX2ContinuationState.from_continuation_state(envelope, blob_store=store, strict=strict)


def names(vector):
    return vector["name"]


@pytest.mark.parametrize("vector", VALID, ids=names)
def test_valid_vectors_decode_to_the_stated_content(vector):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "audio_conditioning_num_frames asks")  # v02 has a count and no latents
        assert described(read(vector, store=blobs_of(vector) if vector["blobs"] else None)) == vector["reference"]["ok"]
        if "reference_without_store" in vector:
            assert described(read(vector)) == vector["reference_without_store"]["ok"]


@pytest.mark.parametrize("vector", VALID, ids=names)
@pytest.mark.filterwarnings("ignore:audio_conditioning_num_frames asks")
def test_pass_through_keeps_everything(vector):
    payload = json.loads((DATA / vector["file"]).read_bytes())["payload"]
    state = read(vector)
    again = state.to_continuation_state().payload
    assert list(again) == list(payload)
    without_pictures = {
        key: value for key, value in payload.items() if "frames_b64" not in payload.get("video", {}) or key != "video"
    }
    assert {key: again[key] for key in without_pictures} == without_pictures  # sound and ids to the byte
    envelope = read_envelope(write_envelope(state.to_continuation_state()))
    assert described(LTX2ContinuationState.from_continuation_state(envelope)) == described(state)


@pytest.mark.parametrize("vector", MALFORMED, ids=names)
def test_malformed_vectors_behave_as_advised(vector):
    name, store = vector["name"], blobs_of(vector)
    if name in ACCEPTED:
        assert (
            "accept" in vector["advice"] or "treat as no frames" in vector["advice"] or "blob wins" in vector["advice"]
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state = read(vector, store=store)
        if ACCEPTED[name] is None:
            assert not caught
        else:
            assert any(ACCEPTED[name] in str(w.message) and w.category is Ltx2Warning for w in caught), caught
        if "ok" in vector["reference"] and name not in ("m40_packed_zero_frames",):
            assert described(state) == vector["reference"]["ok"]
        elif name == "m50_audio_missing_key_t":
            assert state.audio_latents.shape == (1, 8, 3, 16)
        else:
            assert state.video_frames is None and state.audio_sample_rate is None
    else:
        expected = BlobNotFoundError if name == "m42_blob_unknown_id" else ContinuationError
        with pytest.raises(expected) as caught:
            read(vector, store=store)
        message = str(caught.value)
        assert len(message) < 300 and "\n" not in message
        assert "payload" in message or "kind" in message or name == "m14_strength_nan"
    # whatever happens, only our own kinds of errors come out
    for keywords in ({}, {"store": store}, {"strict": False}, {"store": store, "strict": False}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read(vector, **keywords)
                assert name in ACCEPTED or name in LENIENT or "store" not in keywords
            except (ContinuationError, TypeError):
                assert name not in ACCEPTED and (name not in LENIENT or "strict" not in keywords)


@pytest.mark.parametrize("name", sorted(LENIENT))
def test_lenient_reading_warns_and_does_as_the_published_reader(name):
    vector = BY_NAME[name]
    with pytest.warns(Ltx2Warning):
        state = read(vector, store=blobs_of(vector), strict=False)
    assert described(state) == vector["reference"]["ok"]


def test_blob_and_inline_frames_without_a_store():
    with pytest.warns(Ltx2Warning, match="these were used"):
        state = read(BY_NAME["m43_blob_and_inline"])
    assert len(state.video_frames) == 1 and state.video_frames_blob_id == "3" * 32
    again = state.to_continuation_state()
    assert again.payload["video"]["blob_id"] == "3" * 32  # both go on, so that nothing is lost
    with pytest.warns(Ltx2Warning, match="these were used"):
        assert described(LTX2ContinuationState.from_continuation_state(again)) == described(state)


def test_kind_and_version_errors_name_both_values():
    for name, found in (("m01_wrong_kind", "longcat.v1"), ("m03_kind_case", "LTX2.v1")):
        with pytest.raises(ContinuationError, match=rf"'{found}', expected 'ltx2.v1'"):
            read(BY_NAME[name])
    with pytest.raises(ContinuationError, match="schema_version is 999, expected 1"):
        read(BY_NAME["m07_schema_version_999"])
    with pytest.raises(KeyError):
        read(BY_NAME["m42_blob_unknown_id"], store=blobs_of(BY_NAME["m42_blob_unknown_id"]))


def test_unknown_members_are_written_back():
    state = read(BY_NAME["m20_unknown_key"])
    assert state.to_continuation_state().payload["future_field"] == {"x": 1}
