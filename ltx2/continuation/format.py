"""What the published format ``ltx2.v1`` is: its names, its fields, and what may lie beside a payload."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

LTX2_CONTINUATION_KIND = "ltx2.v1"
LTX2_CONTINUATION_SCHEMA_VERSION = 1
# 2 MiB: below what one JSON message may usually hold
DEFAULT_INLINE_THRESHOLD_BYTES = 2 * 1024 * 1024

VIDEO, AUDIO = "video", "audio"
BLOB_ID, FRAME_COUNT = "blob_id", "frame_count"
# Members that hold base64 data; their size has a bound of its own.
INLINE_FRAMES, INLINE_AUDIO = "frames_b64", "safetensors_b64"
INLINE_MEMBERS = (INLINE_FRAMES, INLINE_AUDIO)
VIDEO_MIME = "application/x-fastvideo-frames+png"
AUDIO_MIME = "application/x-fastvideo-tensor+safetensors"
AUDIO_TENSOR = "t"

LARGEST_INT = 2**31 - 1
AGAIN = "copy or send the file again"  # what to do about a damaged one
LONGEST_SECONDS = 1e6
# The plain fields in the order they are written: default and largest value.
SCALARS: dict[str, tuple[int | float, int | float]] = {
    "segment_index": (0, LARGEST_INT),
    "video_conditioning_frame_idx": (0, LARGEST_INT),
    "video_conditioning_strength": (1.0, 1.0),
    "audio_conditioning_num_frames": (0, LARGEST_INT),
    "audio_conditioning_strength": (1.0, 1.0),
    "video_position_offset_sec": (0.0, LONGEST_SECONDS),
}
SAMPLE_RATE = "audio_sample_rate"
KNOWN_FIELDS = frozenset({"schema_version", *SCALARS, "metadata", SAMPLE_RATE, VIDEO, AUDIO})


@dataclass(frozen=True)
class UnknownFields:
    """What a payload held besides the known fields, and where its content came from.

    payload, video, audio: unknown members of each level (``frame_count`` counts as one while the frames are in a
    store).
    video_source: blob id and the very list of frames read from it; audio_source: blob id. Encoding the same content
    into the same store again reuses them.
    inline_beside_id: members (``video``, ``audio``) that came with a blob id and with their content as well; both are
    written back.
    """

    payload: Mapping[str, Any] = field(default_factory=dict)
    video: Mapping[str, Any] = field(default_factory=dict)
    audio: Mapping[str, Any] = field(default_factory=dict)
    video_source: tuple[str, list] | None = None
    audio_source: str | None = None
    inline_beside_id: frozenset[str] = frozenset()


@dataclass(frozen=True)
class External:
    """Content that lies next to a payload instead of in it: encoded frames by the name to use in messages, and the
    latents."""

    frames: Mapping[str, bytes] = field(default_factory=dict)
    latents: torch.Tensor | None = None
