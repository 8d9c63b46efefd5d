"""Typed state → ``ltx2.v1`` payload. Knows values and pictures only, so that a service in the middle needs no
networks."""

import binascii
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import ContinuationError
from .format import (
    AUDIO,
    AUDIO_MIME,
    AUDIO_TENSOR,
    BLOB_ID,
    FRAME_COUNT,
    INLINE_AUDIO,
    INLINE_FRAMES,
    INLINE_MEMBERS,
    KNOWN_FIELDS,
    LTX2_CONTINUATION_SCHEMA_VERSION,
    SAMPLE_RATE,
    SCALARS,
    VIDEO,
    VIDEO_MIME,
)
from .frame_files import check_frame, encode_png, pack_frames
from .limits import DEFAULT_LIMITS, StateLimits
from .stores.blobs import BlobStore
from .strict_json import check_plain
from .tensors import all_finite, as_tensor, write_tensors
from .validation import Validator


def encode(
    state: Any,
    *,
    blob_store: BlobStore | None = None,
    inline_threshold_bytes: int,
    limits: StateLimits = DEFAULT_LIMITS,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The payload of a typed state, plain JSON data that decodes to the same state, and notes.

    Raises TypeError for a frame or latent that is no array, ContinuationError for anything a reader would refuse.
    """
    check = Validator(strict=True, limits=limits)
    payload = _scalars(state, check)
    unknown = state.unknown_fields
    payload.update({key: value for key, value in unknown.payload.items() if key not in KNOWN_FIELDS})
    video = _video(state, blob_store, inline_threshold_bytes, check)
    if video or unknown.video:
        payload[VIDEO] = _member(video or {}, unknown.video)
    audio = _audio(state, blob_store, inline_threshold_bytes, check)
    if audio or unknown.audio:
        payload[AUDIO] = _member(audio or {}, unknown.audio)
    inline = inline_bytes(payload)
    if inline > limits.inline_warning_bytes:
        check.note(f"the state carries {inline / 2**20:.0f} MiB inline, give a blob store to keep it small")
    return payload, tuple(check.notes)


def _scalars(state, check: Validator) -> dict[str, Any]:
    metadata = {} if state.metadata is None else state.metadata
    if not isinstance(metadata, Mapping):
        raise ContinuationError(f"metadata is a {type(metadata).__name__}, expected an object")
    check_plain(dict(metadata), "metadata", check.limits, depth=1)
    payload: dict[str, Any] = {
        "schema_version": LTX2_CONTINUATION_SCHEMA_VERSION,
        **{name: check.scalar(getattr(state, name), name, *rule) for name, rule in SCALARS.items()},
        "metadata": dict(metadata),
    }
    if state.audio_sample_rate is not None:
        payload[SAMPLE_RATE] = check.integer(state.audio_sample_rate, SAMPLE_RATE, least=1)
    return payload


def _member(written: dict, unknown_fields: Mapping) -> dict:
    """A member as written, with what a reader carried along; the frame count only stands beside the blob it counted."""
    return written | {
        key: value
        for key, value in unknown_fields.items()
        if key not in written and (key != FRAME_COUNT or BLOB_ID in written)
    }


def _video(state, blob_store, threshold: int, check: Validator) -> dict | None:
    frames, blob_id = state.video_frames, state.video_frames_blob_id
    if frames is None or len(frames) == 0:
        return None if blob_id is None else {BLOB_ID: _blob_id(blob_id, "video_frames_blob_id")}
    if blob_id is not None and not content_beside_id(state, VIDEO):
        check.note("video_frames are not written, since video_frames_blob_id names where they are")
        return {BLOB_ID: _blob_id(blob_id, "video_frames_blob_id")}
    frames_checked = [check_frame(frame, f"video_frames[{i}]") for i, frame in enumerate(frames)]
    if blob_id is not None:
        written = {BLOB_ID: _blob_id(blob_id, "video_frames_blob_id")}
        return written | {INLINE_FRAMES: [_base64(encode_png(frame)) for frame in frames_checked]}
    source = state.unknown_fields.video_source
    if blob_store is not None and source and source[1] is frames and source[0] in blob_store:
        return {BLOB_ID: source[0], FRAME_COUNT: len(frames)}
    if blob_store is None:
        return {INLINE_FRAMES: [_base64(encode_png(frame)) for frame in frames_checked]}
    pngs = [encode_png(frame) for frame in frames_checked]
    if sum(map(len, pngs)) > threshold:
        return {BLOB_ID: blob_store.put(pack_frames(pngs), mime=VIDEO_MIME), FRAME_COUNT: len(pngs)}
    return {INLINE_FRAMES: [_base64(png) for png in pngs]}


def _audio(state, blob_store, threshold: int, check: Validator) -> dict | None:
    latents, blob_id = state.audio_latents, state.audio_latents_blob_id
    if latents is None:
        return None if blob_id is None else {BLOB_ID: _blob_id(blob_id, "audio_latents_blob_id")}
    if blob_id is not None and not content_beside_id(state, AUDIO):
        check.note("audio_latents are not written, since audio_latents_blob_id names where they are")
        return {BLOB_ID: _blob_id(blob_id, "audio_latents_blob_id")}
    latents = checked_audio(latents, check)
    data = write_tensors({AUDIO_TENSOR: latents})
    if blob_id is not None:
        return {BLOB_ID: _blob_id(blob_id, "audio_latents_blob_id"), INLINE_AUDIO: _base64(data)}
    if blob_store is not None and len(data) > threshold:
        source = state.unknown_fields.audio_source
        if source is not None and source in blob_store and blob_store.get(source) == data:
            return {BLOB_ID: source}
        return {BLOB_ID: blob_store.put(data, mime=AUDIO_MIME)}
    return {INLINE_AUDIO: _base64(data)}


def content_beside_id(state: Any, member: str) -> bool:
    """Whether content stands beside a blob id because it came so: then both go on. Otherwise the id alone does."""
    return member in state.unknown_fields.inline_beside_id


def checked_audio(latents: Any, check: Validator) -> torch.Tensor:
    """Audio latents as a tensor. Raises ContinuationError for values that would spoil the next segment, TypeError for
    what is no array."""
    latents = as_tensor(latents, "audio_latents")
    if not all_finite(latents):
        raise ContinuationError("audio_latents hold NaN or infinite values, which would spoil the whole next segment")
    if latents.ndim != 4 or not latents.is_floating_point():
        check.note(
            f"audio_latents are {latents.dtype} {list(latents.shape)}; readers expect floating-point [B, C, T, F]"
        )
    return latents


def inline_bytes(payload: Mapping) -> int:
    """Characters of base64 in a payload, whatever else is wrong with it."""
    total = 0
    for member in (VIDEO, AUDIO):
        content = payload.get(member)
        for name in INLINE_MEMBERS:
            value = content.get(name) if isinstance(content, Mapping) else None
            total += sum(len(item) for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
    return total


def _blob_id(value, path: str) -> str:
    if not isinstance(value, str):
        raise ContinuationError(f"{path} is a {type(value).__name__}, expected text")
    return value


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")
