"""Blobs in folders: durable, verified on reading, and safe for several processes at once."""

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeGuard

from ... import system
from ...atomic_files import LOCK_FILE, clean_stale_temps, file_lock, is_portable, reason, sync_folder, write_atomic
from ...errors import BlobNotFoundError, ContinuationError, Ltx2Error
from ..limits import DEFAULT_LIMITS, StateLimits
from ..strict_json import shown
from .blobs import DEFAULT_MIME, BlobStore

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_DATA, _RECORD = ".blob", ".json"
_LONGEST_RECORD = 2**16
DEFAULT_GRACE_SECONDS = 600.0


def is_id(value: object) -> TypeGuard[str]:
    """Whether an id may become a file name: letters, digits, ``_`` and ``-``, up to 128, and no device name."""
    return isinstance(value, str) and bool(_ID.fullmatch(value)) and is_portable(value)


def check_id(value: object, what: str = "blob id") -> str:
    """The id, if it may become a file name. Raises ContinuationError."""
    if not is_id(value):
        raise ContinuationError(
            f"{what} is {shown(value)}, expected 1 to 128 of A-Z, a-z, 0-9, _ and - (and no device name)"
        )
    return value


@contextlib.contextmanager
def as_store_error(folder: Path) -> Iterator[None]:
    """What the file system says of a store's folder, as one sentence."""
    try:
        yield
    except OSError as error:
        raise ContinuationError(f"the store {folder} cannot be read or written: {reason(error)}") from error
    except ValueError as error:
        if isinstance(error, Ltx2Error):
            raise
        raise ContinuationError(f"the store {folder} has a name that no folder can have") from error


def read_blob(folder: Path, blob_id: str, record: dict, limits: StateLimits) -> bytes:
    """The content of a blob, verified. Raises ContinuationError, BlobNotFoundError and OSError."""
    try:
        with open(folder / f"{blob_id}{_DATA}", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != record["size"] or size > limits.blob_bytes:
                raise ContinuationError(
                    f"blob {blob_id} has {size} bytes, its record says {record['size']}: the file is damaged"
                )
            data = file.read(size)
    except FileNotFoundError as error:
        raise BlobNotFoundError(f"the store {folder} has lost the content of the blob {blob_id!r}") from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise ContinuationError(f"blob {blob_id} does not match its SHA-256: the file is damaged")
    return data


def read_record(folder: Path, blob_id: str) -> dict | None:
    """The record of a blob, None when there is none. Raises ContinuationError for a damaged one, and OSError."""
    path = folder / f"{blob_id}{_RECORD}"
    try:
        size = path.stat().st_size
        if size > _LONGEST_RECORD:
            raise ContinuationError(f"the record of blob {blob_id} is damaged, drop the blob: {size} bytes")
        record = json.loads(path.read_bytes())
        numbers = isinstance(record["size"], int) and isinstance(record["time"], (int, float))
        if not numbers or not isinstance(record["sha256"], str) or not isinstance(record["id"], str):
            raise ValueError
        # on a disk that ignores case another blob's record answers to this name
        return record if record["id"] == blob_id and record["size"] >= 0 and record["time"] >= 0 else None
    except FileNotFoundError:
        return None
    except ContinuationError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContinuationError(f"the record of blob {blob_id} is damaged, drop the blob") from error


class FileBlobStore(BlobStore):
    """Blobs as files of one folder, each with a small record of size, SHA-256, mime and time.

    ttl_seconds: forget blobs older than this. max_bytes: drop the oldest to stay below it, but none younger than
    ``grace_seconds``: if that does not make room, ``put`` raises ContinuationError. clock: seconds since the epoch, for
    tests. A damaged record hides its own blob alone, which can be dropped. Every method raises ContinuationError when
    the folder cannot be read or written.
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
        with as_store_error(self.folder):
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
        with as_store_error(self.folder), self._locked():
            self._make_room(len(data))
            try:
                write_atomic(self._data(blob_id), data)
                # the record comes last: without it the data does not count
                write_atomic(self._record(blob_id), json.dumps(record).encode())
            except BaseException:
                with contextlib.suppress(OSError):  # a full disk gets its room back
                    self._remove(blob_id)
                raise
        return blob_id

    def get(self, blob_id: str) -> bytes:
        check_id(blob_id)
        with as_store_error(self.folder):
            record = read_record(self.folder, blob_id)
            if record is None or self._expired(record):
                raise BlobNotFoundError(f"the store {self.folder} does not hold the blob {blob_id!r}")
            return read_blob(self.folder, blob_id, record, self._limits)

    def drop(self, blob_id: str) -> None:
        check_id(blob_id)
        with as_store_error(self.folder):
            try:
                held = read_record(self.folder, blob_id) is not None
            except ContinuationError:
                # nobody can say whose it is; by its very name it is this one's
                held = self._record(blob_id).name in os.listdir(self.folder)
            if held:
                self._remove(blob_id)

    def __contains__(self, blob_id: object) -> bool:
        if not is_id(blob_id):
            return False
        with as_store_error(self.folder):
            record = self._readable(blob_id)
        return record is not None and not self._expired(record)

    def __len__(self) -> int:
        with as_store_error(self.folder):
            return sum(1 for record in self._records() if not self._expired(record))

    def damaged(self) -> list[str]:
        """Ids of the blobs whose records cannot be read."""
        with as_store_error(self.folder):
            return [name for name in self._names() if self._is_damaged(name)]

    def sweep(self) -> int:
        """Remove expired blobs and what crashes left behind; returns how many blobs went."""
        with as_store_error(self.folder), self._locked():
            clean_stale_temps(self.folder)
            before = len(list(self._records()))
            self._make_room(0)
            known = {record["id"] for record in self._records()}
            for path in self.folder.glob(f"*{_DATA}"):
                with contextlib.suppress(OSError):
                    # an age in the future is that of a clock which was set back
                    old = abs(time.time() - path.stat().st_mtime) > DEFAULT_GRACE_SECONDS
                    if path.stem not in known and old and not self._is_damaged(path.stem):
                        path.unlink()
        return before - len(known)

    def _data(self, blob_id: str) -> Path:
        return self.folder / f"{blob_id}{_DATA}"

    def _record(self, blob_id: str) -> Path:
        return self.folder / f"{blob_id}{_RECORD}"

    def _locked(self):
        return file_lock(self.folder / LOCK_FILE)

    def _names(self) -> list[str]:
        return [path.stem for path in sorted(self.folder.glob(f"*{_RECORD}")) if is_id(path.stem)]

    def _readable(self, blob_id: str) -> dict | None:
        try:
            return read_record(self.folder, blob_id)
        except (ContinuationError, OSError):
            return None

    def _is_damaged(self, blob_id: str) -> bool:
        try:
            read_record(self.folder, blob_id)
        except (ContinuationError, OSError):
            return True
        return False

    def _records(self) -> Iterator[dict]:
        return (record for name in self._names() if (record := self._readable(name)) is not None)

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
        system.remove(self._record(blob_id))
        system.remove(self._data(blob_id))
        sync_folder(self.folder)


class FolderBlobs(BlobStore):
    """Reads blobs that lie in a folder as plain files: ``ID``, ``ID.*`` or ``*.ID.bin``, where 12 characters of the id
    suffice in the last form. Also reads a folder that a FileBlobStore wrote, and verifies there. Nothing can be stored
    or dropped, and nothing is written."""

    def __init__(self, folder: str | Path, *, limits: StateLimits = DEFAULT_LIMITS) -> None:
        self.folder, self._limits = Path(folder), limits
        with as_store_error(self.folder):
            if not self.folder.is_dir():
                raise ContinuationError(f"{self.folder} is not a folder, expected one with the blobs of the state")

    def put(self, data: bytes, *, mime: str = DEFAULT_MIME) -> str:
        raise ContinuationError(f"{self.folder} is only read from, use a FileBlobStore to store blobs")

    def drop(self, blob_id: str) -> None:
        raise ContinuationError(f"{self.folder} is only read from, use a FileBlobStore to drop blobs")

    def get(self, blob_id: str) -> bytes:
        check_id(blob_id)
        with as_store_error(self.folder):
            path = self._find(blob_id)
            if path is None:
                raise BlobNotFoundError(f"{self.folder} does not hold the blob {blob_id!r}")
            record = read_record(self.folder, blob_id) if path.suffix == _DATA else None
            if record is not None:
                return read_blob(self.folder, blob_id, record, self._limits)
            size = path.stat().st_size
            if size > self._limits.blob_bytes:
                raise ContinuationError(f"{path} has {size} bytes, expected at most {self._limits.blob_bytes}")
            return path.read_bytes()

    def __contains__(self, blob_id: object) -> bool:
        if not is_id(blob_id):
            return False
        with as_store_error(self.folder):
            return self._find(blob_id) is not None

    def _find(self, blob_id: str) -> Path | None:
        for path in sorted(self.folder.iterdir()):
            name = path.name
            by_name = name == blob_id or (name.startswith(f"{blob_id}.") and path.suffix != _RECORD)
            by_tag = name.endswith(f".{blob_id}.bin") or (len(blob_id) > 12 and name.endswith(f".{blob_id[:12]}.bin"))
            if (by_name or by_tag) and path.is_file():
                return path
        return None
