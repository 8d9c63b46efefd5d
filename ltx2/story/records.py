"""What the journal says of finished segments, as checked values."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..errors import StoryError
from ..film.timeline import SegmentTiming
from .segment_files import STATE, StoredFile
from .sentences import one_line

_FOLDER_NAME = re.compile(r"\d{4,5}-[0-9a-f]{12}(-\d{1,9})?")
TEMP_NAME = re.compile(r"\.story-[0-9a-f]{32}")
_FILE_NAME = re.compile(r"[a-z][a-z_]{0,30}\.[a-z]{1,12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SegmentRecord:
    """A finished segment. index: its place in the script when it was made, from 0; key: hash of all that decided what
    it became; folder: its name below the work folder's segments, temp: the name it has until it is there; timing: on
    the clock of its scene; seed: that it was made with."""

    index: int
    key: str
    folder: str
    files: dict[str, StoredFile]
    timing: SegmentTiming
    seed: int
    temp: str | None = None

    @property
    def state_sha256(self) -> str:
        return self.files[STATE].sha256

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


def read_record(entry: dict[str, Any]) -> SegmentRecord:
    """A segment's entry. Raises StoryError for one that lacks something or holds what no run writes."""
    try:
        files = {
            _matching(_FILE_NAME, name): StoredFile(_whole(file["bytes"]), _matching(_SHA256, file["sha256"]))
            for name, file in entry["files"].items()
        }
        temp = entry.get("temp")
        record = SegmentRecord(
            index=_whole(entry["index"]),
            key=_matching(_SHA256, entry["inputs"]),
            folder=_matching(_FOLDER_NAME, entry["folder"]),
            files=files,
            timing=read_timing(entry["plan"]),
            seed=_whole(entry["seed"]),
            temp=None if temp is None else _matching(TEMP_NAME, temp),
        )
        if STATE not in files:
            raise ValueError(f"no {STATE}")
        return record
    except (KeyError, AttributeError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        number = entry.get("index")
        number = number + 1 if isinstance(number, int) else "?"
        raise StoryError(
            one_line(
                f"the journal's entry of segment {number} is damaged ({what}): remove its line, or use a new folder"
            )
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


def read_timing(plan: dict[str, Any]) -> SegmentTiming:
    """Raises KeyError, TypeError or ValueError for what is no timing."""
    values: dict[str, Any] = {
        name: _fraction(value) if isinstance(value, list) else _whole(value) for name, value in plan.items()
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
