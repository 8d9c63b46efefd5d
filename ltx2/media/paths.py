"""What a path must be before a picture, clip or sound is read from it or written to it, and how PyAV opens it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ..atomic_files import reason
from ..errors import Ltx2Error, MediaError, MissingPackageError, is_out_of_memory
from ..system import is_refused

FilePath = str | os.PathLike
_SHOWN_CHARACTERS = 120


def require_av() -> ModuleType:
    """The PyAV module. Raises MissingPackageError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingPackageError(
            "reading and writing video and sound needs PyAV: install it with `pip install av`"
        ) from error
    return av


def shown(path: object) -> str:
    """A path as a message can hold it: on one line, printable everywhere, at most 120 characters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(path))
    half = _SHOWN_CHARACTERS // 2
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: half - 1]}…{text[-half:]}"


def check_target(path: FilePath, *, overwrite: bool = True) -> Path:
    """A path that can be written to; its folder is made. Raises MediaError."""
    path = _path(path, "write")
    if _kind(path, "write") == "folder":
        raise MediaError(f"cannot write {shown(path)}: it is a folder, expected a file name")
    if path.exists() and not overwrite:
        raise MediaError(f"{shown(path)} exists already: choose another name or allow overwriting")
    if is_refused(path):
        raise MediaError(f"cannot write {shown(path)}: no file can have this name here, use another one")
    if not _is_text(path):
        raise MediaError(f"cannot write {shown(path)}: its name holds characters that are not text, use another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot write {shown(path)}: its folder cannot be made ({reason(error)})") from error
    return path


def check_source(path: FilePath) -> Path:
    """An existing file. Raises MediaError."""
    path = _path(path, "read")
    kind = _kind(path, "read")
    if kind != "file":
        raise MediaError(f"cannot read {shown(path)}: {'it is a folder' if kind == 'folder' else 'no such file'}")
    return path


@contextmanager
def opened(path: FilePath) -> Iterator[Any]:
    """A video or sound file open for reading, as a PyAV container. Whatever is wrong inside becomes a MediaError of one
    sentence.

    Tags in other encodings than UTF-8 are read with their odd bytes replaced: they are of no interest here.
    """
    av = require_av()
    path = check_source(path)
    try:
        with ExitStack() as stack:
            # a name in another encoding is known to the file system alone
            source = str(path) if _is_text(path) else stack.enter_context(open(path, "rb"))
            yield stack.enter_context(av.open(source, metadata_errors="replace"))
    except Ltx2Error:
        raise
    except Exception as error:  # damaged files raise nearly anything
        # one that claims to be huge makes FFmpeg say that memory ran out
        if is_out_of_memory(error) and not isinstance(error, av.FFmpegError):
            raise
        raise MediaError(
            f"{shown(path)} is damaged or no video or sound file ({_short(reason(error))}): copy or convert it again"
        ) from error


@contextmanager
def as_media_error(what: str) -> Iterator[None]:
    """Errors of the file system and of FFmpeg inside the block as MediaError ``what: reason``; memory that ran out
    stays what it is."""
    try:
        yield
    except Ltx2Error:
        raise
    except Exception as error:
        # not all of PyAV's are OSErrors
        if is_out_of_memory(error) or not (isinstance(error, OSError) or hasattr(error, "strerror")):
            raise
        raise MediaError(f"{what}: {_why(error)}") from error


def _why(error: Exception) -> str:
    """What a person can use of an error; an encoder's own errors reach us without a reason, and most are of memory."""
    said = reason(error)
    if type(error).__name__ == "ExternalError":
        return f"the encoder or decoder gave up, as it does when there is no memory left ({said})"
    return said


def _path(path: object, what: str) -> Path:
    try:
        return Path(os.fspath(path))  # type: ignore[call-overload]  # what it is shows itself
    except TypeError as error:
        raise MediaError(f"cannot {what} {type(path).__name__}: expected the path of a file") from error


def _kind(path: Path, what: str) -> str | None:
    """``file``, ``folder`` or None; a name that no file can have is an error."""
    if "\0" in str(path):  # pathlib finds no file of such a name, or fails to ask
        raise MediaError(f"cannot {what} {shown(path)}: its name holds a character that no file name has")
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else None
    except OSError as error:
        raise MediaError(f"cannot {what} {shown(path)}: {_short(reason(error))}") from error


def _is_text(path: Path) -> bool:
    try:
        return bool(str(path).encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
