"""The Story node's segments for the page: what the script says of each, what there is of it, and changes to the text."""

import math
import re
from pathlib import Path
from typing import Any

from ..ltx2.errors import RequestError, StoryError
from ..ltx2.story.script import StoryScript, editing
from ..ltx2.story.segment_files import STATE
from ..ltx2.story.status import SegmentStatus, film_of_script, segment_states
from ..ltx2.story.takes import scenes_of
from ..ltx2.story.tasks import seed_of
from .story import read, target_of

MOST_VALUES = 32
_FOLDER = re.compile(r"[\w-]{1,80}")


def storyboard(given: Any) -> dict:
    """The segments of ``script`` with what ``folder`` has of them, after one ``edit`` where there is one. Raises
    StoryError and RequestError."""
    if not isinstance(given, dict) or not isinstance(given.get("script"), str):
        raise RequestError("the request holds no script, expected script and folder as text")
    text = given["script"]
    if given.get("edit") is not None:
        text = edited(text, given["edit"])
    story, target = read(text), target_of(str(given.get("folder") or ""))
    states = segment_states(story, target.folder)
    written = editing.entries_as_written(text)
    scenes = {index: scene for scene in scenes_of(story) for index in scene}
    begins = 0 if story.start is None else story.start.frames_at(story.fps)
    shown = []
    for index, (segment, state) in enumerate(zip(story.segments, states)):
        new = segment.frames - story.repeated(index)
        one = _shown(story, index, state, f"{target.subfolder}/segments")
        later = scenes[index].stop - index - 1
        shown.append({**one, "values": written[index], "start": float(begins / story.fps), "later": later})
        begins += new
        shown[-1]["end"] = float(begins / story.fps)
    film = film_of_script(story, target.folder)
    named = None if film is None else {"filename": film, "subfolder": target.subfolder, "type": "output"}
    return {"script": text, "segments": shown, "seconds": float(begins / story.fps), "film": named}


def edited(text: str, edit: Any) -> str:
    """The script after a change: {op, index, …}. Raises RequestError for what is none."""
    try:
        op, index = edit["op"], _place(edit["index"])
        if op in ("set", "add"):
            values = edit["values"]
            if not isinstance(values, dict) or len(values) > MOST_VALUES:
                raise TypeError
            _check_numbers(values)
            return (editing.set_entries if op == "set" else editing.add_segment)(text, index, values)
        if op == "remove":
            return editing.remove_segment_entry(text, index)
        if op == "move":
            return editing.move_segment(text, index, _place(edit["to"]))
    except (KeyError, TypeError) as error:
        raise RequestError("the edit is incomplete, expected op, index and what belongs to it") from error
    raise RequestError(f"the edit is {str(op)[:40]!r}, expected set, add, remove or move")


def _place(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _check_numbers(value: Any) -> None:
    """Raises StoryError for numbers that no script can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        raise StoryError("a number is not finite, expected one such as 4 or 0.5")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(one)


def _shown(story: StoryScript, index: int, status: SegmentStatus, folder: str) -> dict:
    segment = story.segments[index]
    there = status.folder is not None and _FOLDER.fullmatch(status.folder)
    return {
        "prompt": segment.prompt,
        "frames": segment.frames,
        "seconds": round(float(segment.frames / story.fps), 3),
        "cut": segment.cut,
        "strength": 1.0 if segment.strength is None and story.drift is None else segment.strength,
        "seed": status.seed if status.seed is not None else seed_of(story, segment, index),
        "state": status.state,
        "file": f"{folder}/{status.folder}/{STATE} [output]" if there else None,
        "seam": None if status.seam is None else str(status.seam).partition(": ")[2],
        "images": [Path(image.path).name for image in segment.images],
    }
