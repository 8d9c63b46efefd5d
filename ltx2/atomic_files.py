"""Files that are whole or not there, whatever happens in between: a crash, a full disk, a second process.

The order is the one databases use: write a temporary file in the same folder, flush, fsync, rename over the target,
fsync the folder. Locks belong to the operating system and end with the process, so a killed run never leaves one
behind; unfinished work is locked while it is written, so that what nobody holds any more can be told from what is
being written and be taken away at once.
"""

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from . import system
from .errors import BusyError

_PREFIX = ".ltx2-"
LOCK_FILE = ".lock"  # of a folder that one process at a time writes into
_HELD = f"{_PREFIX}held-"  # what is locked for as long as somebody writes it
_TEMP_SUFFIX = ".tmp"
_OLD_SUFFIX = ".old"
STALE_SECONDS = 3600.0
_LONGEST_PART = 255  # bytes of one name, on every common file system
_RETRIES = 20  # of a reader whose folder is replaced again and again while it reads
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)  # what a lock says that another one holds
# Where locks cannot tell: longer than a file that was closed waits for its name.
_CLOSED_SECONDS = 60.0
_HELD_MARK = ".held"  # open for as long as a folder is needed

Found = TypeVar("Found")


# --- names -----------------------------------------------------------------------------------------------------------


def is_portable(name: str) -> bool:
    """Whether a text can be the name of one file or folder on every system, and means the same on all of them."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:  # half a character
        return False
    return (
        0 < size <= _LONGEST_PART
        and name.isprintable()
        and not set(name) & system.FORBIDDEN
        and name[0] not in " ~"
        and name[-1] not in " ."
        and not system.is_device(name)
    )


def is_portable_below(name: str) -> bool:
    """Whether a text names something below a folder on every system: parts between slashes, no ``..``, drive or
    ``~``."""
    return all(map(is_portable, name.split("/")))


def file_path(path: str | Path) -> Path | None:
    """A path that the file system can be asked about, or None: one with half characters, zero bytes or a name that is
    too long is the name of nothing, and so is one that this system has for something else."""
    try:
        if system.is_refused(path):
            return None
        os.lstat(path)
    except ValueError:  # UnicodeEncodeError too
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG or system.is_too_long(error):
            return None
    return Path(path)


def is_there(path: str | Path) -> bool:
    """Whether something has this name, a link to nothing too; no name is too odd to be asked for."""
    return file_path(path) is not None and os.path.lexists(path)


# --- one file --------------------------------------------------------------------------------------------------------


class NewFile:
    """A file that gets its name when it is finished, and durably so; until then what lies under the name stays.

    file: open for writing; temp: where it lies meanwhile, for those who write by name. rescue: where another program
    has what lies under the name open, so that nothing can take its place, the new file stays beside it under a free
    name, which the error tells. Raises OSError.
    """

    def __init__(self, path: str | Path, *, rescue: bool = False) -> None:
        self.path, self._rescue = Path(path), rescue
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.temp, self.file = _held_file(self.path.parent)

    def finish(self) -> None:
        """Give the file its name; on any error it is discarded."""
        try:
            with self.file as file:
                file.flush()
                os.fsync(file.fileno())
                if not system.WINDOWS:  # still locked: nobody takes it for left behind
                    system.replace(self.temp, self.path)
            if system.WINDOWS:  # where an open file cannot be renamed
                self._take_the_name()
        except BaseException:
            self.discard()
            raise
        sync_folder(self.path.parent)

    def _take_the_name(self) -> None:
        try:
            system.replace(self.temp, self.path)
        except PermissionError as error:
            if not self._rescue or not self.path.is_file():
                raise
            free = next(one for one in (_numbered(self.path, n) for n in itertools.count(2)) if not one.exists())
            system.rename(self.temp, free)
            message = f"another program has it open, what was made is {free.name} beside it"
            raise PermissionError(error.errno, message) from error

    def discard(self) -> None:
        """Throw away what was written. Nothing happens after ``finish``."""
        with contextlib.suppress(OSError, ValueError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.temp.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when the block ends well, and durably so.

    On any error the old file, if there was one, is untouched and the temporary one is removed.
    """
    new = NewFile(path)
    try:
        yield new.file
    except BaseException:
        new.discard()
        raise
    new.finish()


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


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


def sync(path: Path) -> None:
    """Wait until a file's bytes are on disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str | Path) -> None:
    """Make renames and removals in a folder durable, where the system can (Windows cannot, and does not need to)."""
    if system.WINDOWS:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: BaseException) -> str:
    """The part of an error that a person can use, on one line and without any path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


# --- one folder ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``path`` when the block ends well. Files in it must be synced by their
    writer.

    A crash between the two renames leaves the old folder under a second name, where :func:`read_folder` finds it; the
    next writer puts it back.
    """
    path = Path(path)
    if path.is_symlink():  # what the link names is replaced, not the link
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    temp, release = _held_folder(path.parent)
    old = _old_of(path)
    try:
        yield temp
        sync_folder(temp)
        with _swapping(path.parent):
            _finish_swap(path)
            if path.exists():
                system.replace(path, old)
            try:
                system.replace(temp, path)
            except BaseException:
                _finish_swap(path)
                raise
            sync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    finally:
        release()


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends well. Raises OSError where something else than an empty
    folder has that name by then."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp, release = _held_folder(path.parent)
    try:
        yield temp
        if path.is_dir():
            path.rmdir()
        system.rename(temp, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    finally:
        release()


def recover_folder(path: str | Path) -> None:
    """Finish or undo a replacement of a folder that was cut short; waits for one that is under way. For writers."""
    path = Path(path)
    if _old_of(path).exists():
        with _swapping(path.parent):
            _finish_swap(path)


def read_folder(path: str | Path, read: Callable[[Path], Found]) -> Found:
    """What ``read`` makes of a folder that others may be replacing meanwhile; nothing is written.

    ``read`` gets the folder that is whole: the old one while a replacement was cut short. When it fails although the
    folder was another one by then, it is asked again.
    """
    path = Path(path)
    for _ in range(_RETRIES):
        before = _whole_folder(path)
        mark = _identity(before)
        try:
            return read(before)
        except Exception:
            if mark == _identity(_whole_folder(path)):
                raise
    return read(_whole_folder(path))


def folder_exists(path: str | Path) -> bool:
    """Whether a folder is there, also while its replacement is under way or was cut short."""
    path = Path(path)
    # a swap may end between the two looks, and leave the new folder where the first one found none
    return any(path.is_dir() or _old_of(path).is_dir() for _ in range(3))


def _whole_folder(path: Path) -> Path:
    old = _old_of(path)
    return path if path.exists() or not old.is_dir() else old


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _finish_swap(path: Path) -> None:
    old = _old_of(path)
    if not old.exists():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        system.replace(old, path)
        sync_folder(path.parent)


def _old_of(path: Path) -> Path:
    name = f"{_PREFIX}{path.name}{_OLD_SUFFIX}"
    if len(os.fsencode(name)) > _LONGEST_PART:
        name = f"{_PREFIX}{hashlib.sha256(os.fsencode(path.name)).hexdigest()}{_OLD_SUFFIX}"
    return path.with_name(name)


# --- what was left behind --------------------------------------------------------------------------------------------


def temp_beside(path: Path) -> Path:
    """A name for unfinished work in the folder of ``path``, which :func:`clean_stale_temps` recognises by its age."""
    return path.with_name(f"{_PREFIX}{uuid.uuid4().hex}{_TEMP_SUFFIX}")


def clean_dead_temps(folder: str | Path) -> int:
    """Remove unfinished work that no process holds any more, whatever the clock says. Returns how many went."""
    return clean_stale_temps(folder, older_than_seconds=None)


def clean_stale_temps(folder: str | Path, older_than_seconds: float | None = STALE_SECONDS) -> int:
    """Remove unfinished files and folders that a crash left behind. Returns how many.

    Those that are locked while they are written go when nobody holds them. Others go when their time is further from
    now than ``older_than_seconds``, in the past or, after the clock went back, in the future; None keeps them.
    """
    removed, now = 0, time.time()
    try:
        entries = [
            one for one in os.scandir(folder) if one.name.startswith(_PREFIX) and one.name.endswith(_TEMP_SUFFIX)
        ]
    except OSError:
        return 0
    for entry in entries:
        with contextlib.suppress(OSError):
            gone = _remove_dead(entry) if entry.name.startswith(_HELD) else None
            if gone is None and older_than_seconds is not None:  # no lock to go by
                if abs(now - entry.stat(follow_symlinks=False).st_mtime) >= older_than_seconds:
                    gone = _remove(entry)
            removed += bool(gone)
    return removed


def _remove(entry: os.DirEntry) -> bool:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path)
    else:
        os.unlink(entry.path)
    return True


def _remove_dead(entry: os.DirEntry) -> bool | None:
    """Remove an unfinished file or folder that nobody holds: whether it went, None where locks cannot tell."""
    if system.WINDOWS:
        return _remove_closed(entry)
    handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        system.lock(handle, wait=False)
        return _remove(entry)  # under the lock: its writer, if it comes to life, waits and sees that it is gone
    except OSError as error:
        return False if error.errno in _BUSY else None
    finally:
        os.close(handle)


def _remove_closed(entry: os.DirEntry) -> bool:
    """The same where what somebody has open cannot be removed. A file is closed before it gets its name."""
    if entry.is_dir(follow_symlinks=False):
        os.unlink(os.path.join(entry.path, _HELD_MARK))
    elif abs(time.time() - os.stat(entry.path).st_mtime) < _CLOSED_SECONDS:
        return False
    return _remove(entry)


def _held_file(folder: Path) -> tuple[Path, BinaryIO]:
    """A new unfinished file, locked for as long as it is open."""
    while True:
        temp = folder / f"{_HELD}{uuid.uuid4().hex}{_TEMP_SUFFIX}"
        file = open(temp, "xb")  # noqa: SIM115 - the caller closes it
        try:
            if system.WINDOWS or _hold(file.fileno(), temp):
                return temp, file
        except BaseException:
            file.close()
            raise
        file.close()


def _held_folder(folder: Path) -> tuple[Path, Callable[[], None]]:
    """A new unfinished folder, and what ends its lock."""
    if system.WINDOWS:  # folders cannot be locked there, and none with an open file renamed: age decides
        temp = temp_beside(folder / "x")
        temp.mkdir()
        return temp, lambda: None
    while True:
        temp = folder / f"{_HELD}{uuid.uuid4().hex}{_TEMP_SUFFIX}"
        temp.mkdir()
        try:
            handle = os.open(temp, os.O_RDONLY)
        except FileNotFoundError:
            if not folder.is_dir():
                raise
            continue  # a cleaner came between the two calls, when nobody held it yet
        if _hold(handle, temp):
            return temp, functools.partial(os.close, handle)
        os.close(handle)


def _hold(handle: int, temp: Path) -> bool:
    """Lock unfinished work; False when a cleaner came first and took it away."""
    with contextlib.suppress(OSError):  # where the file system has no locks, age decides
        system.lock(handle, wait=True)
    return temp.exists()


@contextlib.contextmanager
def held_folder(folder: str | Path) -> Iterator[Path]:
    """A folder inside ``folder`` for what one run needs while the block lasts; what a killed run left goes with
    :func:`clean_dead_temps`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    clean_dead_temps(folder)
    if system.WINDOWS:
        temp = Path(folder) / f"{_HELD}{uuid.uuid4().hex}{_TEMP_SUFFIX}"
        temp.mkdir()
        release: Callable[[], None] = open(temp / _HELD_MARK, "xb").close  # noqa: SIM115 - closed below
    else:
        temp, release = _held_folder(Path(folder))
    try:
        yield temp
    finally:
        release()
        shutil.rmtree(temp, ignore_errors=True)


# --- locks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_lock(path: str | Path, *, wait: bool = True, busy: str = "", seconds: float = 0) -> Iterator[None]:
    """Hold the lock file ``path``; ``wait=False`` raises BusyError(``busy``) when another process holds it for longer
    than some seconds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                system.lock(file.fileno(), wait=wait)
                break
            except OSError as error:
                if error.errno not in _BUSY:
                    raise
                if not wait and time.monotonic() >= deadline:
                    raise BusyError(busy or f"{path} is locked by another process, wait for it to end") from error
                time.sleep(0.05)  # Windows does not wait by itself
        try:
            yield
        finally:
            system.unlock(file.fileno())


@contextlib.contextmanager
def _swapping(folder: Path) -> Iterator[None]:
    """Held while folders in ``folder`` are being replaced, so that two writers never meet between the two renames."""
    if system.WINDOWS:
        key = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        with file_lock(Path(tempfile.gettempdir()) / f"ltx2-{key}.lock"):
            yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock a folder
            system.lock(handle, wait=True)
        yield
    finally:
        os.close(handle)
