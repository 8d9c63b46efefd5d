"""What stories tell: one sentence on one line."""

import contextlib
from collections.abc import Iterator

from ..atomic_files import reason
from ..errors import StoryError

MOST_CHARACTERS = 300


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text on one line, without what a terminal cannot show, cut in the middle where it is too long."""
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    if len(text) <= most:
        return text
    keep = (most - 3) // 2
    return f"{text[:keep]} … {text[len(text) - keep :]}"


def shown(path: object, most: int = 120) -> str:
    """A path as an error names it: its end where it is long."""
    text = one_line(str(path), 10**6)
    return text if len(text) <= most else f"…{text[len(text) - most + 1 :]}"


@contextlib.contextmanager
def as_story_error(what: str) -> Iterator[None]:
    """Errors of the file system inside the block as StoryError ``what: reason``, without paths that nobody gave."""
    try:
        yield
    except OSError as error:
        raise StoryError(one_line(f"{what}: {reason(error)}")) from error
