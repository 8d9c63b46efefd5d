"""A weight file on disk: opened with care, mapped into memory, read tensor by tensor.

Symlinks are followed, since people keep one copy of a model in several folders, but what they lead to has to be a
regular file. A file that is replaced or changed after it was opened is refused by every later read; tensors handed out
before keep the bytes of the old file, as long as the new one was put in its place by renaming. Overwriting a mapped
file in place changes or breaks what was handed out, as with any mapping.

A file that others replace or take away as they like is held (:func:`held_weight_file`): read through one handle.
"""

import contextlib
import io
import mmap
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import system
from ..errors import CheckpointError
from .recognition.file_kinds import FIRST_BYTES

# Beside a file that aria2, axel and lftp are still filling; they take it away at the end.
UNFINISHED = (".aria2", ".st", ".lftp-pget-status")
# What browsers and other programs download into, beside the name that the file gets at the end.
DOWNLOADS = (
    ".part",
    ".crdownload",
    ".incomplete",
    ".partial",
    ".download",
    ".opdownload",
    ".fdmdownload",
    ".!qB",
    ".tmp",
)


@dataclass(frozen=True, eq=False)
class WeightFile:
    """An open file: where it is, how long it is, what it was when it was opened, and its bytes.

    ``mapping`` is private to this process (writing to a tensor never reaches the file) and None where the system
    refuses one; tensors are read into memory then. ``handle``: everything is read through it, and what its path names
    meanwhile does not matter; None: the file is opened again for each read.
    """

    path: Path
    size: int
    identity: tuple[int, ...]
    mapping: mmap.mmap | None
    handle: io.FileIO | None = None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    def view(self, offset: int, nbytes: int) -> torch.Tensor:
        """Bytes as a tensor [nbytes] uint8 that shares the mapping where there is one."""
        if self.mapping is None or nbytes == 0:
            return self.read(offset, nbytes)
        try:
            now = _identity(os.stat(self.path))
        except OSError as error:
            raise self._unreadable(error) from error
        if now != self.identity:
            raise self._changed()
        return torch.frombuffer(self.mapping, dtype=torch.uint8, count=nbytes, offset=offset)

    def read(self, offset: int, nbytes: int) -> torch.Tensor:
        """Bytes as a tensor [nbytes] uint8 of its own."""
        out = torch.empty(nbytes, dtype=torch.uint8)
        for _ in self.chunks(offset, nbytes, lambda at, count: out[at : at + count], nbytes):
            pass
        return out

    def chunks(
        self, offset: int, nbytes: int, place: Callable[[int, int], torch.Tensor], size: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Bytes in pieces of at most ``size``: where each begins, and the piece [n] uint8 in the memory that
        ``place(begin, n)`` gives for it, read when it is asked for."""
        if not nbytes:
            return
        with self._opened() as file:
            for at in range(0, nbytes, size):
                part = place(at, min(size, nbytes - at))
                self._fill(file, offset + at, part)
                yield at, part

    def _fill(self, file: io.FileIO, offset: int, part: torch.Tensor) -> None:
        target, done = part.numpy().data, 0
        try:
            file.seek(offset)
            while done < len(target):
                count = file.readinto(target[done:])
                if not count:
                    raise self._changed()
                done += count
        except OSError as error:
            raise self._unreadable(error) from error

    @contextlib.contextmanager
    def _opened(self) -> Iterator[io.FileIO]:
        if self.handle is not None:
            yield self.handle
            return
        try:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115 (closed below)
        except OSError as error:
            raise self._unreadable(error) from error
        with file:
            if _identity(os.fstat(file.fileno())) != self.identity:
                raise self._changed()
            yield file

    def _unreadable(self, error: OSError) -> CheckpointError:
        return CheckpointError(f"{self.path} cannot be read any more ({error.strerror}): load it again")

    def _changed(self) -> CheckpointError:
        return CheckpointError(
            f"{self.path} was replaced or changed since it was opened, expected the same file: load it again"
        )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    if system.WINDOWS:  # by name and by handle it numbers disks and files differently; a mapped file stays as it is
        return status.st_size, status.st_mtime_ns
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_weight_file(path: str | os.PathLike) -> tuple[WeightFile, bytes]:
    """The file and its first bytes (at most FIRST_BYTES). Raises CheckpointError when there is none, it is not a
    regular file, or its download is not finished."""
    path = Path(path)
    try:
        kind = os.stat(path).st_mode  # before opening: a named pipe would wait for a writer
        if stat.S_ISDIR(kind):
            raise CheckpointError(f"{path} is a folder, expected a .safetensors or .gguf file: name the file in it")
        if not stat.S_ISREG(kind):
            raise CheckpointError(
                f"{path} is not a regular file, expected a .safetensors or .gguf file: name the file itself"
            )
        _check_finished(path, UNFINISHED if os.path.getsize(path) else UNFINISHED + DOWNLOADS)
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            first = file.read(FIRST_BYTES)
            mapping = _map(file.fileno(), status.st_size)
    except (OSError, ValueError) as error:  # a ValueError is a NUL in the name
        if isinstance(error, CheckpointError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{path} cannot be opened ({reason}): {_opening_fix(path, error)}") from error
    return WeightFile(path, status.st_size, _identity(status), mapping), first


def _check_finished(path: Path, endings: Iterable[str]) -> None:
    """Raise CheckpointError where a file beside one says that its download goes on."""
    beside = _beside(path, endings)
    if beside:
        raise CheckpointError(
            f"{path} is not downloaded to its end, as {beside} beside it says: go on with the download"
        )


def _beside(path: Path, endings: Iterable[str]) -> str | None:
    names = (f"{path.name}{ending}" for ending in endings)
    return next((name for name in names if path.with_name(name).exists()), None)


def _opening_fix(path: Path, error: Exception) -> str:
    """What to do about a file that cannot be opened."""
    if isinstance(error, PermissionError):
        return "its permissions, or those of a folder above it, do not let you read it, so change them"
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return "it is a link to a file that is not there, as a download that was broken off leaves one"
    beside = _beside(path, DOWNLOADS) if isinstance(error, FileNotFoundError) else None
    if beside:
        return f"its download is not finished, as {beside} beside it says, so go on with it"
    return "check the path"


@contextlib.contextmanager
def held_weight_file(path: str | os.PathLike) -> Iterator[tuple[WeightFile, bytes]]:
    """The file and its first bytes (at most FIRST_BYTES), as it is now while the block lasts, whatever others give its
    name to or take away meanwhile. Nothing is mapped. Raises OSError when it cannot be opened."""
    path = Path(path)
    with open(path, "rb", buffering=0) as handle:
        status = os.fstat(handle.fileno())
        file = WeightFile(path, status.st_size, _identity(status), None, handle)
        yield file, file.read(0, min(FIRST_BYTES, status.st_size)).numpy().tobytes()


def _map(descriptor: int, size: int) -> mmap.mmap | None:
    if not size:
        return None
    try:
        if hasattr(mmap, "MAP_PRIVATE"):
            # no swap is set aside: a file may be larger than the memory of the machine, and is hardly ever written to
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
            return mmap.mmap(descriptor, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    except (OSError, ValueError, OverflowError):
        return None


def unfinished(file: WeightFile, expected: int, by: str) -> CheckpointError:
    """An error for a file that ends before what its own header says, as one does whose download was broken off."""
    share = 100 * file.size // expected
    return CheckpointError(
        f"{file.path} is {file.size} bytes long, expected {expected} {by}: its download was broken off at {share} %, "
        "go on with it"
    )


HEADER_LIMIT_BYTES = 100_000_000  # of either format
NAME_LIMIT = 256  # characters; far above any real tensor's
SHOWN = 80
NAMES_SHOWN = 3


def is_name(name: str) -> bool:
    """Whether a tensor may be called so: names are shown to people, on one line."""
    return 0 < len(name) <= NAME_LIMIT and name.isprintable()


def shown(value: Any, limit: int = SHOWN) -> str:
    """A value out of a file as part of a message: on one line, and not too long."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 3]}…"


def first_names(names: Iterable[str]) -> str:
    """A few of many names, for a message."""
    names = list(names)
    return ", ".join(shown(name, 70) for name in names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
