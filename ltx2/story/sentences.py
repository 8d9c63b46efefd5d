"""What stories tell of files: a reason and a name that a person knows."""

import contextlib
from collections.abc import Iterator

from ..atomic_files import reason
from ..errors import StoryError


def shown(path: object, most: int = 120) -> str:
    """A path as an error names it: its end where it is long."""
    text = str(path)
    return text if len(text) <= most else f"…{text[len(text) - most + 1 :]}"


@contextlib.contextmanager
def as_story_error(what: str) -> Iterator[None]:
    """Errors of the file system inside the block as StoryError ``what: reason``, without paths that nobody gave."""
    try:
        yield
    except OSError as error:
        raise StoryError(f"{what}: {reason(error)}") from error
