"""``start:`` of a script: a film that was found, which the story goes on from."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...clock import DEFAULT_FPS, is_valid_frame_count, seconds_of_frames, snap_frames
from ...errors import MediaError
from ...media import video_info
from ...media.found.found_film import CONTEXT_FRAMES, LEAST_FRAMES, model_rate
from . import values
from .nodes import Node, Scalar
from .values import Reader

_UNSEEN_SECONDS = Fraction(3600)  # of a film that is not looked at: long enough for whatever is asked of it


@dataclass(frozen=True)
class StoryStart:
    """A film that a story goes on from. width, height, fps: its own; seconds: how long it is; context: how many frames
    of it the first segment starts from, 0 until its length is known."""

    path: Path
    width: int
    height: int
    fps: Fraction
    seconds: Fraction
    context: int = 0

    def frames_at(self, fps: Fraction) -> int:
        """How many frames it has at a rate."""
        return max(1, round(self.seconds * fps))

    def context_for(self, frames: int, fps: Fraction) -> int:
        """As many frames as a first segment of so many starts from, where nobody says: most of it is to be new."""
        usual = max(LEAST_FRAMES, min(CONTEXT_FRAMES, snap_frames(frames // 3, "down")))
        return self.context or min(usual, snap_frames(self.frames_at(fps), "down"))


def read_start(
    reader: Reader, node: Node | None, find: Callable[[Node, str, str], Path], *, look: bool = True
) -> StoryStart | None:
    """The film that a script names. find: the file of a name, by the node that says it and what errors call it; look:
    whether the file is opened. Raises StoryError for what is no film, or shorter than what it is to give."""
    if node is None:
        return None
    known = ("file", "context")
    found: dict[str, Any] = {"file": node} if isinstance(node, Scalar) else reader.mapping(node, "start", known)
    if "file" not in found:
        raise reader.error(node, "the start has no file: add `file:` with the film that the story goes on from")
    path = find(found["file"], reader.text(found, "file", "", values.file_name), "film")
    context = reader.value(found, "context", 0, values.whole)
    if "context" in found and (context < LEAST_FRAMES or not is_valid_frame_count(context)):
        raise reader.error(found["context"], f"context is {context}, expected 8k+1 from {LEAST_FRAMES} on, such as 25")
    if not look:
        return StoryStart(path, 0, 0, DEFAULT_FPS, _UNSEEN_SECONDS, context)
    try:
        info = video_info(path)
    except MediaError as error:
        raise reader.error(found["file"], str(error)) from error
    rate = model_rate(info.fps)
    start = StoryStart(path, info.width, info.height, rate, seconds_of_frames(info.frames, info.fps), context)
    needed = context or LEAST_FRAMES
    if start.frames_at(rate) < needed:
        message = f"{path.name[:80]} has {info.frames} frames, going on from it needs {needed}: use a longer film"
        raise reader.error(found["file"], message)
    return start
