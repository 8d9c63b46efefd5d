"""What a path must be before a picture, clip or sound is read from it or written to it, and PyAV where it is
installed."""

from pathlib import Path

from ..atomic_files import reason
from ..errors import MediaError, MissingPackageError


def require_av():
    """The PyAV module. Raises MissingPackageError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingPackageError(
            "reading and writing video and sound needs PyAV: install it with `pip install av`"
        ) from error
    return av


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
