"""A story carried out: segments in order, each recorded when it is on disk, then one film written as a stream.

What makes a segment is hashed: its entry in the script, the pictures it names, the models, and the state it starts
from. A segment whose hash is recorded and whose files are whole is kept; everything else is made. So a killed run goes
on where it was, a changed segment is made anew together with what depends on it, and nothing is made twice.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..atomic_files import clean_stale_temps, partial_path, write_atomic
from ..errors import Ltx2Error, StoryError
from ..film.handoff import NextSegment, capture_state, condition_next
from ..film.join import FinishedSegment, join_segments
from ..film.seam_metrics import SeamReport
from ..film.timeline import SegmentTiming, cut_segment, first_segment
from ..media.video import VideoWriter
from ..values import AudioCondition, ClipCondition, Waveform
from .journal import Journal, open_journal
from .script import SegmentScript, StoryImage, StoryScript
from .segment_files import STATE, StoredFrames, file_sha256, is_whole, read_sound, read_state, write_segment

SEGMENTS_FOLDER = "segments"
REPORT_FILE = "seams.json"
_FOLDER_NAME = re.compile(r"\d{4,5}-[0-9a-f]{12}")


@dataclass(frozen=True)
class SegmentTask:
    """One segment to make, with all that is known in advance.

    clip, audio, offset_seconds: what it starts from (None and 0 for a new scene); audio_latents: the exact length of
    its sound, None as long as the picture.
    """

    index: int
    prompt: str
    negative: str | None
    frames: int
    fps: Fraction
    width: int | None
    height: int | None
    seed: int
    preset: str | None
    overrides: dict[str, Any]
    images: tuple[StoryImage, ...]
    audio_latents: int | None = None
    clip: ClipCondition | None = None
    audio: AudioCondition | None = None
    video_offset_seconds: Fraction = Fraction(0)


def task_of(script: StoryScript, index: int) -> SegmentTask:
    """What a script says of a segment, as if nothing came before it."""
    segment = script.segments[index]
    return SegmentTask(
        index=index,
        prompt=segment.prompt,
        negative=segment.negative,
        frames=segment.frames,
        fps=script.fps,
        width=script.width,
        height=script.height,
        seed=_seed(script, segment, index),
        preset=script.preset,
        overrides=dict(script.overrides),
        images=segment.images,
    )


@dataclass(frozen=True)
class MadeSegment:
    """What a generator gives back: frames in chunks (see media.uint8_frames), the normalised audio latent [1, 8, T, 16]
    and the decoded sound (both None in a silent film), and what to tell the user."""

    frames: Iterable
    audio_latents: torch.Tensor | None
    sound: Waveform | None
    notes: tuple[str, ...] = ()


Generate = Callable[[SegmentTask], MadeSegment]


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
    model: str = "",
    redo: Iterable[int] = (),
    say: Callable[[str], None] | None = None,
    metadata: dict[str, Any] | None = None,
) -> StoryResult:
    """Make what is missing of a story in the folder ``work``, and the film ``out``.

    identity: text that changes when other models or settings are used, so that their segments are made anew; model:
    short name kept in states. redo: segments to make again although they are there; what follows is kept where the
    result is the same. say: told what happens, a line at a time. metadata: tags of the film. Raises StoryError, and
    whatever ``generate`` raises.
    """
    work, out, say = Path(work), Path(out), say or (lambda text: None)
    redo = _checked_redo(redo, script)
    with open_journal(work) as journal:
        _clean(work, out)
        if redo:
            journal.append("redo", segments=sorted(redo))
        newest = {entry["index"]: entry for entry in journal.entries if entry["event"] == "segment"}
        records, made = [], []
        for index in range(len(script.segments)):
            before = records[-1] if records else None
            inputs = _inputs_hash(script, index, before, identity)
            record = None if index in redo else _kept(newest.get(index), work, inputs)
            if record is None:
                say(f"segment {index + 1} of {len(script.segments)}: {script.segments[index].prompt[:60]}")
                record = _make(script, index, before, inputs, generate, journal, work, model, say)
                made.append(index)
            records.append(record)
        seams, written = _film(script, records, journal, work, out, say, metadata)
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


# --- one segment
# -----------------------------------------------------------------------------------------------------------


def _inputs_hash(script: StoryScript, index: int, before: dict | None, identity: str) -> str:
    """Hash of everything that decides what a segment becomes."""
    segment = script.segments[index]
    described = {
        "identity": identity,
        "index": index,
        "prompt": segment.prompt,
        "negative": segment.negative,
        "frames": segment.frames,
        "fps": str(script.fps),
        "size": [script.width, script.height],
        "preset": script.preset,
        "overrides": script.overrides,
        "seed": _seed(script, segment, index),
        "strength": segment.strength,
        "cut": segment.cut,
        "overlap": [script.video_overlap, script.audio_overlap],
        "noise": dataclasses.asdict(script.noise) if script.noise else None,
        "images": [[_image_hash(script, segment, image), image.frame, image.strength] for image in segment.images],
        # the state of the segment before says all that this one can know of the past
        "before": before["files"][STATE]["sha256"] if before else None,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _image_hash(script: StoryScript, segment: SegmentScript, image: StoryImage) -> str:
    try:
        return file_sha256(image.path)
    except OSError as error:
        raise StoryError(
            f"{script.path}, line {segment.line}: the image {image.path} cannot be read: {error.strerror}"
        ) from error


def _seed(script: StoryScript, segment: SegmentScript, index: int) -> int:
    return script.seed + index if segment.seed is None else segment.seed


def _kept(record: dict | None, work: Path, inputs: str) -> dict | None:
    """The record of a segment, if it was made from the same inputs and its files are whole."""
    if record is None or record["inputs"] != inputs or not _FOLDER_NAME.fullmatch(record["folder"]):
        return None
    return record if is_whole(work / SEGMENTS_FOLDER / record["folder"], record["files"]) else None


def _make(
    script,
    index: int,
    before: dict | None,
    inputs: str,
    generate: Generate,
    journal: Journal,
    work: Path,
    model: str,
    say,
) -> dict:
    """Make one segment, put it on disk, record it."""
    planned = _planned(script, index, before, work, model)
    task = dataclasses.replace(
        task_of(script, index),
        audio_latents=planned.audio_latents,
        clip=planned.clip,
        audio=planned.audio,
        video_offset_seconds=planned.video_offset_seconds,
    )
    made = generate(task)
    for note in (*planned.notes, *made.notes):
        say(f"segment {index + 1}: {note}")
    timing = planned.timing
    if made.audio_latents is not None:
        timing = dataclasses.replace(timing, audio_latents=made.audio_latents.shape[2])

    def state_of(tail: np.ndarray, count: int):
        if count != timing.frames:
            raise StoryError(f"segment {index + 1} came out with {count} frames, {timing.frames} were asked for")
        sound = script.audio_overlap if made.audio_latents is not None else 0
        return capture_state(
            tail,
            made.audio_latents,
            timing,
            video_overlap=min(script.video_overlap, timing.frames),
            audio_overlap=sound,
            sample_rate=made.sound.sample_rate if made.sound else None,
            seed=task.seed,
            model=model,
        )

    name = f"{index:04d}-{inputs[:12]}"
    folder = work / SEGMENTS_FOLDER / name
    files = write_segment(folder, made.frames, made.sound, script.fps, script.video_overlap, state_of)
    return journal.append(
        "segment", index=index, inputs=inputs, folder=name, files=files, plan=_timing_json(timing), seed=task.seed
    )


def _planned(script: StoryScript, index: int, before: dict | None, work: Path, model: str) -> NextSegment:
    """Where a segment lies on the film, and what it starts from."""
    segment = script.segments[index]
    if before is None or segment.cut:
        timing = (
            first_segment(segment.frames, script.fps)
            if before is None
            else cut_segment(_timing_of(before), segment.frames)
        )
        return NextSegment(index, timing, None, None, timing.video_offset_seconds, timing.audio_latents)
    state = read_state(work / SEGMENTS_FOLDER / before["folder"])
    size = (script.width, script.height) if script.width is not None else None
    try:
        return condition_next(
            state,
            segment.frames,
            script.fps,
            size=size,
            model=model,
            seed=script.seed,
            strength=segment.strength,
            noise=script.noise,
        )
    except Ltx2Error as error:
        raise StoryError(f"{script.path}, line {segment.line}: {error}") from error


def _timing_json(timing: SegmentTiming) -> dict[str, Any]:
    """A segment's timing as the journal keeps it; its names are part of the file format."""
    found = dataclasses.asdict(timing)
    found["offset"] = found.pop("video_offset_seconds")
    return {
        name: [value.numerator, value.denominator] if isinstance(value, Fraction) else value
        for name, value in found.items()
    }


def _timing_of(record: dict) -> SegmentTiming:
    try:
        values = {
            name: Fraction(*value) if isinstance(value, list) else value for name, value in record["plan"].items()
        }
        values["video_offset_seconds"] = values.pop("offset")
        return SegmentTiming(**values)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise StoryError(
            f"the journal's record of segment {record.get('index')} is damaged: {error}; use a new work folder"
        ) from error


# --- the film
# --------------------------------------------------------------------------------------------------------------


def _film(
    script, records, journal: Journal, work: Path, out: Path, say, metadata
) -> tuple[tuple[SeamReport, ...], bool]:
    """Write the film, unless it is there already from the same segments."""
    told = {
        "segments": [record["files"] for record in records],
        "hold": dataclasses.asdict(script.hold) if script.hold else None,
    }
    inputs = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    where = str(out.resolve())
    for entry in reversed(journal.entries):
        if entry["event"] == "film" and entry["path"] == where:
            if entry["inputs"] == inputs and out.is_file() and file_sha256(out) == entry["sha256"]:
                return tuple(SeamReport(**seam) for seam in entry["seams"]), False
            break
    say(f"writing {out}: {script}")
    seams: list[SeamReport] = []
    sound = read_sound(work / SEGMENTS_FOLDER / records[0]["folder"])
    rate, channels = (sound.sample_rate, sound.samples.shape[0]) if sound is not None else (None, 2)
    del sound
    with VideoWriter(out, fps=script.fps, sample_rate=rate, channels=channels, metadata=metadata) as writer:
        for piece in join_segments(_stored(records, work), hold=script.hold, report=seams.append):
            if isinstance(piece, Waveform):
                writer.write_sound(piece)
            else:
                writer.write_frames(piece)
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
        yield FinishedSegment(_timing_of(record), StoredFrames(folder), read_sound(folder))


def _sweep(work: Path, records: list[dict]) -> None:
    """Remove the files of segments that were replaced."""
    current = {record["folder"] for record in records}
    with contextlib.suppress(OSError):
        for path in (work / SEGMENTS_FOLDER).iterdir():
            replaced = _FOLDER_NAME.fullmatch(path.name) and path.name not in current
            if path.is_dir() and (replaced or path.name.startswith(".ltx2-")):
                shutil.rmtree(path, ignore_errors=True)
