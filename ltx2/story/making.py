"""One segment of a story: where it lies on the film, what it starts from, made and put on disk."""

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Ltx2Error, StoryError
from ..film.handoff import Handoff, NextSegment, capture_state, condition_next
from ..film.provenance import Source
from ..film.timeline import Overlap, SegmentTiming, cut_segment, first_segment, next_segment
from .journal import Journal
from .script import StoryScript
from .segment_files import read_state, write_segment
from .tasks import Generate, task_of

SEGMENTS_FOLDER = "segments"


def make_segment(
    script,
    index: int,
    before: dict | None,
    inputs: str,
    generate: Generate,
    journal: Journal,
    work: Path,
    source: Source,
    log,
) -> dict:
    """Make one segment, put it on disk, record it."""
    planned = _planned(script, index, before, work, source)
    task = dataclasses.replace(
        task_of(script, index),
        audio_latents=planned.audio_latents,
        clip=planned.clip,
        audio=planned.audio,
        video_offset_seconds=planned.video_offset_seconds,
    )
    made = generate(task)
    for note in (*planned.notes, *made.notes):
        log(f"segment {index + 1}: {note}")
    timing = planned.timing
    if made.audio_latents is not None:
        timing = dataclasses.replace(timing, audio_latents=made.audio_latents.shape[2])

    def state_of(tail: np.ndarray, count: int):
        if count != timing.frames:
            raise StoryError(f"segment {index + 1} came out with {count} frames, {timing.frames} were asked for")
        return capture_state(
            tail,
            made.audio_latents,
            timing,
            overlap=Overlap(min(script.video_overlap, timing.frames), script.audio_overlap),
            source=source,
            sample_rate=made.sound.sample_rate if made.sound else None,
            seed=task.seed,
        )

    name = f"{index:04d}-{inputs[:12]}"
    folder = work / SEGMENTS_FOLDER / name
    files = write_segment(folder, made.frames, made.sound, script.fps, script.video_overlap, state_of)
    return journal.append(
        "segment", index=index, inputs=inputs, folder=name, files=files, plan=_timing_json(timing), seed=task.seed
    )


def check_timeline(script: StoryScript) -> None:
    """Raise StoryError naming the line of a segment that does not fit the one before it, before any is made."""
    timing = None
    for segment in script.segments:
        try:
            if timing is None:
                timing = first_segment(segment.frames, script.fps)
            elif segment.cut:
                timing = cut_segment(timing, segment.frames)
            else:
                video, audio = script.video_overlap, script.audio_overlap
                timing = next_segment(timing, segment.frames, video_overlap=video, audio_overlap=audio)
        except Ltx2Error as error:
            raise script.error(segment, error) from error


def _planned(script: StoryScript, index: int, before: dict | None, work: Path, source: Source) -> NextSegment:
    """Where a segment lies on the film, and what it starts from."""
    segment = script.segments[index]
    if before is None or segment.cut:
        timing = (
            first_segment(segment.frames, script.fps)
            if before is None
            else cut_segment(timing_of(before), segment.frames)
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
            source=source,
            handoff=Handoff(strength=segment.strength, seed=script.seed, noise=script.noise),
        )
    except Ltx2Error as error:
        raise script.error(segment, error) from error


def _timing_json(timing: SegmentTiming) -> dict[str, Any]:
    """A segment's timing as the journal keeps it; its names are part of the file format."""
    found = dataclasses.asdict(timing)
    found["offset"] = found.pop("video_offset_seconds")
    return {
        name: [value.numerator, value.denominator] if isinstance(value, Fraction) else value
        for name, value in found.items()
    }


def timing_of(record: dict) -> SegmentTiming:
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
