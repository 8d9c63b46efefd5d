"""Blobs and sessions in folders: durable, verified on reading, and safe for several processes at once."""

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from ..atomic_files import clean_stale_temps, file_lock, sync_folder, write_atomic
from ..errors import BlobNotFoundError, ContinuationError
from .blob_stores import DEFAULT_MIME, BlobStore
from .limits import DEFAULT_LIMITS, StateLimits
from .session_stores import SessionStore, checked_copy, state_blob_ids
from .state import ContinuationState, check_kind, read_envelope, write_envelope

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
# Names that Windows gives to devices, whatever the folder.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
DEFAULT_GRACE_SECONDS = 600.0


def is_id(value: object) -> bool:
    """Whether an id may become a file name: letters, digits, ``_`` and ``-``, up to 128, and no device name."""
    return isinstance(value, str) and bool(_ID.fullmatch(value)) and not _DEVICES.fullmatch(value)


def check_id(value: object, what: str = "blob id") -> str:
    """The id, if it may become a file name. Raises ContinuationError."""
    if not is_id(value):
        raise ContinuationError(
            f"{what} is {repr(value)[:60]}, expected 1 to 128 of A-Z, a-z, 0-9, _ and - (and no device name)"
        )
    return value


class FileBlobStore(BlobStore):
    """Blobs as files of one folder, each with a small record of size, SHA-256, mime and time.

    ttl_seconds: forget blobs older than this. max_bytes: drop the oldest to stay below it, but none younger than
    ``grace_seconds``: if that does not make room, ``put`` raises ContinuationError. clock: seconds since the epoch, for
    tests.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        ttl_seconds: float | None = None,
        max_bytes: int | None = None,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        limits: StateLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = Path(folder)
        self._ttl, self._cap, self._grace = ttl_seconds, max_bytes, grace_seconds
        self._limits, self._clock = limits, clock
        self.folder.mkdir(parents=True, exist_ok=True)
        clean_stale_temps(self.folder)

    def put(self, data: bytes, *, mime: str = DEFAULT_MIME) -> str:
        data = bytes(data)
        if len(data) > self._limits.blob_bytes:
            raise ContinuationError(f"a blob of {len(data)} bytes, expected at most {self._limits.blob_bytes}")
        blob_id = uuid.uuid4().hex
        record = {
            "id": blob_id,
            "mime": mime,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "time": self._clock(),
        }
        with self._locked():
            self._make_room(len(data))
            write_atomic(self._data(blob_id), data)
            # the record comes last: without it the data does not count
            write_atomic(self._record(blob_id), json.dumps(record).encode())
        return blob_id

    def get(self, blob_id: str) -> bytes:
        record = self._read_record(check_id(blob_id))
        if record is None or self._expired(record):
            raise BlobNotFoundError(f"the store {self.folder} does not hold the blob {blob_id!r}")
        path = self._data(blob_id)
        try:
            size = path.stat().st_size
            if size != record["size"] or size > self._limits.blob_bytes:
                raise ContinuationError(
                    f"blob {blob_id} has {size} bytes, its record says {record['size']}: the file is damaged"
                )
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise BlobNotFoundError(f"the store {self.folder} has lost the content of the blob {blob_id!r}") from error
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise ContinuationError(f"blob {blob_id} does not match its SHA-256: the file is damaged")
        return data

    def drop(self, blob_id: str) -> None:
        blob_id = check_id(blob_id)
        if self._read_record(blob_id) is not None:
            self._remove(blob_id)

    def __contains__(self, blob_id: object) -> bool:
        if not is_id(blob_id):
            return False
        record = self._read_record(blob_id)
        return record is not None and not self._expired(record)

    def __len__(self) -> int:
        return sum(1 for record in self._records() if not self._expired(record))

    def sweep(self) -> int:
        """Remove expired blobs and what crashes left behind; returns how many blobs went."""
        clean_stale_temps(self.folder)
        with self._locked():
            before = len(list(self._records()))
            self._make_room(0)
            known = {record["id"] for record in self._records()}
            for path in self.folder.glob("*.blob"):
                with contextlib.suppress(OSError):
                    if path.stem not in known and time.time() - path.stat().st_mtime > DEFAULT_GRACE_SECONDS:
                        path.unlink()
        return before - len(known)

    def _data(self, blob_id: str) -> Path:
        return self.folder / f"{blob_id}.blob"

    def _record(self, blob_id: str) -> Path:
        return self.folder / f"{blob_id}.json"

    def _locked(self):
        return file_lock(self.folder / ".lock")

    def _read_record(self, blob_id: str) -> dict | None:
        path = self._record(blob_id)
        try:
            if path.stat().st_size > 2**16:
                raise ContinuationError(f"the record of blob {blob_id} is damaged: {path.stat().st_size} bytes")
            record = json.loads(path.read_bytes())
            # on a disk that ignores case another blob's record answers to this name
            return (
                record
                if record["id"] == blob_id and record["size"] >= 0 and record["sha256"] and record["time"] >= 0
                else None
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ContinuationError(f"the record of blob {blob_id} is damaged, drop it: {path}") from error

    def _records(self) -> Iterator[dict]:
        for path in sorted(self.folder.glob("*.json")):
            if _ID.fullmatch(path.stem):
                with contextlib.suppress(ContinuationError):
                    record = self._read_record(path.stem)
                    if record is not None:
                        yield record

    def _expired(self, record: dict) -> bool:
        # a time in the future means the clock was set back: such a blob is young, not old
        return self._ttl is not None and self._clock() - record["time"] > self._ttl

    def _make_room(self, size: int) -> None:
        if self._ttl is not None:
            for record in list(self._records()):
                if self._expired(record):
                    self._remove(record["id"])
        if self._cap is None:
            return
        kept = sorted(self._records(), key=lambda record: (record["time"], record["id"]))
        total = sum(record["size"] for record in kept) + size
        for record in kept:
            if total <= self._cap:
                return
            if self._clock() - record["time"] > self._grace:
                self._remove(record["id"])
                total -= record["size"]
        if size and total > self._cap:
            raise ContinuationError(
                f"{self.folder} would grow to {total} bytes, its cap is {self._cap}: drop old states or raise the cap"
            )

    def _remove(self, blob_id: str) -> None:
        # the record goes first: a blob without one does not count
        self._record(blob_id).unlink(missing_ok=True)
        self._data(blob_id).unlink(missing_ok=True)
        sync_folder(self.folder)


class FolderBlobs(BlobStore):
    """Reads blobs that lie in a folder as plain files: ``ID``, ``ID.*`` or ``*.ID.bin``, where 12 characters of the id
    suffice in the last form. Also reads a folder that a FileBlobStore wrote, and verifies there. Nothing can be stored
    or dropped."""

    def __init__(self, folder: str | Path, *, limits: StateLimits = DEFAULT_LIMITS) -> None:
        self.folder, self._limits = Path(folder), limits
        if not self.folder.is_dir():
            raise ContinuationError(f"{self.folder} is not a folder, expected one with the blobs of the state")

    def put(self, data: bytes, *, mime: str = DEFAULT_MIME) -> str:
        raise ContinuationError(f"{self.folder} is only read from, use a FileBlobStore to store blobs")

    def drop(self, blob_id: str) -> None:
        raise ContinuationError(f"{self.folder} is only read from, use a FileBlobStore to drop blobs")

    def get(self, blob_id: str) -> bytes:
        path = self._find(check_id(blob_id))
        if path is None:
            raise BlobNotFoundError(f"{self.folder} does not hold the blob {blob_id!r}")
        if path.suffix == ".blob" and (self.folder / f"{blob_id}.json").is_file():
            return FileBlobStore(self.folder, limits=self._limits).get(blob_id)
        if path.stat().st_size > self._limits.blob_bytes:
            raise ContinuationError(
                f"{path} has {path.stat().st_size} bytes, expected at most {self._limits.blob_bytes}"
            )
        return path.read_bytes()

    def __contains__(self, blob_id: object) -> bool:
        return is_id(blob_id) and self._find(blob_id) is not None

    def _find(self, blob_id: str) -> Path | None:
        for path in sorted(self.folder.iterdir()):
            name = path.name
            by_name = name == blob_id or (name.startswith(f"{blob_id}.") and path.suffix != ".json")
            by_tag = name.endswith(f".{blob_id}.bin") or (len(blob_id) > 12 and name.endswith(f".{blob_id[:12]}.bin"))
            if (by_name or by_tag) and path.is_file():
                return path
        return None


class FileSessionStore(SessionStore):
    """Sessions as JSON files of one folder; see :class:`InMemorySessionStore` for ``owned_blobs`` and ``ttl_seconds``.

    Session ids follow the same rule as blob ids.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        owned_blobs: BlobStore | None = None,
        ttl_seconds: float | None = None,
        limits: StateLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = Path(folder)
        self._blobs, self._ttl, self._limits, self._clock = owned_blobs, ttl_seconds, limits, clock
        self.folder.mkdir(parents=True, exist_ok=True)
        clean_stale_temps(self.folder)

    def store(self, session_id: str, state: ContinuationState) -> None:
        path = self._path(check_id(session_id, "session id"))
        state = checked_copy(state)
        check_kind(state.kind)
        document = f'{{"session": {json.dumps(session_id)}, "time": {self._clock()!r}, {write_envelope(state)[1:]}'
        with self._locked():
            replaced = self._read(path)
            write_atomic(path, document.encode())
            self._release(replaced)

    def snapshot(self, session_id: str) -> ContinuationState | None:
        found = self._read(self._path(check_id(session_id, "session id")))
        return found[1] if found and not self._expired(found[2]) else None

    def drop(self, session_id: str) -> None:
        path = self._path(check_id(session_id, "session id"))
        with self._locked():
            dropped = self._read(path)
            path.unlink(missing_ok=True)
            sync_folder(self.folder)
            self._release(dropped)

    def __iter__(self) -> Iterator[str]:
        return iter([session_id for session_id, _, stored in self._all() if not self._expired(stored)])

    def __contains__(self, session_id: object) -> bool:
        return is_id(session_id) and self.snapshot(session_id) is not None

    def _path(self, session_id: str) -> Path:
        # the hash keeps ids apart that differ only in case
        return self.folder / f"{session_id}.{hashlib.sha256(session_id.encode()).hexdigest()[:12]}.json"

    def _locked(self):
        return file_lock(self.folder / ".lock")

    def _read(self, path: Path) -> tuple[str, ContinuationState, float] | None:
        try:
            if os.stat(path).st_size > self._limits.inline_bytes + 2**20:
                raise ContinuationError(
                    f"{path} has {path.stat().st_size} bytes, expected at most {self._limits.inline_bytes}"
                )
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        state = read_envelope(text, str(path), limits=self._limits)
        document = json.loads(text)
        return str(document.get("session")), state, float(document.get("time") or 0)

    def _all(self) -> Iterator[tuple[str, ContinuationState, float]]:
        for path in sorted(self.folder.glob("*.json")):
            found = self._read(path)
            if found is not None:
                yield found

    def _expired(self, stored: float) -> bool:
        return self._ttl is not None and self._clock() - stored > self._ttl

    def _release(self, replaced: tuple[str, ContinuationState, float] | None) -> None:
        if self._blobs is None or replaced is None:
            return
        kept = set().union(*(state_blob_ids(state) for _, state, _ in self._all()))
        for blob_id in state_blob_ids(replaced[1]) - kept:
            self._blobs.drop(blob_id)
