"""The one place where states are made and taken up: from a finished segment to its state, and to the next segment."""

import warnings
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar, cast

import numpy as np
import torch

from ..clock import (
    AUDIO_LATENTS_PER_SECOND,
    DEFAULT_FPS,
    WINDOW_SECONDS,
    audio_latents_for,
    exact_seconds,
    is_valid_frame_count,
    latent_frame_span,
    parse_fps,
    round_half_up,
    seconds_of_frames,
)
from ..continuation.state import LTX2ContinuationState, audio_mask
from ..errors import ContinuationError, Ltx2Warning, RequestError
from ..media import uint8_frames
from ..values import AudioCondition, ClipCondition, ImageCondition, LatentDrift
from .drift import DriftControl, DriftReference, read_reference, take_up
from .provenance import METADATA_KEY, Provenance, Source, provenance_metadata, read_provenance
from .sizes import size_after, sizes_on_grid
from .state_content import ContextNoise, StateContent, check_latents, read_content, with_noise
from .timeline import AUDIO_RULE, Overlap, SegmentTiming, check_carried, clock_shift, next_segment

# A request: the stages' own, or anything with the same fields.
RequestLike = TypeVar("RequestLike")


@dataclass(frozen=True)
class Handoff:
    """How a state is taken up; what is None is done as the state says.

    video_overlap, audio_overlap: how much of it, in video frames; ``audio_overlap=0`` takes no sound. strength: of its
    frames, 0…1. seed: of the whole chain, the segment gets seed + its index. noise: on what is taken. drift: what is
    done against it.
    """

    video_overlap: int | None = None
    audio_overlap: int | None = None
    strength: float | None = None
    seed: int | None = None
    noise: ContextNoise | None = None
    drift: DriftControl | None = None


@dataclass(frozen=True)
class NextSegment:
    """What a state means for the segment after it.

    index: of that segment; timing: its place on the film; seed: its own, or None when none is known.
    clip: the frames it starts from, or None; audio: the sound it starts from, or None.
    video_offset_seconds: to add to its picture times in every stage; audio_latents: how long its audio latent is.
    notes: what was adjusted or assumed, one sentence each.
    anchor, latent_drift: what is done against drift besides; drift_reference: what the scene is held to.
    """

    index: int
    timing: SegmentTiming
    clip: ClipCondition | None
    audio: AudioCondition | None
    video_offset_seconds: Fraction
    audio_latents: int
    seed: int | None = None
    notes: tuple[str, ...] = ()
    anchor: ImageCondition | None = None
    latent_drift: LatentDrift | None = None
    drift_reference: DriftReference | None = None

    def __str__(self) -> str:
        return f"{self.timing}; seed {self.seed}"


# --- from a finished segment to its state -----------------------------------------------------------------------------


def capture_state(
    frames: np.ndarray | torch.Tensor | None,
    audio_latents: torch.Tensor | None,
    timing: SegmentTiming,
    *,
    overlap: Overlap = Overlap(),  # noqa: B008 (frozen)
    source: Source = Source(),  # noqa: B008 (frozen)
    sample_rate: int | None = None,
    seed: int | None = None,
    metadata: dict[str, Any] | None = None,
) -> LTX2ContinuationState:
    """The state that a finished segment leaves.

    frames: [N, H, W, 3], uint8 or float in 0…1 (rounded): the segment's frames or at least its last
    ``overlap.video_frames`` (plus the timing's ``end_offset``); None where only sound was made.
    audio_latents: the segment's whole normalised latent
    [1, 8, T, 16], or None. source: the model that made it; sample_rate: of its waveform; seed: the one it ran with.
    Raises RequestError or ContinuationError when the overlap does not fit.
    """
    if audio_latents is not None:
        check_latents(audio_latents)
        if audio_latents.shape[2] != timing.audio_latents:
            raise ContinuationError(
                f"the segment has {audio_latents.shape[2]} audio latents, its timing says {timing.audio_latents}"
            )
    check_carried(timing, overlap)
    carried = _carried(frames, timing, overlap)
    sound = overlap.audio_frames if audio_latents is not None else 0
    shift, offset, start = clock_shift(timing, overlap.video_frames, sound)
    producer = Provenance(
        timing,
        Overlap(overlap.video_frames, sound),
        width=0 if carried is None else carried.shape[2],
        height=0 if carried is None else carried.shape[1],
        source=source,
        seed=seed,
    )
    return LTX2ContinuationState(
        segment_index=timing.index,
        video_frames=None if carried is None else list(carried),
        video_conditioning_strength=1.0,
        audio_latents=audio_latents[:, :, shift:].detach().to("cpu").clone() if sound else None,
        audio_sample_rate=sample_rate,
        audio_conditioning_num_frames=max(sound, overlap.video_frames) if sound else 0,
        audio_conditioning_strength=0.0,
        video_position_offset_sec=float(offset),
        metadata={**(metadata or {}), METADATA_KEY: provenance_metadata(producer, start)},
    )


def _carried(frames: np.ndarray | torch.Tensor | None, timing: SegmentTiming, overlap: Overlap) -> np.ndarray | None:
    have = 0 if frames is None else len(frames) - timing.end_offset
    if have < overlap.video_frames:
        raise ContinuationError(
            f"{max(have, 0)} frames are left to carry, expected {overlap.video_frames}: give more of the segment's end"
        )
    return None if frames is None else np.array(uint8_frames(frames[have - overlap.video_frames : have]))


def overlap_of(state: LTX2ContinuationState | None) -> Overlap:
    """What the state after the next segment should carry: as much as the one before did, where it says."""
    producer = None if state is None else read_provenance(state.metadata, state.segment_index)
    if producer is None or producer.source.found is not None or not producer.overlap.video_frames:
        return Overlap()  # more is taken of a found film, since nothing else is known of it
    return producer.overlap


# --- from a state to the request for the next segment -----------------------------------------------------------------


def source_of_state(state: LTX2ContinuationState) -> Source:
    """What a state says about the model that made it; nothing for a state of another program."""
    producer = read_provenance(state.metadata, state.segment_index)
    return Source() if producer is None else producer.source


def fps_after(state: LTX2ContinuationState | None, fps: Any = None) -> Fraction:
    """Frames per second of a segment: what is asked for, else the rate of the state it follows, else the usual one."""
    if fps:
        return parse_fps(fps)
    producer = None if state is None else read_provenance(state.metadata, state.segment_index)
    return DEFAULT_FPS if producer is None else producer.timing.fps


def open_request(request: RequestLike, state: LTX2ContinuationState) -> RequestLike:
    """A request whose rate, length and size are the state's where it leaves them open."""
    producer, asked = read_provenance(state.metadata, state.segment_index), cast(Any, request)
    if asked.fps is None and producer is not None:
        asked = replace(asked, fps=producer.timing.fps)
    # a found film has a length of its own
    made = producer is not None and producer.source.found is None and _could_be_made(producer.timing)
    if asked.frames is None and asked.seconds is None and producer is not None and made:
        asked = replace(asked, frames=producer.timing.frames)
    size = size_after(state)
    if asked.width is None and asked.height is None and size is not None:
        asked = replace(asked, width=size[0], height=size[1])
    return asked


def continue_request(
    request: RequestLike,
    state: LTX2ContinuationState,
    handoff: Handoff = Handoff(),  # noqa: B008 (frozen)
    *,
    source: Source = Source(),  # noqa: B008 (frozen)
) -> tuple[RequestLike, NextSegment]:
    """A request that goes on from a state, and the segment's place on the film.

    request: with its size, frames and fps; its seed, its conditions and a track of its own stay. Raises
    ContinuationError and RequestError for what does not fit.
    """
    asked = cast(Any, request)
    if asked.audio is not None or asked.audio_latents == 0:
        # a track of one's own begins with the picture: no sound is carried then
        handoff = replace(handoff, audio_overlap=0)
        _check_own_track(asked, handoff.drift)
    following = condition_next(
        state,
        asked.frames,
        asked.fps,
        size=(asked.width, asked.height),
        source=source,
        handoff=handoff,
        audio_rule=asked.audio_rule,
        audio_latents=asked.audio_latents,
    )
    carried = following.timing.video_overlap
    for name, conditions in (("image", asked.images), ("clip", asked.clips)):
        if any(condition.frame < carried for condition in conditions) and following.clip is not None:
            raise RequestError(
                f"frames 0 to {carried - 1} come from the state: give the {name} a later frame, such as the last"
            )
    return (
        replace(
            asked,
            fps=following.timing.fps,
            seed=following.seed if asked.seed is None else asked.seed,
            images=(*asked.images, *(() if following.anchor is None else (following.anchor,))),
            clips=(*(() if following.clip is None else (following.clip,)), *asked.clips),
            audio=following.audio if asked.audio is None else asked.audio,
            audio_latents=following.audio_latents,
            video_offset_seconds=following.video_offset_seconds,
            latent_drift=following.latent_drift,
        ),
        following,
    )


def _check_own_track(request: Any, drift: DriftControl | None) -> None:
    if request.audio is not None and drift is not None and drift.loudness:
        raise RequestError(
            "drift: loudness is of the sound that is made, but a sound of your own is given: leave loudness out"
        )


def condition_next(
    state: LTX2ContinuationState,
    frames: int,
    fps: Any = None,
    *,
    size: tuple[int, int] | None = None,
    source: Source = Source(),  # noqa: B008 (frozen)
    handoff: Handoff = Handoff(),  # noqa: B008 (frozen)
    audio_rule: str = AUDIO_RULE,
    audio_latents: int | None = None,
) -> NextSegment:
    """Conditions and clocks of the segment after a state.

    frames: how many the segment generates, 8k+1. fps, size (width, height), source: of the segment; where given they
    must agree with the state, a size off the grid with the nearest on it. audio_latents: the length of the segment's
    audio latent where the host has made it already.
    Raises ContinuationError naming both values when state and segment do not fit together.
    """
    notes: list[str] = []
    held = read_content(state, notes)
    producer = read_provenance(state.metadata, state.segment_index)
    rate = fps_after(state, fps)
    if producer is not None:
        _check_rate(producer, rate)
        notes += check_source(producer.source, source)
    _check_size(held, size, notes)
    held = replace(held, audio=None) if handoff.audio_overlap == 0 else held
    wanted = _Wanted(frames, rate, audio_rule, audio_latents)
    timing, held = (
        _foreign(state, held, wanted, notes)
        if producer is None
        else _own(state, producer.timing, producer.overlap, held, wanted, handoff, notes)
    )
    seed = _seed(producer, handoff, timing.index)
    mask, note = audio_mask(state)
    if note and held.audio is not None:
        notes.append(note)
    taken = take_up(handoff.drift, read_reference(state.metadata), held.frames, sound=held.audio is not None)
    notes += taken.notes
    held = with_noise(replace(held, frames=taken.frames), handoff.noise or ContextNoise(), seed or 0)
    if state.video_conditioning_frame_idx and held.frames is not None:
        notes.append(
            f"the frames go to latent frame {state.video_conditioning_frame_idx}; the join takes them to start the "
            "segment"
        )
    for note in notes:
        warnings.warn(note, Ltx2Warning, stacklevel=2)
    return NextSegment(
        index=timing.index,
        timing=timing,
        clip=None if held.frames is None else _clip(held.frames, state, handoff),
        audio=None if held.audio is None else AudioCondition(held.audio, mask, gain=taken.gain),
        video_offset_seconds=timing.video_offset_seconds,
        audio_latents=timing.audio_latents,
        seed=seed,
        notes=tuple(notes),
        anchor=taken.anchor,
        latent_drift=taken.latent,
        drift_reference=taken.reference,
    )


def _seed(producer: Provenance | None, handoff: Handoff, index: int) -> int | None:
    """The seed of the segment with this index."""
    if handoff.seed is not None:
        return handoff.seed + index
    return None if producer is None or producer.seed is None else producer.seed + 1


def _clip(frames: np.ndarray, state: LTX2ContinuationState, handoff: Handoff) -> ClipCondition:
    """Where the frames of a state go in a segment, and how firmly it starts from them."""
    place = latent_frame_span(state.video_conditioning_frame_idx)[0]
    relaxing = None if handoff.drift is None else handoff.drift.relaxing
    strength = state.video_conditioning_strength if handoff.strength is None else handoff.strength
    if handoff.strength is None and relaxing is not None:
        strength = relaxing.at(state.segment_index)
    return ClipCondition(frames, place, float(strength))


def _could_be_made(timing: SegmentTiming) -> bool:
    """Whether a segment of this length is one that the models make at once."""
    return is_valid_frame_count(timing.frames) and timing.seconds <= WINDOW_SECONDS


def check_source(before: Source, now: Source) -> tuple[str, ...]:
    """Notes on what a state and the segment after it were made with. Raises ContinuationError, naming both, for two
    releases; what is unknown fits everything."""
    if before.release and now.release and before.release != now.release:
        raise ContinuationError(
            f"the state comes from {before.release}, the next segment is made with {now.release}: use the same release"
        )
    notes = []
    if before.file and now.file and before.file != now.file:
        notes.append(f"the state was made with {before.file}, this segment is made with {now.file}")
    if before.draft and not now.draft:
        notes.append("the state comes from a draft, whose pictures are soft: make its segment without the draft first")
    return tuple(notes)


@dataclass(frozen=True)
class _Wanted:
    """The segment that is to follow."""

    frames: int
    fps: Fraction
    audio_rule: str
    audio_latents: int | None


def _check_rate(producer: Provenance, fps: Fraction) -> None:
    if fps != producer.timing.fps:
        raise ContinuationError(
            f"the state comes from a segment at {producer.timing.fps} fps, the next one is at {fps}: use the same rate"
        )


def _check_size(held: StateContent, size: tuple[int, int] | None, notes: list[str]) -> None:
    if size is None or held.frames is None:
        return
    height, width = held.frames.shape[1:3]
    if (width, height) == tuple(size):
        return
    if tuple(size) not in sizes_on_grid(width, height):
        raise ContinuationError(
            f"the state's frames are {width}x{height} px, the next segment is {size[0]}x{size[1]}: use the same size"
        )
    notes.append(f"the state's frames of {width}x{height} px were brought to {size[0]}x{size[1]}")


def _own(
    state,
    previous: SegmentTiming,
    cut_for: Overlap,
    held: StateContent,
    wanted: _Wanted,
    handoff: Handoff,
    notes: list[str],
) -> tuple[SegmentTiming, StateContent]:
    """Timing and tensors from a state that carries its clocks."""
    have = 0 if held.frames is None else len(held.frames)
    overlap = have if handoff.video_overlap is None else handoff.video_overlap
    if overlap > have:
        raise ContinuationError(
            f"the state carries {have} frames, a video overlap of {overlap} is wanted: use {have} or fewer"
        )
    stated = state.audio_conditioning_num_frames
    sound = 0 if held.audio is None else stated if handoff.audio_overlap is None else handoff.audio_overlap
    earliest = 0
    if held.audio is not None:
        earliest = previous.audio_latents - held.audio.shape[2]
        if earliest < 0:
            raise ContinuationError(
                f"the state carries {held.audio.shape[2]} audio latents of a segment that had "
                f"{previous.audio_latents}: it is damaged"
            )
    timing = next_segment(
        previous,
        wanted.frames,
        video_overlap=overlap,
        audio_overlap=sound,
        audio_rule=wanted.audio_rule,
        audio_latents=wanted.audio_latents,
        earliest_latent=earliest,
    )
    same = overlap == cut_for.video_frames and handoff.audio_overlap in (None, stated)
    offset = exact_seconds(state.video_position_offset_sec)
    if sound and same and abs(timing.video_offset_seconds - offset) > Fraction(1, 1000):
        timing = _shifted_as_stated(offset, previous, timing, earliest, wanted, notes)
    elif sound and timing.audio_shift == earliest and not same:
        missing = seconds_of_frames(max(0, sound - overlap), timing.fps) - timing.video_offset_seconds
        if missing > Fraction(1, AUDIO_LATENTS_PER_SECOND):
            notes.append(
                f"the state carries only {held.audio.shape[2]} audio latents for an overlap of {sound} frames; all "
                "were used"
            )
    shared, first = timing.audio_overlap_latents, timing.audio_shift - earliest
    audio = held.audio[:, :, first : first + shared] if shared else None
    return timing, StateContent(_last(held.frames, overlap), audio)


def _shifted_as_stated(
    stated: Fraction, previous: SegmentTiming, timing: SegmentTiming, earliest: int, wanted: _Wanted, notes: list[str]
) -> SegmentTiming:
    """The timing with the offset that the state states, as long as that lies on the grid of audio latents."""
    shift = timing.audio_shift + round_half_up((timing.video_offset_seconds - stated) * AUDIO_LATENTS_PER_SECOND)
    moved = timing.video_offset_seconds - Fraction(shift - timing.audio_shift, AUDIO_LATENTS_PER_SECOND)
    if abs(moved - stated) > Fraction(1, 1000) or moved < 0 or not earliest <= shift < previous.audio_latents:
        notes.append(
            f"video_position_offset_sec {float(stated):g} does not fit the state's clocks; "
            f"{float(timing.video_offset_seconds):g} was used"
        )
        return timing
    return next_segment(
        previous,
        timing.frames,
        video_overlap=timing.video_overlap,
        audio_overlap=round_half_up(timing.video_overlap + moved * timing.fps),
        audio_rule=wanted.audio_rule,
        audio_latents=wanted.audio_latents,
        earliest_latent=shift,
    )


def _foreign(state, held: StateContent, wanted: _Wanted, notes: list[str]) -> tuple[SegmentTiming, StateContent]:
    """Timing and tensors from a state of another program, by its conventions."""
    overlap = 0 if held.frames is None else len(held.frames)
    offset, shared = Fraction(0), 0
    if held.audio is not None:
        offset = exact_seconds(state.video_position_offset_sec)
        seconds = seconds_of_frames(state.audio_conditioning_num_frames, wanted.fps)
        shared = min(held.audio.shape[2], max(1, round(seconds * AUDIO_LATENTS_PER_SECOND)))
        held = replace(held, audio=held.audio[:, :, held.audio.shape[2] - shared :])
    count = wanted.audio_latents
    if count is None:
        count = audio_latents_for(offset + seconds_of_frames(wanted.frames, wanted.fps), wanted.audio_rule)
    if (shared and shared >= count) or overlap >= wanted.frames:
        raise ContinuationError(
            f"the state repeats {overlap} frames and {shared} audio latents, the next segment has {wanted.frames} and "
            f"{count}: make it longer"
        )
    notes.append(
        "the state does not say how its clocks ran; picture and sound may be off by some milliseconds at the join"
    )
    timing = SegmentTiming(
        index=state.segment_index + 1,
        frames=wanted.frames,
        fps=wanted.fps,
        audio_latents=count,
        video_offset_seconds=offset,
        audio_overlap_latents=shared,
        video_overlap=overlap,
    )
    return timing, held


def _last(frames: np.ndarray | None, count: int) -> np.ndarray | None:
    return None if frames is None or not count else frames[len(frames) - count :]
