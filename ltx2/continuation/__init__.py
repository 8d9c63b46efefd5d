"""Continuation: what one segment leaves for the next, how it is kept and carried, and how the pieces are joined."""

from .attachments import Attachment, attachment_bytes, load_attachment, load_attachment_bytes, save_attachment
from .blob_stores import BlobStore, InMemoryBlobStore
from .capture import ContextNoise, NextSegment, capture_state, condition_next
from .codec import DEFAULT_INLINE_THRESHOLD_BYTES, LTX2_CONTINUATION_KIND, LTX2_CONTINUATION_SCHEMA_VERSION
from .describe import describe_attachment, describe_state
from .file_stores import FileBlobStore, FileSessionStore, FolderBlobs
from .hold import Hold
from .limits import StateLimits
from .overlap import SegmentPlan, SoundJoin, cut_segment, first_segment, next_segment, sound_join
from .seam_metrics import SeamReport
from .seams import FinishedSegment, join_segments, new_sound
from .state import ContinuationState, LTX2ContinuationState, audio_mask, read_envelope, write_envelope
from .stores import InMemorySessionStore, SessionStore, drop_state_blobs

__all__ = [
    "DEFAULT_INLINE_THRESHOLD_BYTES",
    "LTX2_CONTINUATION_KIND",
    "LTX2_CONTINUATION_SCHEMA_VERSION",
    "Attachment",
    "BlobStore",
    "ContextNoise",
    "ContinuationState",
    "FileBlobStore",
    "FileSessionStore",
    "FinishedSegment",
    "FolderBlobs",
    "Hold",
    "InMemoryBlobStore",
    "InMemorySessionStore",
    "LTX2ContinuationState",
    "NextSegment",
    "SeamReport",
    "SegmentPlan",
    "SessionStore",
    "SoundJoin",
    "StateLimits",
    "attachment_bytes",
    "audio_mask",
    "capture_state",
    "condition_next",
    "cut_segment",
    "describe_attachment",
    "describe_state",
    "drop_state_blobs",
    "first_segment",
    "join_segments",
    "load_attachment",
    "load_attachment_bytes",
    "new_sound",
    "next_segment",
    "read_envelope",
    "save_attachment",
    "sound_join",
    "write_envelope",
]
