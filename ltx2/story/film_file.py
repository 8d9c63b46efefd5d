"""The film of a story: the kept takes of all scenes after each other, written as a stream."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..clock import samples_of_frames
from ..errors import StoryError
from ..film.audio_format import file_format, in_format
from ..film.found import Writing, timing_of_found_film, write_behind
from ..film.join import FinishedSegment, film_writer, join_segments, write_pieces
from ..film.seam_metrics import SeamReport
from ..film.timeline import SegmentTiming, cut_segment
from ..values import Waveform
from .journal import JOURNAL_FILE, Journal, read_journal
from .making import SEGMENTS_FOLDER, Beginning
from .owned_files import check_replaceable, is_there, put_in_place, recorded_films, unfinished, write_owned
from .records import SegmentRecord, read_record
from .script import StoryScript
from .segment_files import STATE, StoredFrames, file_sha256, read_sound
from .sentences import as_story_error, shown

REPORT_FILE = "seams.json"


@dataclass(frozen=True)
class FilmResult:
    """path: where the film is; written: whether it was written anew; seams: how well its segments join."""

    path: Path
    written: bool
    seams: tuple[SeamReport, ...]


def place_on_film(script: StoryScript, records: Sequence[SegmentRecord]) -> list[SegmentTiming]:
    """Where the segments lie on the film's clock, from where each lies in its scene."""
    placed: list[SegmentTiming] = []
    for index, record in enumerate(records):
        own = record.timing
        if not placed and script.start is not None:
            placed.append(own)  # on the clock of the film that it goes on from
        elif not placed:
            # a segment that an older version made after others has another start
            placed.append(dataclasses.replace(own, index=0, start=Fraction(0), first_frame=0))
        elif script.segments[index].cut:
            placed.append(cut_segment(placed[-1], own.frames, audio_latents=own.audio_latents))
        else:
            last = placed[-1]
            start = last.start + own.start - records[index - 1].timing.start
            placed.append(dataclasses.replace(own, index=last.index + 1, start=start, first_frame=last.total_frames))
    return placed


def write_story_film(
    script: StoryScript,
    records: Sequence[SegmentRecord],
    journal: Journal,
    out: Path,
    *,
    numbered: bool,
    log: Callable[[str], None],
    metadata: dict[str, Any] | None,
    start: Beginning | None = None,
) -> FilmResult:
    """Write the film, unless it is there already from the same segments. numbered: a film that is there stays, and the
    new one gets a number; start: what it goes on from, which stays as it is. Raises StoryError and MediaError."""
    inputs = _inputs(script, records)
    found = _same_film(journal, out, inputs, numbered)
    if found is not None:
        path, seams = found
        return FilmResult(path, False, seams)
    if numbered:
        out = numbered_name(out)
    else:
        check_replaceable(out, recorded_films(journal), journal.folder)
    log(f"writing {shown(out)}: {script}")
    with unfinished(journal, out.parent, "the film") as temp:
        if start is None:
            written = _write(temp / "film.mp4", out, script, records, journal.folder, log, metadata)
        else:
            written = _write_behind(temp / "film.mp4", script, records, journal.folder, log, metadata, start)
        with as_story_error(f"{shown(out)} cannot be written"):
            sha256 = file_sha256(temp / "film.mp4")
        owned = recorded_films(journal)
        reports = [seam.as_json() for seam in written]
        last = records[-1].folder
        journal.append("film", path=str(out), inputs=inputs, sha256=sha256, seams=reports, last=last)
        put_in_place(temp / "film.mp4", out, owned, journal.folder)
    with as_story_error(f"{REPORT_FILE} cannot be written to {shown(journal.folder)}"):
        owned = {hashlib.sha256(text).hexdigest() for entry in journal.of("film") for text in _reports(entry)}
        if not write_owned(journal, journal.folder / REPORT_FILE, _report(reports), owned):
            log(f"{shown(journal.folder / REPORT_FILE)} is not this story's: it stays, the journal holds the figures")
    return FilmResult(out, True, tuple(written))


def _inputs(script: StoryScript, records: Sequence[SegmentRecord]) -> str:
    amount = script.drift_correction
    inputs = {
        "segments": [{name: dataclasses.asdict(file) for name, file in record.files.items()} for record in records],
        "hold": dataclasses.asdict(amount) if amount else None,
    }
    if script.start is not None:
        inputs["start"] = file_sha256(script.start.path)
    if script.audio is not None:
        inputs["audio"] = script.audio.identity(file_sha256)
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _same_film(journal: Journal, out: Path, inputs: str, numbered: bool) -> tuple[Path, tuple[SeamReport, ...]] | None:
    """The film of the same segments where it still lies under its name, or under a numbered one."""
    for entry in reversed(journal.entries):
        if entry["event"] != "film" or entry.get("inputs") != inputs:
            continue
        named = out.with_name(Path(str(entry.get("path"))).name) if numbered else out
        with as_story_error(f"{shown(named)} cannot be read"):
            if named.is_file() and file_sha256(named) == entry.get("sha256"):
                return named, _seams(entry)
    return None


def film_of_stored_state(path: str | Path) -> Path | None:
    """The film that ends with the segment whose state lies in a story's work folder: as the journal names it, or in
    the work folder or beside it, and the very film and state that it recorded; None where there is none."""
    path = Path(path)
    folder, work = path.parent, path.parent.parent.parent
    if path.name != STATE or folder.parent.name != SEGMENTS_FOLDER:
        return None
    try:
        entries = read_journal(work / JOURNAL_FILE)[0]
        made = [entry for entry in entries if entry["event"] == "segment" and entry.get("folder") == folder.name]
        if not made or read_record(made[-1]).state_sha256 != file_sha256(path):
            return None
        for entry in reversed(entries):
            if entry["event"] != "film" or entry.get("last") != folder.name:
                continue
            named = Path(str(entry.get("path")))
            for film in (named, work / named.name, work.parent / named.name):
                if film.is_file() and file_sha256(film) == entry.get("sha256"):
                    return film
    except (StoryError, OSError):  # a journal that another run writes or nobody can read: nothing is known
        return None
    return None


def _seams(entry: dict[str, Any]) -> tuple[SeamReport, ...]:
    try:
        return tuple(SeamReport(**seam) for seam in entry["seams"])
    except (KeyError, TypeError) as error:
        raise StoryError(
            "the journal's entry of the film is damaged: remove its line to write the film anew"
        ) from error


def numbered_name(out: Path) -> Path:
    """The name itself while nothing lies there, else the first free one: film.mp4, film_00002.mp4 …"""
    number, path = 1, out
    while is_there(path):
        number += 1
        path = out.with_name(f"{out.stem}_{number:05}{out.suffix}")
    return path


def _write(temp: Path, out: Path, script, records, work: Path, log, metadata) -> list[SeamReport]:
    seams: list[SeamReport] = []
    folders = [work / SEGMENTS_FOLDER / record.folder for record in records]
    with as_story_error(f"the segments in {shown(work)} cannot be read"):
        track = None if script.audio is None else script.audio.piece(Fraction(0), script.total_frames / script.fps)
        audio = file_format(map(read_sound, folders) if track is None else [track])
        placed = place_on_film(script, records)
        fps = placed[0].fps  # the script's, or what it became when it was doubled
        pieces = join_segments(
            _stored(placed, folders, silent=track is not None),
            audio=audio,
            drift_correction=script.drift_correction,
            report=seams.append,
            note=log,
        )
        # the name it has for now would tell nobody anything
        if track is not None and audio is not None:
            pieces = _with_track(pieces, in_format(track, audio, "the film", log), fps)
        with film_writer(temp, fps, audio, metadata=metadata, name=shown(out)) as writer:
            write_pieces(writer, pieces)
    return seams


def _write_behind(temp: Path, script, records, work: Path, log, metadata, start: Beginning) -> list[SeamReport]:
    """The film that the story goes on from, as it is, and the segments behind it."""
    seams: list[SeamReport] = []
    folders = [work / SEGMENTS_FOLDER / record.folder for record in records]
    film, before = start.film, timing_of_found_film(start.film)
    shift = round(film.end_seconds * film.fps) - before.total_frames  # from the segments' frames to the film's

    def report(seam: SeamReport) -> None:
        seams.append(dataclasses.replace(seam, segment=seam.segment - 1, frame=seam.frame + shift))

    with as_story_error(f"the segments in {shown(work)} cannot be read"):
        segments = list(_stored(place_on_film(script, records), folders))
        writing = Writing(log, metadata=metadata, drift_correction=script.drift_correction, report=report)
        write_behind(script.start.path, film, before, segments, temp, writing)
    return seams


def _stored(
    timings: Sequence[SegmentTiming], folders: Sequence[Path], *, silent: bool = False
) -> Iterator[FinishedSegment]:
    for timing, folder in zip(timings, folders, strict=True):
        yield FinishedSegment(timing, StoredFrames(folder), None if silent else read_sound(folder))


def _with_track(pieces: Iterator, track: Waveform, fps: Fraction) -> Iterator[np.ndarray | Waveform]:
    """Pieces of a silent film with the film's own track beside them."""
    frames = given = 0
    for piece in pieces:
        yield piece
        frames += len(piece)
        end = samples_of_frames(frames, fps, track.sample_rate)
        yield Waveform(track.samples[:, given:end], track.sample_rate)
        given = end


def _report(seams: object) -> bytes:
    # sorted as the journal sorts, so that what is read back from it makes the same text
    return json.dumps(seams, indent=1, sort_keys=True).encode()


def _reports(entry: dict[str, Any]) -> Iterator[bytes]:
    """What the file of a film's seams may hold: as it is written now, and as it was in the order of the fields."""
    yield _report(entry.get("seams"))
    with contextlib.suppress(StoryError):
        yield json.dumps([seam.as_json() for seam in _seams(entry)], indent=1).encode()
