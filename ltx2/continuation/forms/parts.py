"""A state taken apart for its files: the envelope without its content, the frames as PNG, the latents, and the texts
beside them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import ContinuationError
from ..encoding import content_beside_id
from ..format import AUDIO, VIDEO, External
from ..frame_files import check_frame, encode_png
from ..limits import StateLimits
from ..state import ContinuationState, LTX2ContinuationState
from ..strict_json import shown, write_json
from ..tensors import as_tensor

# What a form itself keeps beside the texts, which no text may be called.
KIND, PAYLOAD, ATTACHMENT, VERSION, SHA256 = "kind", "payload", "attachment", "attachment_version", "sha256"
RESERVED = (KIND, PAYLOAD, ATTACHMENT, VERSION, SHA256)
FRAME_NAME = "frame_{:03d}"


@dataclass(frozen=True)
class AttachmentParts:
    """envelope: with ids and plain fields alone; pngs: the frames, each a file; notes: what writing made of the
    state."""

    envelope: ContinuationState
    pngs: list[bytes]
    latents: torch.Tensor | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadParts:
    """What a form held, not decoded yet."""

    envelope: ContinuationState
    external: External | None
    texts: dict[str, str]
    notes: tuple[str, ...] = ()


def take_apart(state: LTX2ContinuationState, limits: StateLimits) -> AttachmentParts:
    """Raises ContinuationError and TypeError for content that no reader would take."""
    bare = dataclasses.replace(state, video_frames=None, audio_latents=None)
    envelope, notes = bare.encoded(limits=limits)
    frames = state.video_frames if state.video_frames is not None and _written(state, VIDEO) else []
    if len(frames) > limits.frames:
        raise ContinuationError(f"the state carries {len(frames)} frames, expected at most {limits.frames}")
    latents = state.audio_latents if _written(state, AUDIO) else None
    return AttachmentParts(
        envelope,
        [encode_png(check_frame(frame, f"video_frames[{i}]")) for i, frame in enumerate(frames)],
        None if latents is None else as_tensor(latents, "audio_latents").contiguous(),
        notes,
    )


def _written(state: LTX2ContinuationState, member: str) -> bool:
    """Whether content is written: beside an id only where it came so."""
    blob_id = state.video_frames_blob_id if member == VIDEO else state.audio_latents_blob_id
    return blob_id is None or content_beside_id(state, member)


def check_texts(texts: Mapping[str, Any] | None, limits: StateLimits) -> dict[str, str]:
    """Texts to write, what is no text as JSON. Raises ContinuationError for names and texts that cannot be kept."""
    for key in texts or {}:
        if not isinstance(key, str) or key in RESERVED:
            raise ContinuationError(f"a text of an attachment is named {shown(key)}, which the state itself uses")
    written = {key: value if isinstance(value, str) else write_json(value, key) for key, value in (texts or {}).items()}
    try:
        size = sum(len(f"{key}{value}".encode()) for key, value in written.items())
    except UnicodeEncodeError as error:
        raise ContinuationError("a text beside the state holds half a character (a lone surrogate)") from error
    if size > limits.workflow_bytes:
        raise ContinuationError(
            f"the texts beside the state have {size} bytes, expected at most {limits.workflow_bytes}"
        )
    return written


def own_texts(found: Mapping[str, Any], limits: StateLimits) -> dict[str, str]:
    """The texts among what a file said. Raises ContinuationError when they are too long."""
    texts = {key: value for key, value in found.items() if key not in RESERVED and isinstance(value, str)}
    if sum(len(value) for value in texts.values()) > limits.workflow_bytes:
        raise ContinuationError(f"the texts beside the state are longer than {limits.workflow_bytes} bytes")
    return texts


def check_version(found: object, name: str, expected: int) -> None:
    """Raises ContinuationError unless a form's version is the one that is read here."""
    if str(found)[:20] != str(expected):
        raise ContinuationError(
            f"{name} has attachment version {shown(found)}, expected {expected}: written by another version"
        )
