"""The files that a script names, wherever its scripts' files lie."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..sentences import shown
from .nodes import Node
from .values import Reader

FindImage = Callable[[str], Path | None]


@dataclass(frozen=True)
class ScriptFiles:
    """Finds files. find: the file of a name, None where there is none; place: where it looks, as errors call that."""

    reader: Reader
    find: FindImage
    place: str

    def file(self, node: Node, name: str, what: str) -> Path:
        """The file that an entry names; what: that is to be in it. Raises StoryError."""
        try:
            path = self.find(name)
        except (OSError, ValueError):  # a name that no file system takes
            path = None
        if path is not None:
            return path
        near = difflib.get_close_matches(name[-8:], ("@0", "@last", "@-1"), 1, 0.5) if "@" in name[-8:] else ()
        fix = "write {file: …, frame: …}" if near else "check its name"
        raise self.reader.error(node, f"the {what} {shown(name, 80)!r} is not {self.place}: {fix}")


def beside(path: Path) -> FindImage:
    """Files lie in the script's folder, or where their whole path says."""

    def find(name: str) -> Path | None:
        found = path.parent / name
        return found if found.is_file() else None

    return find
