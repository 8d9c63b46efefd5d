"""Continuation: what one segment leaves for the next, how it is kept and carried, and how the pieces are joined."""

from .codec import DEFAULT_INLINE_THRESHOLD_BYTES, LTX2_CONTINUATION_KIND, LTX2_CONTINUATION_SCHEMA_VERSION
from .file_stores import FileBlobStore, FileSessionStore, FolderBlobs
from .limits import StateLimits
from .state import ContinuationState, LTX2ContinuationState, audio_mask, read_envelope, write_envelope
from .stores import BlobStore, InMemoryBlobStore, InMemorySessionStore, SessionStore, drop_state_blobs

__all__ = [
    "DEFAULT_INLINE_THRESHOLD_BYTES",
    "LTX2_CONTINUATION_KIND",
    "LTX2_CONTINUATION_SCHEMA_VERSION",
    "BlobStore",
    "ContinuationState",
    "FileBlobStore",
    "FileSessionStore",
    "FolderBlobs",
    "InMemoryBlobStore",
    "InMemorySessionStore",
    "LTX2ContinuationState",
    "SessionStore",
    "StateLimits",
    "audio_mask",
    "drop_state_blobs",
    "read_envelope",
    "write_envelope",
]
