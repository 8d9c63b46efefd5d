"""A sound of any length: a request becomes windows, each is made to go on from the one before, and all are joined."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from ...clock import exact_seconds, round_half_up, seconds_of_frames
from ...continuation.state import LTX2ContinuationState
from ...errors import RequestError
from ...film.handoff import Handoff, NextSegment, capture_state, condition_next, fps_after
from ...film.provenance import Source
from ...film.sound_windows import one_track, sound_overlap, sound_windows
from ...film.timeline import Overlap, SegmentTiming
from ...media.found.film_picture import FilmPicture
from ...stages import pipeline
from ...stages.given import whole_number
from ...stages.models import Models
from ...stages.pipeline import Segment
from ...stages.presets import SOUND_PRESETS
from ...stages.request import Job, Request, make_job
from ...values import AudioCondition, ClipCondition, Progress, Waveform
from ..segment_job import source_of

# The picture is only listened to: half of the usual size says as much.
MOST_PIXELS = 768 * 512


@dataclass(frozen=True, eq=False)
class SoundJob:
    """A sound that will be made.

    job: of the first window, which says how all of them are made; windows: their places on the sound's clock; film:
    what is seen meanwhile, None for nothing; frames, fps: length of the whole sound; following: what the first window
    goes on from, None for nothing. notes: what was adjusted or chosen, one sentence each.
    """

    job: Job
    windows: tuple[SegmentTiming, ...]
    film: FilmPicture | None
    frames: int
    fps: Fraction
    source: Source
    following: NextSegment | None = None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> Fraction:
        """How long the sound will be."""
        return self.film.seconds if self.film is not None else seconds_of_frames(self.frames, self.fps)

    def __str__(self) -> str:
        how = f"{self.job.settings}; {float(self.seconds):.2f} s of sound"
        return how if len(self.windows) == 1 else f"{how} in {len(self.windows)} windows"


def sound_job(
    models: Models,
    request: Request,
    *,
    film: FilmPicture | None = None,
    state: LTX2ContinuationState | None = None,
    handoff: Handoff = Handoff(),  # noqa: B008 (frozen)
) -> SoundJob:
    """All that is known of a sound before it is made, checked.

    request: its prompt, length (a film's own where it has one), seed and settings. film: sound is made for it. state:
    the sound goes on from it, and only what is new comes out; handoff: how. Raises RequestError, CheckpointError and
    ContinuationError.
    """
    notes: list[str] = []
    if film is not None:
        frames, fps = film.frames, film.fps
        request = replace(request, width=film.width, height=film.height)
        notes += film.notes
    else:
        fps = fps_after(state, request.fps)
        frames = _frames(request, fps)
    known: list[NextSegment] = []

    def after_state(count: int) -> SegmentTiming:
        assert state is not None  # only then it is asked
        if state.audio_latents is None:
            raise RequestError("the state carries no sound to go on from: use one that was made with sound")
        bare = replace(state, video_frames=None)
        known.append(condition_next(bare, count, fps, source=source_of(models), handoff=handoff))
        return known[0].timing

    windows = sound_windows(frames, fps, picture=film is not None, first=None if state is None else after_state)
    if film is None:
        # a window is made whole, and the state it leaves is that of its end
        frames = sum(one.new_frames for one in windows)
        notes += _length_notes(request, frames, fps)
    following = known[0] if known else None
    if following is not None:
        notes += following.notes
        request = replace(request, seed=following.seed if request.seed is None else request.seed)
    seen = _no_pictures(film, windows[0])
    job = make_job(models, _request_of(request, windows[0], seen, None if following is None else following.audio))
    return SoundJob(job, windows, film, frames, fps, source_of(models), following, (*job.notes, *notes))


def _frames(request: Request, fps: Fraction) -> int:
    """Frames that a sound of the length asked for covers."""
    if request.seconds is None and request.frames is None:
        return SOUND_PRESETS[0].frames
    if request.seconds is None:
        return whole_number(request.frames, "frames")
    if request.frames is not None:
        raise RequestError("both frames and seconds were asked for: give one of them")
    seconds = exact_seconds(request.seconds)
    if seconds <= 0:
        raise RequestError(f"length is {float(seconds):g} s, expected more than 0")
    return max(1, round_half_up(seconds * fps))


def _length_notes(request: Request, frames: int, fps: Fraction) -> tuple[str, ...]:
    made = seconds_of_frames(frames, fps)
    if request.seconds is not None and made != exact_seconds(request.seconds):
        return (f"{float(exact_seconds(request.seconds)):g} s became {float(made):.3f} s",)
    if request.frames is not None and frames != request.frames:
        return (f"{request.frames} frames became {frames}",)
    return ()


def make_sound(
    models: Models,
    sound: SoundJob,
    *,
    progress: Callable[[Progress], None] | None = None,
    generate: Callable[..., Segment] = pipeline.generate,
    made: Callable[[SegmentTiming, Segment], None] | None = None,
) -> Iterator[Waveform]:
    """Pieces of the sound in order, each as soon as no later window can change it.

    made: is given each window once it is there. Raises what the pipeline raises.
    """
    return one_track(_windows(models, sound, progress, generate, made), sound.seconds)


def state_of_sound(sound: SoundJob, timing: SegmentTiming, segment: Segment) -> LTX2ContinuationState:
    """The state that a sound leaves with its last window: what a next sound goes on from."""
    assert segment.sound is not None  # a sound job makes nothing else
    overlap = Overlap(0, sound_overlap(sound.fps, picture=False).audio_frames)
    return capture_state(
        None,
        segment.latent.audio,
        timing,
        overlap=overlap,
        source=sound.source,
        sample_rate=segment.sound.sample_rate,
        seed=segment.seed,
    )


def _windows(models, sound: SoundJob, progress, generate, made) -> Iterator[tuple[SegmentTiming, Waveform]]:
    first = sound.job.request
    heard = None if sound.following is None else sound.following.audio
    for number, (timing, seen) in enumerate(zip(sound.windows, _pictures(sound))):
        request = _request_of(first, timing, seen, heard)
        segment = generate(models, make_job(models, replace(request, seed=first.seed + number)), progress=progress)
        if made is not None:
            made(timing, segment)
        yield timing, segment.sound
        if number + 1 < len(sound.windows):
            following = sound.windows[number + 1]
            shift, count = following.audio_shift, following.audio_overlap_latents
            heard = AudioCondition(segment.latent.audio[:, :, shift : shift + count])


def _request_of(
    request: Request, timing: SegmentTiming, seen: np.ndarray | None, heard: AudioCondition | None
) -> Request:
    """The request for one window. seen: its pictures, None for none; heard: what it goes on from."""
    return replace(
        request,
        frames=timing.frames,
        seconds=None,
        fps=timing.fps,
        sound_only=True,
        clips=() if seen is None else (ClipCondition(seen, frozen=True),),
        audio=heard,
        audio_latents=timing.audio_latents,
        video_offset_seconds=timing.video_offset_seconds,
    )


def _pictures(sound: SoundJob) -> Iterator[np.ndarray | None]:
    if sound.film is None:
        yield from (None for _ in sound.windows)
        return
    yield from sound.film.windows((one.first_frame - one.video_overlap, one.frames) for one in sound.windows)


def _no_pictures(film: FilmPicture | None, timing: SegmentTiming) -> np.ndarray | None:
    """Pictures of the right size to check a request with, which take no memory."""
    if film is None:
        return None
    return np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (timing.frames, film.height, film.width, 3))
