"""``ltx2.v1`` payload → the fields of a typed state. Nothing is decoded before its size was checked."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from ..errors import BlobNotFoundError, ContinuationError
from .encoding import inline_bytes
from .format import (
    AUDIO,
    AUDIO_TENSOR,
    BLOB_ID,
    FRAME_COUNT,
    INLINE_AUDIO,
    INLINE_FRAMES,
    INLINE_MEMBERS,
    KNOWN_FIELDS,
    SAMPLE_RATE,
    SCALARS,
    VIDEO,
    External,
    UnknownFields,
)
from .frame_files import decode_frame, unpack_frames
from .limits import DEFAULT_LIMITS, StateLimits
from .stores.blobs import BlobStore
from .strict_json import check_plain, shown
from .tensors import all_finite, read_tensors
from .validation import Validator

_VIDEO, _AUDIO = f"payload.{VIDEO}", f"payload.{AUDIO}"
_PACKING = f"{_VIDEO}.{BLOB_ID}"


class _Content(NamedTuple):
    """What a member carries: the content or None, the blob id that stays unread or None, where it was read from, and
    whether content and id came together."""

    value: Any = None
    blob_id: str | None = None
    source: Any = None
    beside_id: bool = False


def decode(
    payload: Any,
    *,
    blob_store: BlobStore | None = None,
    strict: bool = True,
    limits: StateLimits = DEFAULT_LIMITS,
    external: External | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The constructor arguments of a typed state, and notes. ``external`` takes the place of inline content.

    Raises ContinuationError naming the field, BlobNotFoundError for an id the store does not hold.
    """
    external, check = external or External(), Validator(strict=strict, limits=limits)
    payload = _checked_payload(payload, check)
    fields = _scalars(payload, check)
    video = check.member(payload.get(VIDEO), _VIDEO)
    audio = check.member(payload.get(AUDIO), _AUDIO)
    frames = _video(video, external, blob_store, check)
    latents = _audio(audio, external, blob_store, check)
    if fields["audio_conditioning_num_frames"] and latents.value is None and latents.blob_id is None:
        check.note(
            "audio_conditioning_num_frames asks for a sound overlap but the state carries no latents; there will be "
            "none"
        )
    fields |= {
        "video_frames": frames.value,
        "video_frames_blob_id": frames.blob_id,
        "audio_latents": latents.value,
        "audio_latents_blob_id": latents.blob_id,
        "unknown_fields": UnknownFields(
            payload=_unknown(payload, KNOWN_FIELDS, "payload", check, depth=1),
            video=_unknown(video, _known_members(frames), _VIDEO, check, depth=2),
            audio=_unknown(audio, _known_members(latents) - {FRAME_COUNT}, _AUDIO, check, depth=2),
            video_source=frames.source,
            audio_source=latents.source,
            inline_beside_id=frozenset(
                member for member, found in ((VIDEO, frames), (AUDIO, latents)) if found.beside_id
            ),
        ),
    }
    return fields, tuple(check.notes)


def _checked_payload(payload, check: Validator) -> Mapping:
    if payload is None:
        check.note("payload is null and was read as empty")
        payload = {}
    if not isinstance(payload, Mapping):
        raise ContinuationError(f"payload is a {type(payload).__name__}, expected an object")
    inline, most = inline_bytes(payload), check.limits.inline_bytes
    if inline > most:
        raise ContinuationError(f"payload carries {inline} bytes inline, expected at most {most}")
    check.version(payload)
    return payload


def _scalars(payload: Mapping, check: Validator) -> dict[str, Any]:
    """The plain fields and the metadata."""
    metadata = payload.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, Mapping):
        if check.strict or metadata:
            raise ContinuationError(f"payload.metadata is a {type(metadata).__name__}, expected an object")
        metadata = {}
    metadata = dict(metadata)
    check_plain(metadata, "payload.metadata", check.limits, depth=1, finite=check.strict)
    fields: dict[str, Any] = {
        **{name: check.scalar(payload.get(name, rule[0]), f"payload.{name}", *rule) for name, rule in SCALARS.items()},
        "metadata": metadata,
    }
    if payload.get(SAMPLE_RATE) is not None:
        fields[SAMPLE_RATE] = check.integer(payload[SAMPLE_RATE], f"payload.{SAMPLE_RATE}", least=1)
    return fields


def _known_members(content: _Content) -> frozenset[str]:
    """Members of video and audio that are read; the frame count is carried along while the frames are in a store."""
    return frozenset({BLOB_ID, *INLINE_MEMBERS, *([] if content.blob_id is not None else [FRAME_COUNT])})


def _unknown(member: Mapping, known: frozenset[str], path: str, check: Validator, depth: int) -> dict[str, Any]:
    found = {key: value for key, value in member.items() if key not in known}
    check_plain(found, path, check.limits, depth=depth, finite=check.strict)
    return found


# --- pictures --------------------------------------------------------------------------------------------------------


def _video(video: Mapping, external: External, blob_store, check: Validator) -> _Content:
    blob_id = check.blob_id(video, _VIDEO)
    parts = _frame_parts(video, external, check)
    if blob_id is not None and parts is not None:
        used = "these were" if blob_store is None else "the blob was"
        check.note(f"{_VIDEO} has a blob id and inline frames; {used} used")
    if blob_id is not None and blob_store is not None:
        frames = _packed_frames(video, _fetch(blob_store, blob_id, _PACKING, check.limits), check)
        return _Content(frames, source=(blob_id, frames) if frames else None)
    frames = None if parts is None else _decode_frames(parts, check)
    return _Content(frames, blob_id, beside_id=blob_id is not None and frames is not None)


def _frame_parts(
    video: Mapping, external: External, check: Validator
) -> Iterable[tuple[str, bytes | memoryview]] | None:
    """Name and bytes of the frames that lie in or next to the payload, None when there are none."""
    if external.frames:
        return external.frames.items()
    inline, most = video.get(INLINE_FRAMES), check.limits.frames
    if inline is not None and not isinstance(inline, list):
        check.wrong(f"{_VIDEO}.{INLINE_FRAMES} is a {type(inline).__name__}, expected a list of base64 texts")
        return None
    if not inline:
        return None
    if len(inline) > most:
        raise ContinuationError(f"{_VIDEO}.{INLINE_FRAMES} holds {len(inline)} frames, expected at most {most}")
    return _inline_parts(inline, check)


def _packed_frames(video: Mapping, data: bytes, check: Validator) -> list | None:
    parts, rest = unpack_frames(data, _PACKING, check.limits)
    if rest:
        check.note(f"{_PACKING}: {rest} bytes after the last frame were ignored")
    count = video.get(FRAME_COUNT)
    if count is not None and (isinstance(count, bool) or count != len(parts)):
        check.wrong(f"{_VIDEO}.{FRAME_COUNT} is {shown(count)} but the blob holds {len(parts)} frames")
    return _decode_frames(((f"{_PACKING} frame {i}", part) for i, part in enumerate(parts)), check)


def _inline_parts(inline: list, check: Validator) -> Iterator[tuple[str, bytes | memoryview]]:
    """Name and bytes of each inline frame, one at a time: together they are as large as the message itself."""
    for index, text in enumerate(inline):
        path = f"{_VIDEO}.{INLINE_FRAMES}[{index}]"
        if isinstance(text, str):
            yield path, _from_base64(text, path)
        else:
            check.wrong(f"{path} is a {type(text).__name__}, expected base64 text")


def _decode_frames(parts: Iterable[tuple[str, bytes | memoryview]], check: Validator) -> list | None:
    frames, pixels = [], 0
    for path, part in parts:
        frame, note = decode_frame(part, path, check.limits, left=check.limits.total_pixels - pixels)
        if note:
            check.note(f"{path} is {note}")
        pixels += frame.shape[0] * frame.shape[1]
        frames.append(frame)
    return frames or None


# --- sound -----------------------------------------------------------------------------------------------------------


def _audio(audio: Mapping, external: External, blob_store, check: Validator) -> _Content:
    blob_id = check.blob_id(audio, _AUDIO)
    inline = audio.get(INLINE_AUDIO)
    if inline is not None and not isinstance(inline, str):
        check.wrong(f"{_AUDIO}.{INLINE_AUDIO} is a {type(inline).__name__}, expected base64 text")
        inline = None
    has_inline = inline is not None or external.latents is not None
    if blob_id is not None and has_inline:
        used = "these were" if blob_store is None else "the blob was"
        check.note(f"{_AUDIO} has a blob id and inline latents; {used} used")
    if blob_id is not None and blob_store is not None:
        path = f"{_AUDIO}.{BLOB_ID}"
        return _Content(_read_latents(_fetch(blob_store, blob_id, path, check.limits), path, check), source=blob_id)
    if external.latents is not None:
        latents = _checked_latents(external.latents, "the audio latents", check)
    elif inline is not None:
        path = f"{_AUDIO}.{INLINE_AUDIO}"
        latents = _read_latents(_from_base64(inline, path), path, check)
    else:
        latents = None
    return _Content(latents, blob_id, beside_id=blob_id is not None and latents is not None)


def _read_latents(data: bytes, path: str, check: Validator) -> torch.Tensor:
    most = check.limits.audio_elements
    # one byte an element at least, and the header besides
    if len(data) > most * 8 + 2**20:
        raise ContinuationError(f"{path} is {len(data)} bytes, expected at most {most} elements")
    tensors = read_tensors(data, path)
    if AUDIO_TENSOR in tensors:
        latents = tensors[AUDIO_TENSOR]
        if len(tensors) > 1:
            check.note(f"{path} holds {len(tensors)} tensors; only {AUDIO_TENSOR!r} was read")
    elif len(tensors) == 1:
        (latents,) = tensors.values()
    else:
        names = shown(sorted(tensors)[:5])
        raise ContinuationError(f"{path} holds the tensors {names}, expected one named {AUDIO_TENSOR!r}")
    return _checked_latents(latents, path, check)


def _checked_latents(latents: torch.Tensor, path: str, check: Validator) -> torch.Tensor:
    most = check.limits.audio_elements
    if latents.numel() > most:
        raise ContinuationError(f"{path}: {latents.numel()} elements, expected at most {most}")
    if latents.ndim != 4:
        check.wrong(f"{path}: a tensor of shape {shown(list(latents.shape))}, expected four dimensions [B, C, T, F]")
    if not latents.is_floating_point():
        check.wrong(f"{path}: {latents.dtype} values, expected floating point")
    if not all_finite(latents):
        check.wrong(f"{path}: NaN or infinite values, which would spoil the whole next segment")
    return latents


# --- bytes -----------------------------------------------------------------------------------------------------------


def _fetch(blob_store, blob_id: str, path: str, limits: StateLimits) -> bytes:
    try:
        data = blob_store.get(blob_id)
    except BlobNotFoundError:
        raise
    except KeyError as error:
        raise BlobNotFoundError(f"{path} names the blob {shown(blob_id)}, which the store does not hold") from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ContinuationError(f"{path}: the store gave a {type(data).__name__}, expected the bytes of a blob")
    if len(data) > limits.blob_bytes:
        raise ContinuationError(f"{path} is a blob of {len(data)} bytes, expected at most {limits.blob_bytes}")
    return data  # type: ignore[return-value]  # whatever it is, it reads as bytes do


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
