"""One segment of a film: what is asked for and the state it follows become a job, and what is made leaves a state."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from ..clock import seconds_of_frames
from ..continuation.state import LTX2ContinuationState
from ..errors import RequestError
from ..film.drift import DriftControl, DriftReference, with_next_reference
from ..film.drift.reference import latent_drift
from ..film.handoff import Handoff, capture_state, continue_request, open_request, overlap_of
from ..film.provenance import Source
from ..film.timeline import Overlap, SegmentTiming, check_carried, first_segment
from ..stages.given import sound_piece
from ..stages.models import Models
from ..stages.pipeline import Segment
from ..stages.request import Job, Request, make_job
from ..values import Waveform

NOTED_SECONDS = 0.04  # less is a frame's


@dataclass(frozen=True, eq=False)
class SegmentJob:
    """A segment that will be made.

    job: what the pipeline does; timing: its place on the film; overlap: what its own state will carry; source: the
    models; notes: what was adjusted or assumed of the state before, one sentence each. drift: what is done against it,
    drift_reference: what its scene is held to.
    """

    job: Job
    timing: SegmentTiming
    overlap: Overlap
    source: Source
    notes: tuple[str, ...] = ()
    drift: DriftControl | None = None
    drift_reference: DriftReference | None = None

    def __str__(self) -> str:
        return f"{self.job.settings}; {self.job.geometry}; {self.timing}"


def source_of(models: Models, *, draft: bool = False) -> Source:
    """What a state says about its model: the release, the file that it came from, and whether it was for a draft."""
    release = "" if models.release is None else f"LTX-{models.release.name}"
    return Source(release, Path(models.names[0]).stem if models.names else "", draft)


def segment_job(
    models: Models,
    request: Request,
    state: LTX2ContinuationState | None = None,
    handoff: Handoff = Handoff(),  # noqa: B008 (frozen)
    *,
    overlap: Overlap | None = None,
) -> SegmentJob:
    """All that is known of a segment before it is made, checked.

    state: the segment goes on from it, and what the request leaves open is as the state says. overlap: for its own
    state; None: as much as the state before carries, or as usual.
    Raises RequestError, CheckpointError and ContinuationError for what cannot work.
    """
    source = source_of(models, draft=request.draft)
    if handoff.strength is not None and handoff.drift is not None and handoff.drift.relaxing is not None:
        raise RequestError("a strength and that of drift are both given: keep one of them")
    notes: tuple[str, ...] = ()
    reference = None
    if state is None:
        if handoff.drift is not None:
            request = replace(request, latent_drift=latent_drift(handoff.drift))
        job = make_job(models, request)
        size = job.geometry
        timing = first_segment(size.frames, size.fps, audio_latents=size.audio_latents)
        job = _with_its_piece(job, timing)
    else:
        # size and length first, without asking for a network
        sized = make_job(models, open_request(request, state), parts=())
        # what depends on the state is left as it was asked for
        asked = replace(
            sized.request,
            seed=request.seed,
            audio_latents=request.audio_latents,
            keyframe_slots=request.keyframe_slots,
        )
        continued, following = continue_request(asked, state, handoff, source=source)
        track_notes: tuple[str, ...] = ()
        if isinstance(continued.audio, Waveform):
            # a track of one's own is the film's: the segment hears its piece of it
            place = following.timing.start, seconds_of_frames(following.timing.frames, following.timing.fps)
            track_notes = _silence_after(continued.audio, place[0] + place[1])
            continued = replace(continued, audio=sound_piece(continued.audio, *place))
        job, timing, notes = make_job(models, continued), following.timing, following.notes
        reference = following.drift_reference
        job = replace(job, notes=tuple(dict.fromkeys((*sized.notes, *job.notes, *track_notes))))
    if overlap is None:
        overlap = overlap_of(state)
        overlap = replace(overlap, video_frames=min(overlap.video_frames, timing.frames))
    check_carried(timing, overlap)
    return SegmentJob(job, timing, overlap, source, notes, handoff.drift, reference)


def _with_its_piece(job: Job, timing: SegmentTiming) -> Job:
    """A first segment with as much of a track of one's own as it is long, and a note where that has more."""
    track, seconds = job.request.audio, seconds_of_frames(timing.frames, timing.fps)
    if not isinstance(track, Waveform):
        return job
    over = float(track.seconds - seconds)
    left_out = (f"{over:.2f} s of sound after the last frame are left out",) if over >= NOTED_SECONDS else ()
    notes = (*left_out, *_silence_after(track, seconds))
    request = replace(job.request, audio=sound_piece(track, Fraction(0), seconds))
    return replace(job, request=request, notes=(*job.notes, *notes))


def silence_notes(seconds: float, what: str = "the sound") -> tuple[str, ...]:
    """A note where a track is so much shorter than what it lies under, and that can be heard."""
    if seconds < NOTED_SECONDS:
        return ()
    return (f"{what} ends {seconds:.2f} s before the last frame: silence follows it",)


def _silence_after(track: Waveform, end: Fraction) -> tuple[str, ...]:
    """A note where a track ends before a segment does."""
    return silence_notes(float(end - track.seconds))


def state_after(
    made: SegmentJob, segment: Segment, last_frames: np.ndarray | torch.Tensor, index: int = 0
) -> LTX2ContinuationState:
    """The state that one clip of a finished segment leaves. last_frames: [n, H, W, 3], at least as many as its overlap
    has."""
    audio, sound = segment.latent.audio, segment.sounds[index]
    state = capture_state(
        last_frames,
        None if audio is None else audio[index : index + 1],
        made.timing,
        overlap=made.overlap,
        source=made.source,
        sample_rate=None if sound is None else sound.sample_rate,
        seed=segment.seed + index,
    )
    return with_next_reference(state, made.drift, made.drift_reference, sound, segment.drift_reference)
