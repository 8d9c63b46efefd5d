"""The journal of a story: one line of JSON for each thing that is done and on disk, so that a killed run goes on where
it was.

A line is written after everything it speaks of is durable, and is durable itself before the run goes on. Each ends in a
checksum of its own; a last line that was cut short is dropped, a damaged one in the middle is an error.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..atomic_files import file_lock, sync_folder
from ..errors import StoryError

JOURNAL_FILE = "journal.jsonl"
LOCK_FILE = ".lock"
_VERSION = 1
_MAX_BYTES = 256 * 2**20


class Journal:
    """An open journal: the entries so far, and appending."""

    def __init__(self, path: Path, entries: list[dict[str, Any]]) -> None:
        self.path, self.entries = path, entries

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Add an entry; when this returns it is on disk. Raises StoryError."""
        entry = {"v": _VERSION, "event": event, **fields}
        line = json.dumps(entry, sort_keys=True, allow_nan=False)
        try:
            new = not self.path.exists()
            with open(self.path, "ab") as file:
                file.write(f"{line}\t{_check(line)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise StoryError(f"{self.path} cannot be written: {error.strerror or error}") from error
        # read back as a later run would find it
        entry = json.loads(line)
        self.entries.append(entry)
        return entry


@contextlib.contextmanager
def open_journal(folder: str | Path) -> Iterator[Journal]:
    """The journal of a work folder, held against other processes while the block runs.

    Raises BusyError when another process works there, StoryError when the journal is damaged before its last line.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoryError(f"the work folder {folder} cannot be made: {error.strerror or error}") from error
    busy = f"another process works on the story in {folder}: wait for it, or use another work folder"
    with contextlib.ExitStack() as held:
        held.enter_context(file_lock(folder / LOCK_FILE, wait=False, busy=busy))
        path = folder / JOURNAL_FILE
        entries, whole = read_journal(path)
        if path.exists() and whole < path.stat().st_size:
            # what a killed run was writing; nothing relies on it
            with open(path, "r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        yield Journal(path, entries)


def read_journal(path: str | Path) -> tuple[list[dict[str, Any]], int]:
    """The entries of a journal file and how many bytes of it are whole. Raises StoryError naming a damaged line."""
    path = Path(path)
    if not path.exists():
        return [], 0
    if path.stat().st_size > _MAX_BYTES:
        raise StoryError(
            f"{path} has {path.stat().st_size} bytes, expected at most {_MAX_BYTES}: begin in a new work folder"
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
                f"{path}, line {number}: the entry is damaged; remove this line and all after it to compute those anew"
            )
        if entry.get("v") != _VERSION:
            raise StoryError(
                f"{path}, line {number}: journal version {entry.get('v')!r}, expected {_VERSION}: use a new work folder"
            )
        entries.append(entry)
        whole += len(line) + 1
    return entries, whole


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
