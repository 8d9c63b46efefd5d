"""What one segment leaves for the next: the public envelope and the typed LTX-2 state.

The format is ``ltx2.v1`` as FastVideo publishes it (checked against fastvideo 0.2.1): its readers open what is written
here, and its states open here. Whatever goes beyond it travels in ``metadata["comfy_ltx2"]``, which
:mod:`ltx2.film.provenance` reads and writes.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..errors import ContinuationError, Ltx2Warning
from .decoding import decode
from .encoding import encode
from .format import DEFAULT_INLINE_THRESHOLD_BYTES, LTX2_CONTINUATION_KIND, External, UnknownFields
from .limits import DEFAULT_LIMITS, StateLimits
from .stores.blobs import BlobStore
from .strict_json import parse_json, write_json
from .validation import check_kind


@dataclass
class ContinuationState:
    """The envelope every kind of state travels in: ``kind`` names the format of ``payload``, which is plain JSON
    data."""

    kind: str
    payload: dict[str, Any]


@dataclass(frozen=True, eq=False)
class LTX2ContinuationState:
    """The end of a finished LTX-2 segment, from which the next one goes on. Frames and tensors in it are never written
    to.

    segment_index: of the finished segment, from 0.
    video_frames: its last frames, oldest first, uint8 [H, W, 3] each, 8k+1 of them; or None.
    video_conditioning_frame_idx: latent frame of the next segment where they go; strength in 0…1, 1 keeps them exactly.
    audio_latents: normalised audio latents [B, 8, T, 16] whose end is the end of the segment's sound; or None.
    audio_conditioning_num_frames: how much of that overlaps the next segment, in video frames.
    audio_conditioning_strength: mask of the overlap, 0 keeps it, 1 makes it anew; read it through :func:`audio_mask`.
    audio_sample_rate: of the finished segment's waveform, in Hz.
    video_position_offset_sec: added to the next segment's picture times, so that its sound may start before its
    picture.
    unknown_fields: what a reader met in the payload and does not know; it is written back unchanged.
    """

    segment_index: int = 0
    video_frames: list[np.ndarray] | None = None
    video_frames_blob_id: str | None = None
    video_conditioning_frame_idx: int = 0
    video_conditioning_strength: float = 1.0
    audio_latents: torch.Tensor | None = None
    audio_latents_blob_id: str | None = None
    audio_sample_rate: int | None = None
    audio_conditioning_num_frames: int = 0
    audio_conditioning_strength: float = 1.0
    video_position_offset_sec: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    unknown_fields: UnknownFields = field(default=UnknownFields(), kw_only=True, repr=False)

    def to_continuation_state(
        self,
        *,
        blob_store: BlobStore | None = None,
        inline_threshold_bytes: int = DEFAULT_INLINE_THRESHOLD_BYTES,
        limits: StateLimits = DEFAULT_LIMITS,
    ) -> ContinuationState:
        """The envelope of this state, always plain JSON data.

        With a ``blob_store``, frames or latents larger than ``inline_threshold_bytes`` go there and the payload names
        their ids.
        Raises TypeError for a frame or latent that is no array, ContinuationError for values no reader would accept.
        """
        found, notes = self.encoded(blob_store=blob_store, threshold=inline_threshold_bytes, limits=limits)
        for note in notes:
            warnings.warn(note, Ltx2Warning, stacklevel=2)
        return found

    def encoded(
        self,
        *,
        blob_store: BlobStore | None = None,
        threshold: int = DEFAULT_INLINE_THRESHOLD_BYTES,
        limits: StateLimits = DEFAULT_LIMITS,
    ) -> tuple[ContinuationState, tuple[str, ...]]:
        """:meth:`to_continuation_state` with its notes instead of warnings."""
        payload, notes = encode(self, blob_store=blob_store, inline_threshold_bytes=threshold, limits=limits)
        return ContinuationState(kind=LTX2_CONTINUATION_KIND, payload=payload), notes

    @classmethod
    def from_continuation_state(
        cls,
        state: ContinuationState,
        *,
        blob_store: BlobStore | None = None,
        strict: bool = True,
        limits: StateLimits = DEFAULT_LIMITS,
        external: External | None = None,
    ) -> "LTX2ContinuationState":
        """The typed state of an envelope. Without a ``blob_store``, ids are kept and their content stays unread.

        ``external``: frames and latents that an attachment keeps next to the payload.
        ``strict=False`` turns what fastvideo's reader lets pass (numbers out of range, members of a wrong type, …) into
        warnings.
        Raises ContinuationError naming the field, BlobNotFoundError for an id the store does not hold.
        """
        found, notes = cls.decoded(state, blob_store=blob_store, strict=strict, limits=limits, external=external)
        for note in notes:
            warnings.warn(note, Ltx2Warning, stacklevel=2)
        return found

    @classmethod
    def decoded(
        cls,
        state: ContinuationState,
        *,
        blob_store: BlobStore | None = None,
        strict: bool = True,
        limits: StateLimits = DEFAULT_LIMITS,
        external: External | None = None,
    ) -> tuple["LTX2ContinuationState", tuple[str, ...]]:
        """:meth:`from_continuation_state` with its notes instead of warnings."""
        if not hasattr(state, "kind") or not hasattr(state, "payload"):
            raise ContinuationError(
                f"the state is a {type(state).__name__}, expected a ContinuationState with kind and payload"
            )
        check_kind(state.kind)
        fields, notes = decode(state.payload, blob_store=blob_store, strict=strict, limits=limits, external=external)
        return cls(**fields), notes

    def __str__(self) -> str:
        frames = [] if self.video_frames is None else self.video_frames
        picture = f"{len(frames)} frames {frames[0].shape[1]}x{frames[0].shape[0]}" if len(frames) else "no frames"
        sound = f"{self.audio_latents.shape[-2]} audio latents" if self.audio_latents is not None else "no sound"
        return f"state after segment {self.segment_index + 1}: {picture}, {sound}"


def read_envelope(
    text: str | bytes, what: str = "state", *, strict: bool = True, limits: StateLimits = DEFAULT_LIMITS
) -> ContinuationState:
    """The envelope in a JSON document; members besides ``kind`` and ``payload`` are ignored. Raises
    ContinuationError."""
    return envelope_of(read_document(text, what, strict=strict, limits=limits), what)


def read_document(
    text: str | bytes, what: str, *, strict: bool = True, limits: StateLimits = DEFAULT_LIMITS
) -> dict[str, Any]:
    """The JSON object that an envelope and what stands beside it are members of. Raises ContinuationError."""
    if len(text) > limits.inline_bytes:
        raise ContinuationError(f"{what} is {len(text)} bytes of JSON, expected at most {limits.inline_bytes}")
    document = parse_json(text, what, strict=strict, limits=limits)
    if not isinstance(document, dict):
        raise ContinuationError(f"{what} is a JSON {type(document).__name__}, expected an object with kind and payload")
    return document


def envelope_of(document: dict[str, Any], what: str) -> ContinuationState:
    """The envelope in a document. Raises ContinuationError for another kind."""
    check_kind(document.get("kind"))
    return ContinuationState(document["kind"], document.get("payload"))


def write_envelope(state: ContinuationState) -> str:
    """The envelope as one line of strict JSON. Raises ContinuationError for a payload that JSON cannot say."""
    return write_json({"kind": state.kind, "payload": state.payload}, "state")


def audio_mask(state: LTX2ContinuationState) -> tuple[float, str]:
    """Mask of the sound overlap (0 keeps the carried sound, 1 makes it anew), and a note when a state of another
    program carries sound and asks for none of it to be kept, as its default does."""
    ours = state.metadata.get("comfy_ltx2")
    marked = isinstance(ours, dict) and ours.get("audio_strength_is") == "mask"
    carries = state.audio_latents is not None or state.audio_latents_blob_id is not None
    mask = float(state.audio_conditioning_strength)
    if not marked and carries and state.audio_conditioning_num_frames > 0 and mask == 1.0:
        return mask, "audio_conditioning_strength is 1.0: the carried sound is made anew; 0.0 would keep it"
    return mask, ""
