"""Continuation: the state that one segment leaves for the next, how it is kept and carried."""

from .attachments import Attachment, attachment_bytes, load_attachment, load_attachment_bytes, save_attachment
from .blob_stores import BlobStore, InMemoryBlobStore
from .codec import DEFAULT_INLINE_THRESHOLD_BYTES, LTX2_CONTINUATION_KIND, LTX2_CONTINUATION_SCHEMA_VERSION
from .describe import describe_attachment, describe_state
from .file_stores import FileBlobStore, FileSessionStore, FolderBlobs
from .limits import StateLimits
from .session_stores import InMemorySessionStore, SessionStore, drop_state_blobs
from .state import ContinuationState, LTX2ContinuationState, audio_mask, read_envelope, write_envelope

__all__ = [
    "DEFAULT_INLINE_THRESHOLD_BYTES",
    "LTX2_CONTINUATION_KIND",
    "LTX2_CONTINUATION_SCHEMA_VERSION",
    "Attachment",
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
    "attachment_bytes",
    "audio_mask",
    "describe_attachment",
    "describe_state",
    "drop_state_blobs",
    "load_attachment",
    "load_attachment_bytes",
    "read_envelope",
    "save_attachment",
    "write_envelope",
]
