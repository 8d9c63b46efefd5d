"""Continuation: the state that one segment leaves for the next, how it is kept and carried."""

from ..errors import BlobNotFoundError, ContinuationError
from .attachments import Attachment, attachment_bytes, load_attachment, load_attachment_bytes, save_attachment
from .describe import describe_attachment, describe_state
from .format import DEFAULT_INLINE_THRESHOLD_BYTES, LTX2_CONTINUATION_KIND, LTX2_CONTINUATION_SCHEMA_VERSION
from .limits import StateLimits
from .state import ContinuationState, LTX2ContinuationState, audio_mask, read_envelope, write_envelope
from .stores.blobs import BlobStore, InMemoryBlobStore
from .stores.file_blobs import FileBlobStore, FolderBlobs
from .stores.file_sessions import FileSessionStore
from .stores.sessions import InMemorySessionStore, SessionStore, drop_state_blobs

__all__ = [
    "DEFAULT_INLINE_THRESHOLD_BYTES",
    "LTX2_CONTINUATION_KIND",
    "LTX2_CONTINUATION_SCHEMA_VERSION",
    "Attachment",
    "BlobNotFoundError",
    "BlobStore",
    "ContinuationError",
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
