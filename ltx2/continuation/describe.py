"""States and attachments in words and hashes, for the command line and for comparing two of them."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from .attachments import load_attachment
from .format import LTX2_CONTINUATION_KIND, LTX2_CONTINUATION_SCHEMA_VERSION
from .limits import DEFAULT_LIMITS, StateLimits
from .state import LTX2ContinuationState
from .stores.blobs import BlobStore


def describe_state(state: LTX2ContinuationState) -> dict[str, Any]:
    """All fields of a state as plain JSON data.

    video: count, shapes, dtype and SHA-256 of the pixels (C order, [H, W, 3]) of each frame and of all back to back.
    audio: dtype, shape and SHA-256 of the elements (row-major, little-endian, in their own dtype).
    """
    frames, latents = state.video_frames, state.audio_latents
    video = audio = None
    if frames:
        together = hashlib.sha256()
        each = []
        for frame in frames:
            data = frame.tobytes()
            together.update(data)
            each.append(hashlib.sha256(data).hexdigest())
        shapes = [list(frame.shape) for frame in frames]
        video = {
            "count": len(frames),
            "shapes": shapes,
            "dtype": "uint8",
            "sha256_per_frame": each,
            "sha256_all": together.hexdigest(),
        }
    if latents is not None:
        data = latents.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        dtype = str(latents.dtype).removeprefix("torch.")
        audio = {"dtype": dtype, "shape": list(latents.shape), "sha256": hashlib.sha256(data).hexdigest()}
    unknown_fields = state.unknown_fields
    unknown = {
        "payload": dict(unknown_fields.payload),
        "video": dict(unknown_fields.video),
        "audio": dict(unknown_fields.audio),
    }
    return {
        "kind": LTX2_CONTINUATION_KIND,
        "schema_version": LTX2_CONTINUATION_SCHEMA_VERSION,
        "segment_index": state.segment_index,
        "video_conditioning_frame_idx": state.video_conditioning_frame_idx,
        "video_conditioning_strength": state.video_conditioning_strength,
        "audio_sample_rate": state.audio_sample_rate,
        "audio_conditioning_num_frames": state.audio_conditioning_num_frames,
        "audio_conditioning_strength": state.audio_conditioning_strength,
        "video_position_offset_sec": state.video_position_offset_sec,
        "metadata": state.metadata,
        "video_frames_blob_id": state.video_frames_blob_id,
        "audio_latents_blob_id": state.audio_latents_blob_id,
        "video": video,
        "audio": audio,
        "unknown": {level: members for level, members in unknown.items() if members},
    }


def describe_attachment(
    path: str | Path, *, blob_store: BlobStore | None = None, strict: bool = True, limits: StateLimits = DEFAULT_LIMITS
) -> dict[str, Any]:
    """What an attachment of any form holds: its form, the texts it carries, notes, and the state. Raises
    ContinuationError."""
    found = load_attachment(path, blob_store=blob_store, strict=strict, limits=limits)
    texts = {key: len(text) for key, text in sorted(found.texts.items())}
    return {
        "form": found.form,
        **describe_state(found.state),
        "texts": texts,
        "notes": list(found.notes),
        "summary": str(found.state),
    }
