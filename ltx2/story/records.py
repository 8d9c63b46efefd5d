"""What the journal says of finished segments, as checked values, and the keys that tell them from each other.

A key is a hash over all that decides what a segment becomes, and nothing else. A scene's first segment depends on
nothing before it, so its key holds neither its place in the film nor what the scenes before it are; the others add the
state that they go on from.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import StoryError
from ..film.drift import MEASURED
from ..film.timeline import SegmentTiming
from .script import SegmentScript, StoryImage, StoryScript
from .segment_files import STATE, StoredFile, file_sha256
from .sentences import as_story_error, shown
from .tasks import seed_of

_FOLDER_NAME = re.compile(r"\d{4,5}-[0-9a-f]{12}(-\d{1,9})?")
TEMP_NAME = re.compile(r"\.story-[0-9a-f]{32}")
_FILE_NAME = re.compile(r"[a-z][a-z_]{0,30}\.[a-z]{1,12}")
_KEY_VERSION = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SegmentRecord:
    """A finished segment. index: its place in the script when it was made, from 0; key: hash of all that decided what
    it became; folder: its name below the work folder's segments, temp: the name it has until it is there; timing: on
    the clock of its scene; seed: that it was made with; known_as: for a bridge, the state that the segment behind
    it goes on from; draft: whether it is a quick look."""

    index: int
    key: str
    folder: str
    files: dict[str, StoredFile]
    timing: SegmentTiming
    seed: int
    temp: str | None = None
    known_as: str | None = None
    draft: bool = False

    @property
    def state_sha256(self) -> str:
        """What the next segment knows this one by."""
        return self.files[STATE].sha256

    @property
    def bytes(self) -> int:
        """How much room its files take."""
        return sum(file.bytes for file in self.files.values())


def read_record(entry: dict[str, Any]) -> SegmentRecord:
    """A segment's entry. Raises StoryError for one that lacks something or holds what no run writes."""
    try:
        files = {
            _matching(_FILE_NAME, name): StoredFile(_whole(file["bytes"]), _matching(_SHA256, file["sha256"]))
            for name, file in entry["files"].items()
        }
        temp, known_as = entry.get("temp"), entry.get("known_as")
        record = SegmentRecord(
            index=_whole(entry["index"]),
            key=_matching(_SHA256, entry["inputs"]),
            folder=_matching(_FOLDER_NAME, entry["folder"]),
            files=files,
            timing=read_timing(entry["plan"]),
            seed=_whole(entry["seed"]),
            temp=None if temp is None else _matching(TEMP_NAME, temp),
            known_as=None if known_as is None else _matching(_SHA256, known_as),
            draft=entry.get("draft") is True,
        )
        if STATE not in files:
            raise ValueError(f"no {STATE}")
        return record
    except (KeyError, AttributeError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        number = entry.get("index")
        number = number + 1 if isinstance(number, int) else "?"
        raise StoryError(
            f"the journal's entry of segment {number} is damaged ({what}): remove its line, or use a new folder"
        ) from error


def read_records(entries: Iterable[dict[str, Any]]) -> dict[str, SegmentRecord]:
    """The newest record of each key."""
    return {record.key: record for record in map(read_record, entries)}


def write_timing(timing: SegmentTiming) -> dict[str, Any]:
    """A segment's timing as the journal keeps it; its names are part of the file format."""
    found = dataclasses.asdict(timing)
    found["offset"] = found.pop("video_offset_seconds")
    return {
        name: [value.numerator, value.denominator] if isinstance(value, Fraction) else value
        for name, value in found.items()
    }


def read_timing(stored: dict[str, Any]) -> SegmentTiming:
    """Raises KeyError, TypeError or ValueError for what is no timing."""
    values: dict[str, Any] = {
        name: _fraction(value) if isinstance(value, list) else _whole(value) for name, value in stored.items()
    }
    values["video_offset_seconds"] = values.pop("offset")
    return SegmentTiming(**values)


def _fraction(value: list[int]) -> Fraction:
    numerator, denominator = value
    return Fraction(_whole(numerator), _whole(denominator))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{str(value)[:20]!r} is no whole number")
    return value


def _matching(pattern: re.Pattern, value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{str(value)[:20]!r} is no such name")
    return value


# --- keys ------------------------------------------------------------------------------------------------------------


class Keys:
    """Makes the keys of one script's segments. identity: text that changes with the models and settings."""

    def __init__(self, script: StoryScript, identity: str) -> None:
        self._script, self._identity = script, identity
        self._files: dict[Path, str] = {}

    def key(
        self,
        index: int,
        seed: int,
        before: SegmentRecord | None,
        *,
        as_known: bool = False,
        ahead: str | None = None,
    ) -> str:
        """Hash of all that decides what a segment becomes.

        before: what it goes on from, None in a new scene; as_known: that is a bridge, and the segment goes on from what
        the bridge stands for. ahead: hash of what it leads to, where it is a bridge itself.
        """
        script, segment = self._script, self._script.segments[index]
        described = self._described(index) | {"version": _KEY_VERSION, "seed": seed, "before": None}
        begins = before is None and not (index == 0 and script.start is not None)
        if before is not None:
            described["before"] = before.known_as if as_known else before.state_sha256
        if not begins:
            described["strength"] = segment.strength
            if script.drift is not None and script.drift.relaxing is not None and segment.strength is None:
                described["relaxing"] = dataclasses.asdict(script.drift.relaxing)
            described["noise"] = dataclasses.asdict(script.noise) if script.noise else None
        if ahead is not None:
            described["ahead"] = ahead
        return _hash(described | self._against_drift(begins))

    def _against_drift(self, begins: bool) -> dict[str, Any]:
        """What is done against drift; the first segment of a scene is only measured."""
        drift = self._script.drift
        corrections = {} if drift is None else drift.corrections
        if begins:
            measured = sorted(set(MEASURED) & set(corrections))
            return {"measured": measured} if measured else {}
        return {"drift": corrections} if corrections else {}

    def older_key(self, index: int, before: SegmentRecord | None) -> str:
        """The key that version 0.1.0 gave the same segment; before: the segment before it on the film."""
        script, segment = self._script, self._script.segments[index]
        described = self._described(index) | {
            "index": index,
            "cut": segment.cut,
            "seed": seed_of(script, segment, index),
            "strength": segment.strength,
            "noise": dataclasses.asdict(script.noise) if script.noise else None,
            "before": before.state_sha256 if before else None,
        }
        return _hash(described)

    def _described(self, index: int) -> dict[str, Any]:
        script, segment = self._script, self._script.segments[index]
        at = script.start_seconds(index) if script.audio is not None or segment.references else None
        return (
            {
                "identity": self._identity,
                "prompt": segment.prompt,
                "negative": segment.negative,
                "frames": segment.frames,
                "fps": str(script.fps),
                "size": [script.width, script.height],
                "preset": script.preset,
                "overrides": script.overrides,
                "overlap": [script.video_overlap, script.audio_overlap],
                "images": [self._shown(segment, image) for image in segment.images],
            }
            | self._followed(segment, index)
            | self._heard(segment, index)
            | self._from_film(segment, index)
            | self._from_film(segment, index)
            | self._spoken(segment)
            # only where it is asked for, so that other keys stay as they were
            | ({"keyframe_slots": script.keyframe_slots} if script.keyframe_slots else {})
            | ({"double_rate": script.double_rate, "at_seconds": str(at)} if script.double_rate else {})
        )

    def _spoken(self, segment: SegmentScript) -> dict[str, Any]:
        """The voice that it is spoken with, where there is one."""
        voice = segment.voice
        return {} if voice is None else {"voice": [self._file(segment, voice.path), voice.identity]}

    def _shown(self, segment: SegmentScript, image: StoryImage) -> list[Any]:
        """A picture; its attention only where it has one, so that other keys stay as they were."""
        weaker = [] if image.attention == 1 else [image.attention]
        return [self._file(segment, image.path), image.frame, image.strength, *weaker]

    def _from_film(self, segment: SegmentScript, index: int) -> dict[str, Any]:
        """The film that the first segment goes on from, where there is one."""
        start = self._script.start
        if start is None or index:
            return {}
        return {"film": [self._file(segment, start.path), start.context]}

    def _heard(self, segment: SegmentScript, index: int) -> dict[str, Any]:
        """Its piece of the film's own track, where there is one."""
        audio = self._script.audio
        if audio is None:
            return {}
        return {"audio": audio.identity(lambda path: self._file(segment, path)), "at": self._script.start_frame(index)}

    def _followed(self, segment: SegmentScript, index: int) -> dict[str, Any]:
        """What it follows, and the piece of it: only where there is some, so that other keys stay as they were."""
        if not segment.references:
            return {}
        files = [
            [self._file(segment, one.path), one.strength, one.attention, one.stages]
            + ([] if one.mask is None else [self._file(segment, one.mask)])
            for one in segment.references
        ]
        return {"references": files, "reference_start": self._script.start_frame(index)}

    def _file(self, segment: SegmentScript, path: Path) -> str:
        if path not in self._files:
            try:
                with as_story_error(f"the file {shown(path, 80)} cannot be read"):
                    self._files[path] = file_sha256(path)
            except StoryError as error:
                raise self._script.error(segment, error) from error
        return self._files[path]


def older_records(script: StoryScript, keys: Keys, records: dict[str, SegmentRecord]) -> dict[str, SegmentRecord]:
    """Records that version 0.1.0 wrote and that still stand for the script, by the keys that they have now."""
    found: dict[str, SegmentRecord] = {}
    before: SegmentRecord | None = None
    for index, segment in enumerate(script.segments):
        record = records.get(keys.older_key(index, before))
        if record is None:
            break  # what follows went on from it
        starts = index == 0 or segment.cut
        found[keys.key(index, seed_of(script, segment, index), None if starts else before)] = record
        before = record
    return found


def _hash(described: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
