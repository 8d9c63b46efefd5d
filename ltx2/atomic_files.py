"""Files that are whole or not there, whatever happens in between: a crash, a full disk, a second process.

The order is the one databases use: write a temporary file in the same folder, flush, fsync, rename over the target,
fsync the folder. Locks belong to the operating system and end with the process, so a killed run never leaves one
behind.
"""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import ContinuationError

if os.name == "nt":
    import msvcrt
else:
    import fcntl

_TEMP_PREFIX = ".ltx2-"
_TEMP_SUFFIX = ".tmp"
_OLD_SUFFIX = ".old"
STALE_SECONDS = 3600.0


def temp_beside(path: Path) -> Path:
    """A name for unfinished work in the folder of ``path``, which :func:`clean_stale_temps` recognises."""
    return path.with_name(f"{_TEMP_PREFIX}{uuid.uuid4().hex}{_TEMP_SUFFIX}")


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when the block ends well, and durably so.

    On any error the old file, if there was one, is untouched and the temporary one is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = temp_beside(path)
    try:
        with open(temp, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a whole file durably; old or new content, never a mixture."""
    with atomic_file(path) as file:
        file.write(data)


def write_synced(path: str | Path, data: bytes) -> None:
    """Write a file inside a folder that is not in place yet, and wait until it is on disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def partial_path(path: Path) -> Path:
    """Where ``path`` is written until it is complete: a hidden file in the same folder, so that the rename is
    atomic."""
    return path.with_name(f".{path.name}.part-{os.getpid()}")


def sync(path: Path) -> None:
    """Wait until a file's bytes are on disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(partial: Path, path: Path) -> None:
    """Flush a complete file to disk and give it its name."""
    sync(partial)
    os.replace(partial, path)


def reason(error: BaseException) -> str:
    """The part of an error that a person can use, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def sync_folder(folder: str | Path) -> None:
    """Make renames and removals in a folder durable, where the system can (Windows cannot, and does not need to)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``path`` when the block ends well. Files in it must be synced by their
    writer.

    A crash between the two renames leaves the old folder under a second name; :func:`recover_folder` puts it back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    temp, old = temp_beside(path), _old_of(path)
    temp.mkdir()
    try:
        yield temp
        sync_folder(temp)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temp, path)
        except BaseException:
            recover_folder(path)
            raise
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: str | Path) -> None:
    """Finish or undo a replacement of a folder that was cut short."""
    path = Path(path)
    old = _old_of(path)
    if not old.exists():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(old, path)
        sync_folder(path.parent)


def _old_of(path: Path) -> Path:
    return path.with_name(f"{_TEMP_PREFIX}{path.name}{_OLD_SUFFIX}")


def clean_stale_temps(folder: str | Path, older_than_seconds: float = STALE_SECONDS) -> int:
    """Remove unfinished files and folders that a crash left behind; younger ones may belong to another process. Returns
    how many."""
    removed, now = 0, time.time()
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if not (entry.name.startswith(_TEMP_PREFIX) and entry.name.endswith(_TEMP_SUFFIX)):
                continue
            with contextlib.suppress(OSError):
                if now - entry.stat(follow_symlinks=False).st_mtime < older_than_seconds:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
                removed += 1
    return removed


@contextlib.contextmanager
def file_lock(path: str | Path, *, wait: bool = True, busy: str = "") -> Iterator[None]:
    """Hold the lock file ``path``; ``wait=False`` raises ContinuationError(``busy``) when another process holds it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        while True:
            try:
                _take(file, wait)
                break
            except OSError as error:
                if not wait:
                    raise ContinuationError(
                        busy or f"{path} is locked by another process, wait for it to end"
                    ) from error
                time.sleep(0.05)  # Windows gives up waiting after ten seconds
        try:
            yield
        finally:
            _release(file)


def _take(file, wait: bool) -> None:
    if os.name == "nt":
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _release(file) -> None:
    if os.name == "nt":
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)
