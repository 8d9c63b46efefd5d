"""The film of a story: all its segments joined and written as a stream."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from ..atomic_files import write_atomic
from ..errors import StoryError
from ..film.audio_format import file_format
from ..film.join import FinishedSegment
from ..film.join import write_film as write_joined
from ..film.seam_metrics import SeamReport
from .journal import Journal
from .making import SEGMENTS_FOLDER, timing_of
from .segment_files import StoredFrames, file_sha256, read_sound

REPORT_FILE = "seams.json"


def write_film(
    script, records, journal: Journal, work: Path, out: Path, log, metadata
) -> tuple[tuple[SeamReport, ...], bool]:
    """Write the film, unless it is there already from the same segments."""
    made_of = {
        "segments": [record["files"] for record in records],
        "hold": dataclasses.asdict(script.drift_correction) if script.drift_correction else None,
    }
    inputs = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    where = str(out.resolve())
    for entry in reversed(journal.entries):
        if entry["event"] == "film" and entry["path"] == where:
            if entry["inputs"] == inputs and out.is_file() and file_sha256(out) == entry["sha256"]:
                return tuple(SeamReport(**seam) for seam in entry["seams"]), False
            break
    log(f"writing {out}: {script}")
    seams: list[SeamReport] = []
    write_joined(
        out,
        _stored(records, work),
        file_format(read_sound(work / SEGMENTS_FOLDER / record["folder"]) for record in records),
        drift_correction=script.drift_correction,
        report=seams.append,
        note=log,
        metadata=metadata,
    )
    reports = [seam.as_json() for seam in seams]
    try:
        write_atomic(work / REPORT_FILE, json.dumps(reports, indent=1).encode())
    except OSError as error:
        raise StoryError(f"{work / REPORT_FILE} cannot be written: {error.strerror or error}") from error
    journal.append("film", path=where, inputs=inputs, sha256=file_sha256(out), seams=reports)
    return tuple(seams), True


def _stored(records: list[dict], work: Path) -> Iterator[FinishedSegment]:
    for record in records:
        folder = work / SEGMENTS_FOLDER / record["folder"]
        yield FinishedSegment(timing_of(record), StoredFrames(folder), read_sound(folder))
