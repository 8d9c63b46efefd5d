"""What tells model files apart without reading them whole: name, size, time, header and samples of the content."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..checkpoint.reader import parts_of
from .tokenizer import tokenizer_files

_HEADER_BYTES = 2**20
_SAMPLES, _SAMPLE_BYTES = 16, 2**12  # spread over a file: a model that was trained on has the header of the one before


def text_files(encoder: str | Path, weights: Sequence[Path], others: Iterable[str | Path]) -> list[Path]:
    """Every file that decides a prompt's context: the encoder's weights with what lies beside them (tokenizer,
    configuration), and other files, all parts of each."""
    folder = Path(encoder) if Path(encoder).is_dir() else Path(encoder).parent
    beside = [*tokenizer_files(folder), *([folder / "config.json"] if Path(encoder).is_dir() else [])]
    files = [part for path in (*weights, *others) for part in parts_of(path)]
    return [*dict.fromkeys(files), *(path for path in beside if path.is_file())]


def quick_key(files: Iterable[Path], settings: Iterable[object] = ()) -> str:
    """A text that is another when a file is another or was written to, or a setting is another. No file is opened.
    Raises OSError."""
    digest = hashlib.sha256(_spelled(settings))
    for path in files:
        status = os.stat(path)
        place = os.fsencode(os.path.realpath(path))
        digest.update(b"%s\0%d %d\0" % (place, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def content_identity(files: Iterable[Path], settings: Iterable[object] = ()) -> str:
    """The same, and the same wherever the files lie: from their names, sizes, times, headers, and samples of what is
    behind these. Reads a megabyte or two of each. Raises OSError."""
    digest = hashlib.sha256(_spelled(settings))
    for path in files:
        status = os.stat(path)
        digest.update(b"%s\0%d %d\0" % (os.fsencode(Path(path).name), status.st_size, status.st_mtime_ns))
        with open(path, "rb") as file:
            digest.update(file.read(_HEADER_BYTES))
            for sample in range(_SAMPLES):
                file.seek(max(0, status.st_size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _spelled(settings: Iterable[object]) -> bytes:
    return repr([str(setting) for setting in settings]).encode("utf-8", "backslashreplace")
