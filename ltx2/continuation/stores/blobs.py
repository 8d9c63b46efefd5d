"""Where large parts of states are kept: byte strings under ids. The contract, and one in memory."""

import abc
import threading
import uuid

from ...errors import BlobNotFoundError

DEFAULT_MIME = "application/octet-stream"


class BlobStore(abc.ABC):
    """Keeps byte strings under ids of its own choosing. Dropping what is no longer needed is the caller's duty."""

    @abc.abstractmethod
    def put(self, data: bytes, *, mime: str = DEFAULT_MIME) -> str:
        """Store and return a new id."""

    @abc.abstractmethod
    def get(self, blob_id: str) -> bytes:
        """The exact bytes. Raises BlobNotFoundError (a KeyError) for an id that is not there."""

    @abc.abstractmethod
    def drop(self, blob_id: str) -> None:
        """Remove; an id that is not there is no error."""

    @abc.abstractmethod
    def __contains__(self, blob_id: object) -> bool: ...


class InMemoryBlobStore(BlobStore):
    """Blobs of one process, safe for its threads."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, data: bytes, *, mime: str = DEFAULT_MIME) -> str:
        blob_id = uuid.uuid4().hex
        with self._lock:
            self._blobs[blob_id] = bytes(data)
        return blob_id

    def get(self, blob_id: str) -> bytes:
        with self._lock:
            try:
                return self._blobs[blob_id]
            except (KeyError, TypeError) as error:
                raise BlobNotFoundError(f"the store does not hold the blob {str(blob_id)[:140]!r}") from error

    def drop(self, blob_id: str) -> None:
        with self._lock:
            self._blobs.pop(blob_id, None)

    def __contains__(self, blob_id: object) -> bool:
        with self._lock:
            return blob_id in self._blobs

    def __len__(self) -> int:
        with self._lock:
            return len(self._blobs)
