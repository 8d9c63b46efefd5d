"""Names in the host's folders: which of them are safe, and where a saving node writes."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..ltx2.atomic_files import file_path


def inside(base: str | os.PathLike, path: str | os.PathLike) -> bool:
    """Whether ``path``, links resolved, lies in ``base`` or is it."""
    root, target = os.path.realpath(base), os.path.realpath(path)
    try:
        return os.path.commonpath([root, target]) == root
    except ValueError:  # different drives
        return False


def names_something(name: str) -> bool:
    """Whether a name can be that of a file or folder below another: no file system refuses it, and it is not the
    other's own."""
    return file_path(name) is not None and bool(name.strip("./\\ "))


def below(base: str, name: str) -> str | None:
    """Full path of what a name means below one of the host's folders; None for a name that leaves it or that no file
    can have. Saving and loading go by this one rule, so that what was saved can be loaded again."""
    name = name.replace("\\", "/")
    try:
        name.encode()
    except UnicodeEncodeError:  # half a character
        return None
    if not name or name.startswith(("/", "~")) or re.match(r"[A-Za-z]:", name) or re.search(r"[\0-\x1f\x7f]", name):
        return None
    path = os.path.join(base, name)
    return path if inside(base, path) else None


@dataclass(frozen=True)
class SaveTarget:
    """Where a saving node writes: folder on disk, file stem with its counter, and what the page needs to find it."""

    folder: Path
    stem: str
    subfolder: str
    kind: str = "output"

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.stem}{suffix}"

    def result(self, suffix: str) -> dict:
        return {"filename": f"{self.stem}{suffix}", "subfolder": self.subfolder, "type": self.kind}

    def annotated(self, suffix: str) -> str:
        """The name a loading node takes: ``sub/name.png [output]``."""
        name = f"{self.subfolder}/{self.stem}{suffix}" if self.subfolder else f"{self.stem}{suffix}"
        return f"{name} [{self.kind}]"
