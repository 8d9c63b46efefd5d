"""The journal of a story: one line of JSON for each thing that is done and on disk, so that a killed run goes on where
it was.

A line is written after everything it speaks of is durable, and is durable itself before the run goes on. Each ends in a
checksum of its own; a last line that was cut short is dropped, a damaged one in the middle is an error. What a story
may remove or replace is what its journal names.
"""

import contextlib
import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..atomic_files import LOCK_FILE, file_lock, sync_folder
from ..errors import BusyError, StoryError
from .sentences import as_story_error, shown

JOURNAL_FILE = "journal.jsonl"
# Who only asks whether somebody is at work holds the lock for a moment: such a one is waited for.
LOOKED_AT_SECONDS = 0.5
_VERSION = 1
_MAX_BYTES = 256 * 2**20
# What every line begins with, in journals of all versions.
_BEGINS = b'{"event": "'


class Journal:
    """An open journal: the entries so far, and appending."""

    def __init__(self, path: Path, entries: list[dict[str, Any]]) -> None:
        self.path, self.entries = path, entries
        self._broken, self._lock = False, threading.Lock()

    @property
    def folder(self) -> Path:
        """The work folder."""
        return self.path.parent

    def append(self, event: str, *, durable: bool = True, **fields: Any) -> dict[str, Any]:
        """Add an entry; when this returns it is on disk. durable False: for what only informs, which need not wait for
        the disk. Threads may share a journal. Raises StoryError."""
        entry = {"v": _VERSION, "event": event, **fields}
        line = json.dumps(entry, sort_keys=True, allow_nan=False)
        with self._lock, as_story_error(f"the journal in {shown(self.folder)} cannot be written"):
            if self._broken:
                raise OSError("an earlier line could not be written whole")
            new = not self.path.exists()
            self._write(f"{line}\t{_check(line)}\n".encode(), durable)
            if new:
                sync_folder(self.folder)
            # read back as a later run would find it
            entry = json.loads(line)
            self.entries.append(entry)
        return entry

    def _write(self, line: bytes, durable: bool) -> None:
        # without a buffer, which would try again when it is closed
        with open(self.path, "ab", buffering=0) as file:
            whole = file.seek(0, os.SEEK_END)
            try:
                while line:
                    line = line[file.write(line) :]
                if durable:
                    os.fsync(file.fileno())
            except BaseException:
                # half a line would damage what is written behind it
                self._broken = True
                with contextlib.suppress(OSError):
                    file.truncate(whole)
                    self._broken = False
                raise

    def of(self, event: str) -> Iterator[dict[str, Any]]:
        """The entries of one kind, in order."""
        return (entry for entry in tuple(self.entries) if entry["event"] == event)


def whereabouts() -> str:
    """Which process on which machine, for entries that say who is at work."""
    return f"{platform.node() or 'this machine'}:{os.getpid()}"


def now() -> int:
    """Seconds since 1970, for people to read."""
    return int(time.time())


@contextlib.contextmanager
def open_journal(folder: str | Path) -> Iterator[Journal]:
    """The journal of a work folder, held against other processes while the block runs.

    Raises BusyError when another process works there, StoryError when the journal is damaged before its last line.
    """
    folder = Path(folder)
    with as_story_error(f"the work folder {shown(folder)} cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    busy = f"another process works on the story in {shown(folder)}: wait for it, or use another work folder"
    with contextlib.ExitStack() as held:
        with as_story_error(f"the work folder {shown(folder)} cannot be written to"):
            lock = file_lock(folder / LOCK_FILE, wait=False, busy=busy, seconds=LOOKED_AT_SECONDS)
            held.enter_context(lock)
        path = folder / JOURNAL_FILE
        entries, whole = read_journal(path)
        with as_story_error(f"the journal in {shown(folder)} cannot be written"):
            if path.exists() and whole < path.stat().st_size:
                # what a killed run was writing; nothing relies on it
                with open(path, "r+b") as file:
                    file.truncate(whole)
                    os.fsync(file.fileno())
        yield Journal(path, entries)


def is_at_work(folder: str | Path) -> bool:
    """Whether a process holds the journal of a work folder; leaves nothing behind."""
    lock = Path(folder) / LOCK_FILE
    if not lock.is_file():
        return False
    try:
        with file_lock(lock, wait=False, seconds=LOOKED_AT_SECONDS / 5):
            return False
    except (BusyError, OSError):
        return True


def read_journal(path: str | Path) -> tuple[list[dict[str, Any]], int]:
    """The entries of a journal file and how many bytes of it are whole. Raises StoryError naming a damaged line."""
    path = Path(path)
    with as_story_error(f"{shown(path)} cannot be read"):
        if not path.exists():
            return [], 0
        if path.stat().st_size > _MAX_BYTES:
            raise StoryError(
                f"{shown(path)} has {path.stat().st_size} bytes, expected at most {_MAX_BYTES}: begin in a new work "
                "folder"
            )
        data = path.read_bytes()
    entries, whole = [], 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if number == len(lines):
            break  # what follows the last line end: nothing, or a torn line
        entry = _parse(line)
        if entry is None:
            if number == len(lines) - 1:
                break  # torn by a disk that wrote the end of the line first
            raise StoryError(
                f"{shown(path)}, line {number}: the entry is damaged; remove this line and all after it to compute "
                "those anew"
            )
        if entry.get("v") != _VERSION:
            raise StoryError(
                f"{shown(path)}, line {number}: journal version {str(entry.get('v'))[:20]}, expected {_VERSION}: use "
                "a new work folder"
            )
        if not isinstance(entry.get("event"), str):
            raise StoryError(f"{shown(path)}, line {number}: the entry names no event: remove this line")
        entries.append(entry)
        whole += len(line) + 1
    if not entries and not _may_be_torn(data):
        raise StoryError(f"{shown(path)} is no story's journal: use another work folder")
    return entries, whole


def _may_be_torn(data: bytes) -> bool:
    """Whether a file without one whole line is the start of a journal; where the disk wrote nothing there are zeros."""
    return all(got in (want, 0) for got, want in zip(data, _BEGINS)) and (len(data) < len(_BEGINS) or b"{" in data[:1])


def _parse(line: bytes) -> dict[str, Any] | None:
    text, _, check = line.rpartition(b"\t")
    try:
        if check.decode() != _check(text.decode()):
            return None
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _check(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]
