"""Which states lie in the host's input and output folders, newest first, in time that hardly grows with what else lies
there: a folder is read again when something in it came or went, and each file is looked into once."""

import os
import threading
import time
from dataclasses import dataclass, field

from ..ltx2.continuation.recognise import STATE_SUFFIXES, holds_state
from . import host

KINDS = {"input": "", "output": " [output]"}  # folder → what its files have behind their names
MOST = 1000  # names in the list; older ones can be typed in
MOST_FOLDERS = 200  # below one folder
SETTLED_SECONDS = 2.0  # a folder's time may stand still for changes that follow each other closely


@dataclass
class _Folder:
    """A folder as it was at ``changed``: the folders in it, and its states with their times."""

    changed: int = -1
    folders: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    looked_at: dict[str, tuple[int, int, bool]] = field(default_factory=dict)


class StateList:
    """Remembers what it saw of folders. One for the whole process, as the host's own lists of files are."""

    def __init__(self) -> None:
        self._seen: dict[str, _Folder] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """As Load Continuation State takes them: in the input folder plain, in the output folder with [output]."""
        found: list[tuple[int, str]] = []
        with self._lock:
            for kind, mark in KINDS.items():
                base = str(host.user_folder(kind))
                for path, changed in self._below(base):
                    found.append((changed, os.path.relpath(path, base).replace(os.sep, "/") + mark))
        return [name for _, name in sorted(found, key=lambda one: (-one[0], one[1]))[:MOST]]

    def _below(self, folder: str):
        known = self._read(folder)
        for name, changed in known.states.items():
            yield os.path.join(folder, name), changed
        for name in known.folders[:MOST_FOLDERS]:
            yield from self._below(os.path.join(folder, name))

    def _read(self, folder: str) -> _Folder:
        known = self._seen.setdefault(folder, _Folder())
        try:
            changed = os.stat(folder).st_mtime_ns
            if changed == known.changed:
                return known
            settled = time.time_ns() - changed > SETTLED_SECONDS * 1e9
            fresh = _Folder(changed if settled else -1)
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda one: one.name):
                    self._look_at(entry, known, fresh)
        except OSError:
            fresh = _Folder()
        self._seen[folder] = fresh
        return fresh

    def _look_at(self, entry: os.DirEntry, known: _Folder, fresh: _Folder) -> None:
        if entry.name.startswith(".") or not entry.name.isprintable():
            return
        if entry.is_symlink() and not any(host.inside(host.user_folder(kind), entry.path) for kind in KINDS):
            return
        if entry.is_dir(follow_symlinks=False):
            if holds_state(entry.path):
                fresh.states[entry.name] = entry.stat().st_mtime_ns
            else:
                fresh.folders.append(entry.name)
        elif entry.name.lower().endswith(STATE_SUFFIXES):
            at = entry.stat()
            size, changed, is_state = known.looked_at.get(entry.name, (-1, -1, False))
            if (size, changed) != (at.st_size, at.st_mtime_ns):
                is_state = holds_state(entry.path)
            fresh.looked_at[entry.name] = (at.st_size, at.st_mtime_ns, is_state)
            if is_state:
                fresh.states[entry.name] = at.st_mtime_ns


STATES = StateList()
