"""Typed state ↔ ``ltx2.v1`` payload. Knows values and pictures only, so that a service in the middle needs no
networks."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import BlobNotFoundError, ContinuationError
from .frame_files import check_frame, decode_frame, encode_png, pack_frames, unpack_frames
from .limits import DEFAULT_LIMITS, StateLimits
from .strict_json import INLINE_MEMBERS, check_plain
from .tensors import all_finite, as_tensor, read_tensors, write_tensors
from .validation import SCHEMA_VERSION, Validator, warn

LTX2_CONTINUATION_KIND = "ltx2.v1"
LTX2_CONTINUATION_SCHEMA_VERSION = SCHEMA_VERSION
# 2 MiB: below what one JSON message may usually hold
DEFAULT_INLINE_THRESHOLD_BYTES = 2 * 1024 * 1024
VIDEO_MIME = "application/x-fastvideo-frames+png"
AUDIO_MIME = "application/x-fastvideo-tensor+safetensors"
AUDIO_TENSOR = "t"

# The plain fields in the order they are written: default and largest value (None: as far as the check goes).
_SCALARS: dict[str, tuple[int | float, float | None]] = {
    "segment_index": (0, None),
    "video_conditioning_frame_idx": (0, None),
    "video_conditioning_strength": (1.0, 1.0),
    "audio_conditioning_num_frames": (0, None),
    "audio_conditioning_strength": (1.0, 1.0),
    "video_position_offset_sec": (0.0, None),
}
_KNOWN = {"schema_version", *_SCALARS, "metadata", "audio_sample_rate", "video", "audio"}
_PACKING = "payload.video.blob_id"


@dataclass(frozen=True)
class UnknownFields:
    """What a payload held besides the known fields, and which blobs its content came from.

    payload, video, audio: unknown members of each level (``frame_count`` counts as one while the frames are in a
    store).
    video_source: blob id and the very list of frames read from it; audio_source: blob id. Encoding the same content
    into the same store again reuses them.
    """

    payload: Mapping[str, Any] = field(default_factory=dict)
    video: Mapping[str, Any] = field(default_factory=dict)
    audio: Mapping[str, Any] = field(default_factory=dict)
    video_source: tuple[str, list] | None = None
    audio_source: str | None = None


@dataclass(frozen=True)
class External:
    """Content that lies next to a payload instead of in it: encoded frames by the name to use in messages, and the
    latents."""

    frames: Mapping[str, bytes] = field(default_factory=dict)
    latents: torch.Tensor | None = None


# --- encode
# ------------------------------------------------------------------------------------------------------------


def encode(
    state, *, blob_store=None, inline_threshold_bytes: int, limits: StateLimits = DEFAULT_LIMITS
) -> dict[str, Any]:
    """The payload of a typed state: plain JSON data that decodes to the same state.

    Raises TypeError for a frame or latent that is no array, ContinuationError for anything a reader would refuse.
    """
    check = Validator(strict=True, limits=limits)
    metadata = {} if state.metadata is None else state.metadata
    if not isinstance(metadata, Mapping):
        raise ContinuationError(f"metadata is a {type(metadata).__name__}, expected an object")
    check_plain(dict(metadata), "metadata", limits, depth=1)
    payload: dict[str, Any] = {
        "schema_version": LTX2_CONTINUATION_SCHEMA_VERSION,
        **{name: check.scalar(getattr(state, name), name, *rule) for name, rule in _SCALARS.items()},
        "metadata": dict(metadata),
    }
    if state.audio_sample_rate is not None:
        payload["audio_sample_rate"] = check.integer(state.audio_sample_rate, "audio_sample_rate", least=1)
    unknown_fields = state.unknown_fields
    payload.update({key: value for key, value in unknown_fields.payload.items() if key not in _KNOWN})
    video = _encode_video(state, blob_store, inline_threshold_bytes)
    if video or unknown_fields.video:
        payload["video"] = _member(video or {}, unknown_fields.video)
    audio = _encode_audio(state, blob_store, inline_threshold_bytes)
    if audio or unknown_fields.audio:
        payload["audio"] = _member(audio or {}, unknown_fields.audio)
    inline = _inline_bytes(payload)
    if inline > limits.inline_warning_bytes:
        warn(f"the state carries {inline / 2**20:.0f} MiB inline, give a blob store to keep it small")
    return payload


def _member(written: dict, unknown_fields: Mapping) -> dict:
    """A member as written, with what a reader carried along; the frame count only stands beside the blob it counted."""
    return written | {
        key: value
        for key, value in unknown_fields.items()
        if key not in written and (key != "frame_count" or "blob_id" in written)
    }


def _encode_video(state, blob_store, threshold: int) -> dict | None:
    if state.video_frames_blob_id is not None:
        return {"blob_id": _blob_id(state.video_frames_blob_id, "video_frames_blob_id")}
    frames = state.video_frames
    if frames is None or len(frames) == 0:
        return None
    frames_checked = [check_frame(frame, f"video_frames[{i}]") for i, frame in enumerate(frames)]
    source = state.unknown_fields.video_source
    if blob_store is not None and source and source[1] is frames and source[0] in blob_store:
        return {"blob_id": source[0], "frame_count": len(frames)}
    if blob_store is None:
        return {"frames_b64": [_base64(encode_png(frame)) for frame in frames_checked]}
    pngs = [encode_png(frame) for frame in frames_checked]
    if sum(map(len, pngs)) > threshold:
        return {"blob_id": blob_store.put(pack_frames(pngs), mime=VIDEO_MIME), "frame_count": len(pngs)}
    return {"frames_b64": [_base64(png) for png in pngs]}


def _encode_audio(state, blob_store, threshold: int) -> dict | None:
    if state.audio_latents_blob_id is not None:
        return {"blob_id": _blob_id(state.audio_latents_blob_id, "audio_latents_blob_id")}
    if state.audio_latents is None:
        return None
    latents = as_tensor(state.audio_latents, "audio_latents")
    if not all_finite(latents):
        raise ContinuationError("audio_latents hold NaN or infinite values, which would spoil the whole next segment")
    if latents.ndim != 4 or not latents.is_floating_point():
        warn(f"audio_latents are {latents.dtype} {list(latents.shape)}; readers expect floating-point [B, C, T, F]")
    data = write_tensors({AUDIO_TENSOR: latents})
    if blob_store is not None and len(data) > threshold:
        source = state.unknown_fields.audio_source
        if source is not None and source in blob_store and blob_store.get(source) == data:
            return {"blob_id": source}
        return {"blob_id": blob_store.put(data, mime=AUDIO_MIME)}
    return {"safetensors_b64": _base64(data)}


def _blob_id(value, path: str) -> str:
    if not isinstance(value, str):
        raise ContinuationError(f"{path} is a {type(value).__name__}, expected text")
    return value


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


# --- decode
# ------------------------------------------------------------------------------------------------------------


def decode(
    payload,
    *,
    blob_store=None,
    strict: bool = True,
    limits: StateLimits = DEFAULT_LIMITS,
    external: External | None = None,
) -> dict[str, Any]:
    """The constructor arguments of a typed state; ``external`` wins over what the payload holds or names.

    Raises ContinuationError naming the field, BlobNotFoundError for an id the store does not hold.
    """
    external = external or External()
    validator = Validator(strict=strict, limits=limits)
    if payload is None:
        validator.note("payload is null and was read as empty")
        payload = {}
    if not isinstance(payload, Mapping):
        raise ContinuationError(f"payload is a {type(payload).__name__}, expected an object")
    inline = _inline_bytes(payload)
    if inline > limits.inline_bytes:
        raise ContinuationError(f"payload carries {inline} bytes inline, expected at most {limits.inline_bytes}")
    validator.version(payload)
    get = payload.get
    metadata = get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, Mapping):
        if strict or metadata:
            raise ContinuationError(f"payload.metadata is a {type(metadata).__name__}, expected an object")
        metadata = {}
    unknown = {key: value for key, value in payload.items() if key not in _KNOWN}
    for path, value in (("payload.metadata", dict(metadata)), ("payload", unknown)):
        check_plain(value, path, limits, depth=1, finite=strict)
    fields: dict[str, Any] = {
        **{name: validator.scalar(get(name, rule[0]), f"payload.{name}", *rule) for name, rule in _SCALARS.items()},
        "metadata": dict(metadata),
    }
    if get("audio_sample_rate") is not None:
        fields["audio_sample_rate"] = validator.integer(
            payload["audio_sample_rate"], "payload.audio_sample_rate", least=1
        )
    video = validator.member(get("video"), "payload.video")
    audio = validator.member(get("audio"), "payload.audio")
    if external.frames:
        frames, frames_id, video_source = _decode_frames(external.frames.items(), validator), None, None
    else:
        frames, frames_id, video_source = _decode_video(video, blob_store, validator)
    if external.latents is not None:
        latents, latents_id, audio_source = (
            _checked_latents(external.latents, "the audio latents", validator),
            None,
            None,
        )
    else:
        latents, latents_id, audio_source = _decode_audio(audio, blob_store, validator)
    if fields["audio_conditioning_num_frames"] and latents is None and latents_id is None:
        validator.note(
            "audio_conditioning_num_frames asks for a sound overlap but the state carries no latents; there will be "
            "none"
        )
    unknown_fields = UnknownFields(
        payload=unknown,
        video={
            k: v
            for k, v in video.items()
            if k not in ("blob_id", *INLINE_MEMBERS) and (k != "frame_count" or frames_id is not None)
        },
        audio={k: v for k, v in audio.items() if k not in ("blob_id", *INLINE_MEMBERS)},
        video_source=video_source,
        audio_source=audio_source,
    )
    check_plain(unknown_fields.video, "payload.video", limits, depth=2, finite=strict)
    check_plain(unknown_fields.audio, "payload.audio", limits, depth=2, finite=strict)
    return {
        **fields,
        "video_frames": frames,
        "video_frames_blob_id": frames_id,
        "audio_latents": latents,
        "audio_latents_blob_id": latents_id,
        "unknown_fields": unknown_fields,
    }


def _decode_video(video: Mapping, blob_store, validator: Validator):
    """Frames or None, blob id or None, and the source to remember."""
    blob_id = validator.blob_id(video, "payload.video")
    inline = video.get("frames_b64")
    if inline is not None and not isinstance(inline, list):
        validator.wrong(f"payload.video.frames_b64 is a {type(inline).__name__}, expected a list of base64 texts")
        inline = None
    if blob_id is not None and inline:
        validator.note(
            "payload.video has a blob id and inline frames; "
            f"{'these were' if blob_store is None else 'the blob was'} used"
        )
    if blob_id is not None and blob_store is not None:
        data = _fetch(blob_store, blob_id, "payload.video.blob_id", validator.limits)
        parts, rest = unpack_frames(data, _PACKING, validator.limits)
        if rest:
            validator.note(f"{_PACKING}: {rest} bytes after the last frame were ignored")
        count = video.get("frame_count")
        if count is not None and (isinstance(count, bool) or count != len(parts)):
            validator.wrong(f"payload.video.frame_count is {count!r} but the blob holds {len(parts)} frames")
        frames = _decode_frames(((f"{_PACKING} frame {i}", part) for i, part in enumerate(parts)), validator)
        return frames, None, (blob_id, frames) if frames else None
    frames = None
    if inline:
        if len(inline) > validator.limits.frames:
            raise ContinuationError(
                f"payload.video.frames_b64 holds {len(inline)} frames, expected at most {validator.limits.frames}"
            )
        frames = _decode_frames(_inline_parts(inline, validator), validator)
    return frames, blob_id, None


def _inline_parts(inline: list, validator: Validator) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each inline frame, one at a time: together they are as large as the message itself."""
    for index, text in enumerate(inline):
        path = f"payload.video.frames_b64[{index}]"
        if isinstance(text, str):
            yield path, _from_base64(text, path)
        else:
            validator.wrong(f"{path} is a {type(text).__name__}, expected base64 text")


def _decode_frames(parts: Iterable[tuple[str, bytes]], validator: Validator) -> list | None:
    frames, pixels = [], 0
    for path, part in parts:
        frame, note = decode_frame(part, path, validator.limits)
        if note:
            validator.note(f"{path} is {note}")
        pixels += frame.shape[0] * frame.shape[1]
        if pixels > validator.limits.total_pixels:
            raise ContinuationError(
                f"{path}: {pixels} px in the frames so far, expected at most {validator.limits.total_pixels} in all"
            )
        frames.append(frame)
    return frames or None


def _decode_audio(audio: Mapping, blob_store, validator: Validator):
    """Latents or None, blob id or None, and the source to remember."""
    blob_id = validator.blob_id(audio, "payload.audio")
    inline = audio.get("safetensors_b64")
    if inline is not None and not isinstance(inline, str):
        validator.wrong(f"payload.audio.safetensors_b64 is a {type(inline).__name__}, expected base64 text")
        inline = None
    if blob_id is not None and inline is not None:
        validator.note(
            "payload.audio has a blob id and inline latents; "
            f"{'these were' if blob_store is None else 'the blob was'} used"
        )
    if blob_id is not None and blob_store is not None:
        path = "payload.audio.blob_id"
        return _read_latents(_fetch(blob_store, blob_id, path, validator.limits), path, validator), None, blob_id
    if inline is None:
        return None, blob_id, None
    path = "payload.audio.safetensors_b64"
    return _read_latents(_from_base64(inline, path), path, validator), blob_id, None


def _read_latents(data: bytes, path: str, validator: Validator) -> torch.Tensor:
    # one byte an element at least, and the header besides
    if len(data) > validator.limits.audio_elements * 8 + 2**20:
        raise ContinuationError(
            f"{path} is {len(data)} bytes, expected at most {validator.limits.audio_elements} elements"
        )
    tensors = read_tensors(data, path)
    if AUDIO_TENSOR in tensors:
        latents = tensors[AUDIO_TENSOR]
        if len(tensors) > 1:
            validator.note(f"{path} holds {len(tensors)} tensors; only {AUDIO_TENSOR!r} was read")
    elif len(tensors) == 1:
        (latents,) = tensors.values()
    else:
        raise ContinuationError(f"{path} holds the tensors {sorted(tensors)[:5]}, expected one named {AUDIO_TENSOR!r}")
    return _checked_latents(latents, path, validator)


def _checked_latents(latents: torch.Tensor, path: str, validator: Validator) -> torch.Tensor:
    if latents.numel() > validator.limits.audio_elements:
        raise ContinuationError(
            f"{path}: {latents.numel()} elements, expected at most {validator.limits.audio_elements}"
        )
    if latents.ndim != 4:
        validator.wrong(f"{path}: a tensor of shape {list(latents.shape)}, expected four dimensions [B, C, T, F]")
    if not latents.is_floating_point():
        validator.wrong(f"{path}: {latents.dtype} values, expected floating point")
    if not all_finite(latents):
        validator.wrong(f"{path}: NaN or infinite values, which would spoil the whole next segment")
    return latents


def _fetch(blob_store, blob_id: str, path: str, limits: StateLimits) -> bytes:
    try:
        data = blob_store.get(blob_id)
    except BlobNotFoundError:
        raise
    except KeyError as error:
        raise BlobNotFoundError(f"{path} names the blob {blob_id[:140]!r}, which the store does not hold") from error
    if len(data) > limits.blob_bytes:
        raise ContinuationError(f"{path} is a blob of {len(data)} bytes, expected at most {limits.blob_bytes}")
    return data


def _from_base64(text: str, path: str) -> bytes:
    """Standard base64 with padding; ASCII whitespace is let through, anything else refused. Raises
    ContinuationError."""
    try:
        data = binascii.a2b_base64(text)
        # this decoder skips what is not base64, so anything skipped shows as missing bytes
        if len(data) != len(text) // 4 * 3 - text.count("=", -2) or len(text) % 4:
            data = base64.b64decode("".join(text.split()), validate=True)
        return data
    except ValueError as error:
        raise ContinuationError(f"{path} is not base64 text: {error}") from error


def _inline_bytes(payload: Mapping) -> int:
    """Characters of base64 in a payload, whatever else is wrong with it."""
    total = 0
    for member in ("video", "audio"):
        content = payload.get(member)
        for name in INLINE_MEMBERS:
            value = content.get(name) if isinstance(content, Mapping) else None
            total += sum(len(item) for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
    return total
