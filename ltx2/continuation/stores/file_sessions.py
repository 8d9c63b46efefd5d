"""Sessions in a folder: each an envelope in a JSON file of its own, and beside them which session names which blob.

``ID.HASH.json``: one session; the hash keeps ids apart that differ only in case. ``named/BLOB/ID.HASH``: empty marks.
A mark is on disk before the session that it speaks of, and goes after it, so that no blob is dropped that a session
still names; marks that a crash left too many only keep a blob until :meth:`FileSessionStore.sweep`.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ... import system
from ...atomic_files import LOCK_FILE, atomic_folder, clean_stale_temps, file_lock, sync_folder, write_atomic
from ...errors import ContinuationError
from ..limits import DEFAULT_LIMITS, StateLimits
from ..state import ContinuationState, read_envelope, write_envelope
from ..strict_json import shown
from ..validation import check_kind
from .blobs import BlobStore
from .file_blobs import as_store_error, check_id, is_id
from .sessions import SessionStore, checked_copy, state_blob_ids

_SUFFIX = ".json"
_NAMED = "named"
_SPELT, _LONGEST_SPELT = "x-", 100
_HEAD_BYTES = 1024
_HEAD = re.compile(rb'\{"session": ("[A-Za-z0-9_-]{1,128}"), "time": (-?\d[\d.e+-]*), "kind": ')
# Sessions looked at for their age by each call that writes: enough to keep up, and no more the more there are.
_LOOKED_AT = 8


@dataclass(frozen=True)
class _Head:
    """What the first bytes of a session's file say."""

    session_id: str
    stored: float


class FileSessionStore(SessionStore):
    """Sessions as JSON files of one folder; see :class:`InMemorySessionStore` for ``owned_blobs`` and ``ttl_seconds``.

    Session ids follow the same rule as blob ids. Storing and dropping one session takes the same time however many
    there are, and neither minds others that are damaged: a damaged session is not listed, ``snapshot`` says so, and it
    can be dropped or replaced. Every method raises ContinuationError when the folder cannot be read or written.
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
        self._pass: Iterator[str] = iter(())
        with as_store_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            clean_stale_temps(self.folder)
            clean_stale_temps(self._named)

    def store(self, session_id: str, state: ContinuationState) -> None:
        path = self._path(check_id(session_id, "session id"))
        state = checked_copy(state)
        check_kind(state.kind)
        document = f'{{"session": {json.dumps(session_id)}, "time": {self._clock()!r}, {write_envelope(state)[1:]}'
        with as_store_error(self.folder), self._locked():
            before, ids = self._names(path), state_blob_ids(state)
            self._mark(path, ids)
            write_atomic(path, document.encode())
            self._unmark(path, before - ids)
            self._look_at_some()

    def snapshot(self, session_id: str) -> ContinuationState | None:
        path = self._path(check_id(session_id, "session id"))
        with as_store_error(self.folder):
            found = self._read(path)
            if found is None or not self._expired(found[0]):
                return found[1] if found else None
            self._forget_expired([path])
        return None

    def drop(self, session_id: str) -> None:
        path = self._path(check_id(session_id, "session id"))
        with as_store_error(self.folder), self._locked():
            self._forget(path)
            self._look_at_some()

    def __iter__(self) -> Iterator[str]:
        with as_store_error(self.folder):
            heads = {path: head for path in self._files() if (head := self._head(path)) is not None}
            expired = {path for path, head in heads.items() if self._expired(head)}
            self._forget_expired(expired)
        return iter([head.session_id for path, head in heads.items() if path not in expired])

    def __contains__(self, session_id: object) -> bool:
        if not is_id(session_id):
            return False
        with as_store_error(self.folder):
            head = self._head(self._path(session_id))
        return head is not None and not self._expired(head)

    def damaged(self) -> list[str]:
        """Ids of the sessions whose files cannot be read; they stay until they are dropped or stored again."""
        with as_store_error(self.folder):
            return sorted(path.name.rsplit(".", 2)[0] for path in self._files() if self._head(path) is None)

    def sweep(self) -> int:
        """Forget expired sessions, and drop owned blobs that no session names any more; returns how many sessions
        went. Takes the longer the more sessions there are."""
        with as_store_error(self.folder), self._locked():
            clean_stale_temps(self.folder)
            expired = [path for path in self._files() if (head := self._head(path)) and self._expired(head)]
            for path in expired:
                self._forget(path)
            if not any(self._head(path) is None for path in self._files()):  # a damaged one may name anything
                self._check_marks()
        return len(expired)

    # --- files

    def _path(self, session_id: str) -> Path:
        return self.folder / f"{session_id}.{hashlib.sha256(session_id.encode()).hexdigest()[:12]}{_SUFFIX}"

    @property
    def _named(self) -> Path:
        return self.folder / _NAMED

    def _locked(self):
        return file_lock(self.folder / LOCK_FILE)

    def _files(self) -> list[Path]:
        """Every file that is a session's by its name, damaged or not."""
        return [path for path in sorted(self.folder.glob(f"*{_SUFFIX}")) if self._is_session(path)]

    def _is_session(self, path: Path) -> bool:
        session_id = path.name.rsplit(".", 2)[0]
        return is_id(session_id) and self._path(session_id).name == path.name

    def _read(self, path: Path) -> tuple[_Head, ContinuationState] | None:
        try:
            if os.stat(path).st_size > self._limits.inline_bytes:
                raise ContinuationError(f"session file {path.name} is larger than {self._limits.inline_bytes} bytes")
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        session_id = path.name.rsplit(".", 2)[0]
        head = _head_of(text[:_HEAD_BYTES])
        if head is None or head.session_id != session_id:
            raise ContinuationError(f"session {shown(session_id)} is damaged: drop it, or store it again")
        try:
            return head, read_envelope(text, f"session {session_id}", limits=self._limits)
        except ContinuationError as error:
            raise ContinuationError(
                f"session {shown(session_id)} is damaged, drop it or store it again: {error}"
            ) from error

    def _head(self, path: Path) -> _Head | None:
        """What a session's file begins with; None for one that is gone, cut short or otherwise damaged."""
        try:
            with open(path, "rb") as file:
                head = _head_of(file.read(_HEAD_BYTES))
                if head is None or self._path(head.session_id).name != path.name:
                    return None
                file.seek(-1, os.SEEK_END)
                return head if file.read(1) == b"}" else None
        except OSError:  # gone, or on a part of the disk that cannot be read
            return None

    # --- age

    def _expired(self, head: _Head) -> bool:
        # a time in the future means the clock was set back: such a session is young, not old
        return self._ttl is not None and self._clock() - head.stored > self._ttl

    def _look_at_some(self) -> None:
        """Forget expired sessions among the next few, going round through the folder."""
        if self._ttl is None:
            return
        names = list(islice(self._pass, _LOOKED_AT))
        if not names:
            clean_stale_temps(self.folder)
            self._pass = iter(os.listdir(self.folder))
            names = list(islice(self._pass, _LOOKED_AT))
        for path in (self.folder / name for name in names if name.endswith(_SUFFIX)):
            head = self._head(path)
            if head is not None and self._expired(head):
                self._forget(path)

    def _forget_expired(self, paths: Collection[Path]) -> None:
        if not paths:
            return
        with contextlib.suppress(OSError), self._locked():  # a disk that cannot be written to keeps them
            for path in paths:
                head = self._head(path)
                if head is not None and self._expired(head):
                    self._forget(path)

    def _forget(self, path: Path) -> None:
        names = self._names(path)
        system.remove(path)
        sync_folder(self.folder)
        self._unmark(path, names)

    # --- which blobs a session names

    def _names(self, path: Path) -> set[str]:
        """Blobs that the file of a session names; none for one that is damaged, whose marks ``sweep`` finds."""
        try:
            found = self._read(path)
        except ContinuationError:
            return set()
        return state_blob_ids(found[1]) if found else set()

    def _mark(self, path: Path, blob_ids: set[str]) -> None:
        self._begin_marks()
        for blob_id in blob_ids:
            folder = self._named / _folder_name(blob_id)
            mark = folder / path.stem
            if not mark.exists():
                folder.mkdir(exist_ok=True)
                mark.touch()
                sync_folder(folder)
                sync_folder(self._named)

    def _begin_marks(self) -> None:
        """The marks of a folder that has none yet, because an earlier version wrote it."""
        if self._named.is_dir():
            return
        with atomic_folder(self._named) as temp:
            for path in self._files():
                for folder in (temp / _folder_name(blob_id) for blob_id in self._names(path)):
                    folder.mkdir(exist_ok=True)
                    (folder / path.stem).touch()
                    sync_folder(folder)

    def _unmark(self, path: Path, blob_ids: set[str]) -> None:
        """Take the marks of a session away, and the blobs that nobody names any more."""
        if not blob_ids:
            return
        self._begin_marks()
        for blob_id in blob_ids:
            (self._named / _folder_name(blob_id) / path.stem).unlink(missing_ok=True)
            self._release(blob_id)

    def _release(self, blob_id: str) -> None:
        folder = self._named / _folder_name(blob_id)
        if folder.is_dir() and any(folder.iterdir()):
            return
        try:
            if self._blobs is not None:
                self._blobs.drop(blob_id)
        except (ContinuationError, OSError):
            return  # its empty folder stays, so that the next sweep tries again
        shutil.rmtree(folder, ignore_errors=True)

    def _check_marks(self) -> None:
        """Marks of sessions that do not name the blob any more, and blobs without marks, go."""
        self._begin_marks()
        for folder in [one for one in self._named.iterdir() if one.is_dir()]:
            blob_id = _blob_id_of(folder.name)
            for mark in folder.iterdir():
                if blob_id not in self._names(self.folder / f"{mark.name}{_SUFFIX}"):
                    mark.unlink(missing_ok=True)
            if blob_id is not None:
                self._release(blob_id)


def _folder_name(blob_id: str) -> str:
    """The name of the folder of a blob's marks: the id where that is safe on every disk, else a spelling of it."""
    if is_id(blob_id) and blob_id.islower() and not blob_id.startswith(_SPELT):
        return blob_id
    data = blob_id.encode("utf-8", "surrogatepass")
    return _SPELT + (data.hex() if len(data) <= _LONGEST_SPELT else f"-{hashlib.sha256(data).hexdigest()}")


def _blob_id_of(name: str) -> str | None:
    """The blob id that a folder is named for; None for one that was too long to spell."""
    if not name.startswith(_SPELT):
        return name
    try:
        return bytes.fromhex(name.removeprefix(_SPELT)).decode("utf-8", "surrogatepass")
    except ValueError:
        return None


def _head_of(text: bytes) -> _Head | None:
    found = _HEAD.match(text)
    if not found:
        return None
    try:
        return _Head(json.loads(found[1]), float(found[2]))
    except ValueError:
        return None
