"""Files that are either whole or not there: written beside their place, flushed to disk, then renamed."""

import os
from pathlib import Path

from ..errors import MediaError, MissingPackageError


def require_av():
    """The PyAV module. Raises MissingPackageError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("reading and writing video and sound needs PyAV: install it with `pip install av`") from error
    return av


def partial_path(path: Path) -> Path:
    """Where ``path`` is written until it is complete: a hidden file in the same folder, so that the rename is atomic."""
    return path.with_name(f".{path.name}.part-{os.getpid()}")


def check_target(path, *, overwrite: bool = True) -> Path:
    """A path that can be written to; its folder is made. Raises MediaError."""
    path = Path(path)
    if path.is_dir():
        raise MediaError(f"cannot write {path}: it is a folder, expected a file name")
    if path.exists() and not overwrite:
        raise MediaError(f"{path} exists already: choose another name or allow overwriting")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot write {path}: its folder cannot be made ({reason(error)})") from error
    return path


def check_source(path) -> Path:
    """An existing file. Raises MediaError."""
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"cannot read {path}: {'it is a folder' if path.is_dir() else 'no such file'}")
    return path


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
