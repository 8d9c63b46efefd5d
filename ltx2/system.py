"""What one operating system does otherwise than another: locks, files that somebody has open, names, processes.

On Windows a file that a program has open, or mapped into memory, can be neither replaced nor renamed nor removed, and
the system's own programs (search, virus scanners) open every new file for a moment.
"""

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

WINDOWS = sys.platform == "win32"
# How long a name that somebody has open is waited for: long enough for a virus scanner, short enough for a person.
PATIENCE_SECONDS = 2.0
_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.2
_DEAF_SECONDS = 0.5
_PATH_TOO_LONG = 206  # Windows' number of that error
# Names that Windows gives to devices, whatever the folder and the suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
FORBIDDEN = frozenset('/\\:*?"<>|')

Result = TypeVar("Result")


# --- files that somebody has open ------------------------------------------------------------------------------------


def replace(source: str | Path, target: str | Path) -> None:
    """As ``os.replace``; where somebody has one of the two open for a moment it is waited for. Raises OSError."""
    _patiently(lambda: os.replace(source, target))


def rename(source: str | Path, target: str | Path) -> None:
    """As ``os.rename``; where somebody has the source open for a moment it is waited for. Raises OSError."""
    _patiently(lambda: os.rename(source, target))


def remove(path: str | Path) -> None:
    """Remove a file that may be gone already; one that somebody has open for a moment is waited for. Raises OSError."""
    _patiently(lambda: Path(path).unlink(missing_ok=True))


def is_held(path: str | Path) -> bool:
    """Whether a program has a file open so that nothing can take its place, as only Windows knows it."""
    if not WINDOWS or not os.path.isfile(path):
        return False
    try:
        rename(path, path)  # changes nothing, and is refused as a replacement would be
    except PermissionError:
        return True
    return False


def _patiently(act: Callable[[], Result]) -> Result:
    deadline, wait = time.monotonic() + PATIENCE_SECONDS, _FIRST_WAIT
    while True:
        try:
            return act()
        except PermissionError:
            if not WINDOWS or time.monotonic() > deadline:
                raise
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


# --- locks -----------------------------------------------------------------------------------------------------------


def lock(handle: int, *, wait: bool) -> None:
    """Lock an open file, or a folder where the system can. Raises OSError when another one holds it; on Windows nobody
    waits here."""
    if WINDOWS:
        _lock_byte(handle, "LK_NBLCK")
    else:
        locks = _posix_locks()
        locks.flock(handle, locks.LOCK_EX | (0 if wait else locks.LOCK_NB))


def unlock(handle: int) -> None:
    """End what :func:`lock` began. Raises OSError."""
    if WINDOWS:
        _lock_byte(handle, "LK_UNLCK")
    else:
        locks = _posix_locks()
        locks.flock(handle, locks.LOCK_UN)


def _lock_byte(handle: int, how: str) -> None:
    locks: Any = importlib.import_module("msvcrt")
    os.lseek(handle, 0, os.SEEK_SET)
    locks.locking(handle, getattr(locks, how), 1)


def _posix_locks() -> Any:
    return importlib.import_module("fcntl")


# --- names -----------------------------------------------------------------------------------------------------------


def is_device(name: str) -> bool:
    """Whether Windows takes a file of this name for a device."""
    return bool(_DEVICES.match(name))


def is_refused(path: str | Path) -> bool:
    """Whether this system has no file of such a name. On Windows a colon would write into a part of another file that
    nobody sees."""
    if not WINDOWS:
        return False
    whole = PureWindowsPath(path)
    parts = whole.parts[1:] if whole.anchor else whole.parts
    return any(set(part) & FORBIDDEN or is_device(part) or min(part, default=" ") < " " for part in parts)


def is_too_long(error: OSError) -> bool:
    """Whether Windows says that a path is too long, which it calls one that does not exist."""
    return getattr(error, "winerror", None) == _PATH_TOO_LONG


# --- processes -------------------------------------------------------------------------------------------------------


def apart() -> dict[str, Any]:
    """How ``subprocess`` starts a process that the keyboard's signal does not reach."""
    if WINDOWS:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def wait_for(futures: Sequence[Future]) -> None:
    """Until all of them are done. On Windows the keyboard is not heard during a wait that has no end of its own."""
    while wait(futures, _DEAF_SECONDS).not_done:
        pass


def parent_watch(parent: int) -> Callable[[], bool]:
    """What tells whether a process that is our parent, or its, is gone. Raises OSError where it is gone already."""
    if not WINDOWS:
        return lambda: os.getppid() != parent
    api: Any = importlib.import_module("_winapi")
    # there a parent's number never changes, and may be given to another process: this one is held
    handle = api.OpenProcess(api.SYNCHRONIZE, False, parent)
    return lambda: api.WaitForSingleObject(handle, 0) == api.WAIT_OBJECT_0
