"""One segment of a story made: what it starts from, its place in its scene, its files and its record.

A scene has a clock of its own that begins with 0, so that a segment is the same whatever came before its scene; the
film puts the scenes after each other (film_file).
"""

import dataclasses
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import system
from ..atomic_files import sync_folder
from ..clock import WINDOW_SECONDS
from ..continuation.state import LTX2ContinuationState
from ..errors import Ltx2Error, StoryError
from ..film.drift import with_next_reference
from ..film.drift.reference import latent_drift
from ..film.handoff import Handoff, NextSegment, capture_state, condition_next
from ..film.provenance import Source
from ..film.timeline import Overlap, cut_segment, first_segment, next_segment, warn_beyond_window
from ..media import FoundFilm
from ..media.frames import last_frames_of
from .bridging.ends import Ends, led_into
from .journal import Journal, now, whereabouts
from .owned_files import free_name, unfinished
from .records import SegmentRecord, read_record, write_timing
from .script import StoryScript
from .segment_files import is_whole, read_state, write_segment
from .sentences import as_story_error, shown
from .tasks import Generate, MadeSegment, SegmentTask, task_of

SEGMENTS_FOLDER = "segments"


@dataclass(frozen=True)
class Order:
    """One take of one segment to make. index: in the script, from 0; take: from 1; before: what it goes on from, None
    in a new scene; entry: what its takes are remembered by; ends: what it leads to, for a bridge."""

    index: int
    take: int
    seed: int
    key: str
    before: SegmentRecord | None = None
    entry: str = ""
    ends: Ends | None = None


class Beginning(Protocol):
    """The end of the film that a story goes on from."""

    @property
    def film(self) -> FoundFilm:
        """The film as it was read for the model."""

    @property
    def state(self) -> LTX2ContinuationState:
        """The state that was made of it, for the first segment."""


@dataclass(frozen=True)
class Workshop:
    """Where and with what segments are made. source: the models as states name them; start: what the script goes on
    from."""

    script: StoryScript
    generate: Generate
    journal: Journal
    source: Source
    log: Callable[[str], None]
    start: Beginning | None = None

    @property
    def segments(self) -> Path:
        """The folder with one folder for each finished segment."""
        return self.journal.folder / SEGMENTS_FOLDER


def make_segment(shop: Workshop, order: Order, older: SegmentRecord | None = None) -> SegmentRecord:
    """Make one segment, put it on disk, record it. older: an earlier record of the same key, which stays where the
    same comes out again."""
    following = conditions_of(shop, order)
    task, notes = task_for(shop.script, order, following), following.notes
    if order.ends is not None:
        with as_story_error(f"what segment {order.index + 1} is to lead to cannot be read"):
            own_track = shop.script.audio is not None
            task, more = led_into(task, following.timing, order.ends, shop.segments, sound=not own_track)
        notes = (*notes, *more)
    shop.journal.append(
        "start", durable=False, index=order.index, take=order.take, seed=order.seed, where=whereabouts(), at=now()
    )
    name = f"segment {order.index + 1}"
    # first of all the folder: a disk that refuses says so before anything long is done
    with unfinished(shop.journal, shop.segments, name) as temp:
        made = shop.generate(task)
        for note in (*notes, *made.notes):
            shop.log(f"{name}: {note}")
        return _stored(shop, order, made, following, temp, older)


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
                if segment.frames / script.fps <= WINDOW_SECONDS:  # else its own job tells so before anything is made
                    warn_beyond_window(timing)
        except Ltx2Error as error:
            raise script.error(segment, error) from error


def conditions_of(shop: Workshop, order: Order) -> NextSegment:
    """Where a segment lies in its scene, and what it starts from."""
    script, segment = shop.script, shop.script.segments[order.index]
    begins = order.before is None and (order.index > 0 or shop.start is None)
    if begins:
        timing = first_segment(segment.frames, script.fps)
        own, offset = timing.audio_latents, timing.video_offset_seconds
        return NextSegment(0, timing, None, None, offset, own, latent_drift=latent_drift(script.drift))
    state = _state_before(shop, order)
    size = (script.width, script.height) if script.width is not None else None
    try:
        return condition_next(
            state,
            segment.frames,
            script.fps,
            size=size,
            source=shop.source,
            # to which the segment's number in its scene is added
            handoff=Handoff(
                audio_overlap=None if script.audio is None else 0,  # a track of one's own begins with the picture
                strength=segment.strength,
                seed=order.seed - state.segment_index - 1,
                noise=script.noise,
                drift=script.drift,
            ),
        )
    except Ltx2Error as error:
        raise script.error(segment, error) from error


def _state_before(shop: Workshop, order: Order) -> LTX2ContinuationState:
    if order.before is not None:
        with as_story_error(f"the state of segment {order.index} cannot be read"):
            return read_state(shop.segments / order.before.folder)
    assert shop.start is not None  # it is what the first segment goes on from
    try:
        for note in shop.start.film.notes:
            shop.log(note)
        return shop.start.state
    except Ltx2Error as error:
        raise shop.script.error(shop.script.segments[0], error) from error


def task_for(script: StoryScript, order: Order, following: NextSegment) -> SegmentTask:
    """What is asked of the generator."""
    task = task_of(script, order.index)
    return dataclasses.replace(
        task,
        seed=order.seed,
        audio_latents=following.audio_latents,
        clip=following.clip,
        audio=following.audio if script.audio is None else task.audio,
        video_offset_seconds=following.video_offset_seconds,
        anchor=following.anchor,
        latent_drift=following.latent_drift,
    )


class _NotOurs(Exception):
    """Carries an error of the generator past the handling of our own files' errors."""


def _as_made(frames: Iterable) -> Iterator:
    try:
        yield from frames
    except OSError as error:
        raise _NotOurs from error


def _stored(
    shop: Workshop,
    order: Order,
    made: MadeSegment,
    following: NextSegment,
    temp: Path,
    older: SegmentRecord | None,
) -> SegmentRecord:
    script, timing, name = shop.script, following.timing, f"segment {order.index + 1}"
    if made.audio_latents is not None:
        timing = dataclasses.replace(timing, audio_latents=made.audio_latents.shape[2])

    shown_timing = timing.doubled(made.rounds)

    def state_of(tail: np.ndarray, count: int):
        if count != shown_timing.frames:
            raise StoryError(f"{name} came out with {count} frames, {shown_timing.frames} were asked for")
        state = capture_state(
            tail if made.before is None else last_frames_of(_as_made(made.before), script.video_overlap),
            made.audio_latents,
            timing,
            overlap=Overlap(min(script.video_overlap, timing.frames), script.audio_overlap),
            source=shop.source,
            sample_rate=made.sound.sample_rate if made.sound else None,
            seed=order.seed,
        )
        return with_next_reference(state, script.drift, following.drift_reference, made.sound, made.drift_reference)

    try:
        with as_story_error(f"{name} cannot be stored in {shown(shop.journal.folder)}"):
            files = write_segment(
                temp, _as_made(made.frames), made.sound, shown_timing.fps, script.video_overlap, state_of
            )
            if older is not None and older.files == files and is_whole(shop.segments / older.folder, files):
                return older
            folder = free_name(shop.segments, f"{order.index + 1:04d}-{order.key[:12]}")
    except _NotOurs as error:
        raise error.__cause__ from None
    # recorded before it has its name, so that nothing lies there that the journal does not know
    record = read_record(
        shop.journal.append(
            "segment",
            index=order.index,
            take=order.take,
            entry=order.entry,
            inputs=order.key,
            folder=folder,
            temp=temp.name,
            files={file: dataclasses.asdict(stored) for file, stored in files.items()},
            plan=write_timing(shown_timing),
            seed=order.seed,
            **_bridging(order),
            **({"draft": True} if shop.source.draft else {}),
        )
    )
    with as_story_error(f"{name} cannot be stored in {shown(shop.journal.folder)}"):
        if not ensure_named(shop.segments, record):
            raise FileExistsError(errno.EEXIST, "something else came to lie under its name")
    return record


def _bridging(order: Order) -> dict[str, Any]:
    """What the journal says of a bridge beside what it says of every segment."""
    return {} if order.ends is None else {"known_as": order.ends.known_as}


def ensure_named(segments: Path, record: SegmentRecord) -> bool:
    """Give a recorded segment its name where it has not got it yet. Returns whether it is there and whole."""
    folder = segments / record.folder
    if record.temp and not os.path.lexists(folder) and is_whole(segments / record.temp, record.files):
        system.rename(segments / record.temp, folder)
        sync_folder(segments)
    return is_whole(folder, record.files)
