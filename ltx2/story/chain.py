"""A story carried out: segments in order, each recorded when it is on disk, then one film written as a stream.

What makes a segment is hashed: its entry in the script, the pictures it names, the models, and the state it starts
from. A segment whose hash is recorded and whose files are whole is kept; everything else is made. So a killed run goes
on where it was, a changed segment is made anew together with what depends on it, and nothing is made twice.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic_files import clean_stale_temps, partial_path
from ..errors import StoryError
from ..film.provenance import Source
from ..film.seam_metrics import SeamReport
from .film_file import write_film
from .journal import open_journal
from .keys import inputs_hash
from .making import SEGMENTS_FOLDER, check_timeline, make_segment
from .script import StoryScript
from .segment_files import is_whole
from .tasks import Generate

_FOLDER_NAME = re.compile(r"\d{4,5}-[0-9a-f]{12}")


@dataclass(frozen=True)
class StoryResult:
    """made, kept: indices of the segments; film: the file; seams: reports; written: whether the film was written anew;
    last: the folder of the last segment, with its state."""

    film: Path
    made: tuple[int, ...]
    kept: tuple[int, ...]
    seams: tuple[SeamReport, ...]
    written: bool
    last: Path


def run_story(
    script: StoryScript,
    generate: Generate,
    *,
    work: str | Path,
    out: str | Path,
    identity: str = "",
    source: Source = Source(),  # noqa: B008 (frozen)
    redo: Iterable[int] = (),
    log: Callable[[str], None] | None = None,
    metadata: dict[str, Any] | None = None,
) -> StoryResult:
    """Make what is missing of a story in the folder ``work``, and the film ``out``.

    identity: text that changes when other models or settings are used, so that their segments are made anew; source:
    the models as states name them. redo: segments to make again although they are there; what follows is kept where
    the result is the same. log: is given what happens, a line at a time. metadata: tags of the film. Raises StoryError,
    and whatever ``generate`` raises.
    """
    work, out, log = Path(work), Path(out), log or (lambda text: None)
    redo = _checked_redo(redo, script)
    check_timeline(script)
    with open_journal(work) as journal:
        _clean(work, out)
        if redo:
            journal.append("redo", segments=sorted(redo))
        newest = {entry["index"]: entry for entry in journal.entries if entry["event"] == "segment"}
        records, made = [], []
        for index in range(len(script.segments)):
            before = records[-1] if records else None
            inputs = inputs_hash(script, index, before, identity)
            record = None if index in redo else _kept(newest.get(index), work, inputs)
            if record is None:
                log(f"segment {index + 1} of {len(script.segments)}: {script.segments[index].prompt[:60]}")
                record = make_segment(script, index, before, inputs, generate, journal, work, source, log)
                made.append(index)
            records.append(record)
        seams, written = write_film(script, records, journal, work, out, log, metadata)
        _sweep(work, records)
    kept = tuple(index for index in range(len(records)) if index not in made)
    return StoryResult(out, tuple(made), kept, seams, written, work / SEGMENTS_FOLDER / records[-1]["folder"])


def _clean(work: Path, out: Path) -> None:
    """Remove what a killed run was writing. The lock says that no other process is at work here."""
    for folder in (work, work / SEGMENTS_FOLDER):
        clean_stale_temps(folder, older_than_seconds=0)
    for unfinished in out.parent.glob(f"{partial_path(out).name.rpartition('-')[0]}-*"):
        unfinished.unlink(missing_ok=True)


def _checked_redo(redo: Iterable[int], script: StoryScript) -> set[int]:
    wanted = set(redo)
    for index in wanted:
        if not 0 <= index < len(script.segments):
            raise StoryError(
                f"segment {index + 1} cannot be made again: the script has segments 1 to {len(script.segments)}"
            )
    return wanted


def _kept(record: dict | None, work: Path, inputs: str) -> dict | None:
    """The record of a segment, if it was made from the same inputs and its files are whole."""
    if record is None or record["inputs"] != inputs or not _FOLDER_NAME.fullmatch(record["folder"]):
        return None
    return record if is_whole(work / SEGMENTS_FOLDER / record["folder"], record["files"]) else None


def _sweep(work: Path, records: list[dict]) -> None:
    """Remove the files of segments that were replaced."""
    current = {record["folder"] for record in records}
    with contextlib.suppress(OSError):
        for path in (work / SEGMENTS_FOLDER).iterdir():
            replaced = _FOLDER_NAME.fullmatch(path.name) and path.name not in current
            if path.is_dir() and (replaced or path.name.startswith(".ltx2-")):
                shutil.rmtree(path, ignore_errors=True)
