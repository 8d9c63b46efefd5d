"""From a finished segment to its state, and from a state to the conditions of the next segment."""

import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..clock import (
    AUDIO_LATENTS_PER_SECOND,
    audio_latents_for,
    exact_seconds,
    latent_frame_span,
    parse_fps,
    round_half_up,
    seconds_of_frames,
    snap_frames,
)
from ..continuation.state import LTX2ContinuationState, audio_mask
from ..errors import ContinuationError, Ltx2Warning
from ..media import uint8_frames
from ..values import AudioCondition, ClipCondition
from .provenance import METADATA_KEY, Provenance, provenance_metadata, read_provenance
from .timeline import (
    AUDIO_OVERLAP_FRAMES,
    AUDIO_RULE,
    VIDEO_OVERLAP_FRAMES,
    SegmentTiming,
    check_overlap,
    clock_shift,
    next_segment,
)

AUDIO_CHANNELS, AUDIO_BINS = 8, 16


@dataclass(frozen=True)
class NextSegment:
    """What a state means for the segment after it.

    index: of that segment; plan: its place on the film; seed: its own, or None when none is known.
    clip: the frames it starts from, or None; audio: the sound it starts from, or None.
    offset_seconds: to add to its picture times in every stage; audio_latents: how long its audio latent is.
    notes: what was adjusted or assumed, one sentence each.
    """

    index: int
    timing: SegmentTiming
    clip: ClipCondition | None
    audio: AudioCondition | None
    video_offset_seconds: Fraction
    audio_latents: int
    seed: int | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.timing}; seed {self.seed}"


@dataclass(frozen=True)
class ContextNoise:
    """Noise put on what a segment starts from, which keeps small flaws from growing over many segments.

    video: standard deviation as a share of full brightness; audio: standard deviation in latent units.
    """

    video: float = 0.0
    audio: float = 0.0


def capture_state(
    frames: np.ndarray | torch.Tensor,
    audio_latents: torch.Tensor | None,
    timing: SegmentTiming,
    *,
    video_overlap: int = VIDEO_OVERLAP_FRAMES,
    audio_overlap: int = AUDIO_OVERLAP_FRAMES,
    sample_rate: int | None = None,
    seed: int | None = None,
    model: str = "",
    metadata: dict[str, Any] | None = None,
) -> LTX2ContinuationState:
    """The state that a finished segment leaves.

    frames: [N, H, W, 3], uint8 or float in 0…1 (rounded): the segment's frames or at least its last ``video_overlap``
    (plus the plan's ``end_offset``). audio_latents: the segment's whole normalised latent [1, 8, T, 16], or None.
    sample_rate: of its waveform.
    seed: the one this segment ran with. Raises RequestError or ContinuationError when the overlap does not fit.
    """
    if audio_latents is not None:
        _check_latents(audio_latents)
        if audio_latents.shape[2] != timing.audio_latents:
            raise ContinuationError(
                f"the segment has {audio_latents.shape[2]} audio latents, its plan says {timing.audio_latents}"
            )
    check_overlap(video_overlap)
    tail = len(frames) - timing.end_offset
    if tail < video_overlap:
        raise ContinuationError(
            f"{max(tail, 0)} frames are left to carry, expected {video_overlap}: give more of the segment's end"
        )
    carried = np.array(uint8_frames(frames[tail - video_overlap : tail]))
    sound = audio_overlap if audio_latents is not None else 0
    shift, offset, start = clock_shift(timing, video_overlap, sound)
    producer = Provenance(
        timing, video_overlap, sound, width=carried.shape[2], height=carried.shape[1], model=model, seed=seed
    )
    return LTX2ContinuationState(
        segment_index=timing.index,
        video_frames=list(carried),
        video_conditioning_strength=1.0,
        audio_latents=audio_latents[:, :, shift:].detach().to("cpu").clone() if sound else None,
        audio_sample_rate=sample_rate,
        audio_conditioning_num_frames=max(sound, video_overlap) if sound else 0,
        audio_conditioning_strength=0.0,
        video_position_offset_sec=float(offset),
        metadata={**(metadata or {}), METADATA_KEY: provenance_metadata(producer, start)},
    )


def condition_next(
    state: LTX2ContinuationState,
    frames: int,
    fps: Any = None,
    *,
    size: tuple[int, int] | None = None,
    model: str = "",
    seed: int | None = None,
    video_overlap: int | None = None,
    audio_overlap: int | None = None,
    strength: float | None = None,
    audio_rule: str = AUDIO_RULE,
    audio_latents: int | None = None,
    noise: ContextNoise | None = None,
) -> NextSegment:
    """Conditions and clocks of the segment after a state.

    frames: how many the segment generates, 8k+1. fps, size (width, height), model: of the segment; where given they
    must agree with the state. seed: of the whole chain, the segment gets seed + its index; None continues from the
    state's seed. video_overlap, audio_overlap (video frames), strength: other than the state's; ``audio_overlap=0``
    carries no sound.
    audio_latents: the length of the segment's audio latent where the host has made it already.
    Raises ContinuationError naming both values when state and segment do not fit together.
    """
    notes: list[str] = []
    pictures = _usable_frames(state, notes)
    latents = _usable_latents(state, notes)
    producer = read_provenance(state.metadata, state.segment_index)
    if producer is None:
        fps = parse_fps(24 if fps is None else fps)
    else:
        own = producer.timing.fps
        fps = own if fps is None else parse_fps(fps)
        if fps != own:
            raise ContinuationError(
                f"the state comes from a segment at {own} fps, the next one is at {fps}: use the same rate"
            )
        if model and producer.model and model != producer.model:
            raise ContinuationError(
                f"the state comes from the model {producer.model!r}, the next segment uses {model!r}: use the same one"
            )
    if size is not None and pictures is not None and (pictures.shape[2], pictures.shape[1]) != tuple(size):
        have = f"{pictures.shape[2]}x{pictures.shape[1]}"
        raise ContinuationError(
            f"the state's frames are {have} px, the next segment is {size[0]}x{size[1]}: use the same size"
        )

    if audio_overlap == 0:
        latents = None
    if producer is None:
        timing, pictures, latents = _foreign(state, pictures, latents, frames, fps, audio_rule, audio_latents, notes)
    else:
        timing, pictures, latents = _own(
            state, producer, pictures, latents, frames, video_overlap, audio_overlap, audio_rule, audio_latents, notes
        )
    if seed is not None:
        own_seed = seed + timing.index
    else:
        own_seed = producer.seed + 1 if producer is not None and producer.seed is not None else None
    mask, note = audio_mask(state)
    if note and latents is not None:
        notes.append(note)
    if noise is not None:
        pictures, latents = _with_noise(pictures, latents, noise, own_seed or 0)
    if state.video_conditioning_frame_idx and pictures is not None:
        notes.append(
            f"the frames go to latent frame {state.video_conditioning_frame_idx}; the join takes them to start the "
            "segment"
        )
    for note in notes:
        warnings.warn(note, Ltx2Warning, stacklevel=2)
    place = latent_frame_span(state.video_conditioning_frame_idx)[0]
    keep = state.video_conditioning_strength if strength is None else strength
    return NextSegment(
        index=timing.index,
        timing=timing,
        clip=None if pictures is None else ClipCondition(frames=pictures, frame=place, strength=float(keep)),
        audio=None if latents is None else AudioCondition(latent=latents, mask=mask),
        video_offset_seconds=timing.video_offset_seconds,
        audio_latents=timing.audio_latents,
        seed=own_seed,
        notes=tuple(notes),
    )


def _own(
    state,
    producer: Provenance,
    pictures,
    latents,
    frames,
    video_overlap,
    audio_overlap,
    audio_rule,
    audio_latents,
    notes,
):
    """Plan and tensors from a state that carries its clocks."""
    have = 0 if pictures is None else len(pictures)
    overlap = have if video_overlap is None else video_overlap
    if overlap > have:
        raise ContinuationError(
            f"the state carries {have} frames, a video overlap of {overlap} is wanted: use {have} or fewer"
        )
    previous = producer.timing
    sound = (
        (state.audio_conditioning_num_frames if audio_overlap is None else audio_overlap) if latents is not None else 0
    )
    earliest = 0
    if latents is not None:
        earliest = previous.audio_latents - latents.shape[2]
        if earliest < 0:
            raise ContinuationError(
                f"the state carries {latents.shape[2]} audio latents of a segment that had "
                f"{previous.audio_latents}: it is damaged"
            )
    timing = next_segment(
        previous,
        frames,
        video_overlap=overlap,
        audio_overlap=sound,
        audio_rule=audio_rule,
        audio_latents=audio_latents,
        earliest_latent=earliest,
    )
    same = overlap == producer.video_overlap and audio_overlap in (None, state.audio_conditioning_num_frames)
    if (
        sound
        and same
        and abs(timing.video_offset_seconds - exact_seconds(state.video_position_offset_sec)) > Fraction(1, 1000)
    ):
        timing = _shifted_as_stated(state, previous, timing, earliest, audio_rule, audio_latents, notes)
    elif sound and timing.audio_shift == earliest and not same:
        wanted = seconds_of_frames(max(0, sound - overlap), timing.fps)
        if wanted - timing.video_offset_seconds > Fraction(1, AUDIO_LATENTS_PER_SECOND):
            notes.append(
                f"the state carries only {latents.shape[2]} audio latents for an overlap of {sound} frames; all "
                "were used"
            )
    if not timing.audio_overlap_latents:
        return timing, _last(pictures, overlap), None
    first = timing.audio_shift - earliest
    return timing, _last(pictures, overlap), latents[:, :, first : first + timing.audio_overlap_latents]


def _shifted_as_stated(
    state, previous: SegmentTiming, timing: SegmentTiming, earliest: int, audio_rule, audio_latents, notes
) -> SegmentTiming:
    """The plan with the offset that the state states, as long as that lies on the grid of audio latents."""
    stated = exact_seconds(state.video_position_offset_sec)
    shift = timing.audio_shift + round_half_up((timing.video_offset_seconds - stated) * AUDIO_LATENTS_PER_SECOND)
    moved = timing.video_offset_seconds - Fraction(shift - timing.audio_shift, AUDIO_LATENTS_PER_SECOND)
    if abs(moved - stated) > Fraction(1, 1000) or moved < 0 or not earliest <= shift < previous.audio_latents:
        given = state.video_position_offset_sec
        notes.append(
            f"video_position_offset_sec {given:g} does not fit the state's clocks; "
            f"{float(timing.video_offset_seconds):g} was used"
        )
        return timing
    return next_segment(
        previous,
        timing.frames,
        video_overlap=timing.video_overlap,
        audio_overlap=round_half_up(timing.video_overlap + moved * timing.fps),
        audio_rule=audio_rule,
        audio_latents=audio_latents,
        earliest_latent=shift,
    )


def _foreign(state, pictures, latents, frames, fps, audio_rule, audio_latents, notes):
    """Plan and tensors from a state of another program, by its conventions."""
    overlap = 0 if pictures is None else len(pictures)
    offset = exact_seconds(state.video_position_offset_sec)
    known = 0
    if latents is not None:
        seconds = seconds_of_frames(state.audio_conditioning_num_frames, fps)
        known = min(latents.shape[2], max(1, round(seconds * AUDIO_LATENTS_PER_SECOND)))
        latents = latents[:, :, latents.shape[2] - known :]
    else:
        offset = Fraction(0)
    count = (
        audio_latents
        if audio_latents is not None
        else audio_latents_for(offset + seconds_of_frames(frames, fps), audio_rule)
    )
    if known >= count or overlap >= frames:
        raise ContinuationError(
            f"the state repeats {overlap} frames and {known} audio latents, the next segment has {frames} and "
            f"{count}: make it longer"
        )
    notes.append(
        "the state does not say how its clocks ran; picture and sound may be off by some milliseconds at the join"
    )
    timing = SegmentTiming(
        index=state.segment_index + 1,
        frames=frames,
        fps=fps,
        audio_latents=count,
        video_offset_seconds=offset,
        audio_overlap_latents=known,
        video_overlap=overlap,
    )
    return timing, pictures, latents


def _usable_frames(state: LTX2ContinuationState, notes: list[str]) -> np.ndarray | None:
    """The state's frames as one array [V, H, W, 3] with V = 8k+1, or None."""
    if not state.video_frames:
        if state.video_frames_blob_id is not None:
            raise ContinuationError(
                f"the state's frames are in the blob {state.video_frames_blob_id!r}: read it with its blob store"
            )
        return None
    sizes = {frame.shape for frame in state.video_frames}
    if len(sizes) > 1:
        raise ContinuationError(
            f"the state's frames have different sizes, {sorted(sizes)[:3]}: a segment starts from frames of one size"
        )
    have = len(state.video_frames)
    usable = snap_frames(have, "down")
    if usable != have:
        notes.append(f"the state carries {have} frames; the last {usable} were used, because a clip has 8k+1")
    return np.stack(state.video_frames[have - usable :])


def _usable_latents(state: LTX2ContinuationState, notes: list[str]) -> torch.Tensor | None:
    if state.audio_conditioning_num_frames == 0:
        return None
    if state.audio_latents is None:
        if state.audio_latents_blob_id is not None:
            raise ContinuationError(
                f"the state's sound is in the blob {state.audio_latents_blob_id!r}: read it with its blob store"
            )
        notes.append(
            "the state asks for a sound overlap but carries no latents; the next segment starts its sound anew"
        )
        return None
    _check_latents(state.audio_latents)
    return state.audio_latents


def _check_latents(latents: torch.Tensor) -> None:
    if (
        latents.ndim != 4
        or latents.shape[1] != AUDIO_CHANNELS
        or latents.shape[3] != AUDIO_BINS
        or latents.shape[2] < 1
    ):
        raise ContinuationError(
            f"audio latents are {list(latents.shape)}, LTX-2 makes [B, {AUDIO_CHANNELS}, T, {AUDIO_BINS}]"
        )


def _last(pictures: np.ndarray | None, count: int) -> np.ndarray | None:
    return None if pictures is None or not count else pictures[len(pictures) - count :]


def _with_noise(pictures, latents, noise: ContextNoise, seed: int):
    """Seeded noise on both; zero leaves the very same arrays."""
    generator = torch.Generator("cpu").manual_seed(seed % 2**63)
    if pictures is not None and noise.video > 0:
        sample = torch.randn(pictures.shape, generator=generator).numpy()
        pictures = np.clip(np.rint(pictures + sample * (noise.video * 255)), 0, 255).astype(np.uint8)
    if latents is not None and noise.audio > 0:
        sample = torch.randn(latents.shape, generator=generator)
        latents = (latents.float() + sample * noise.audio).to(latents.dtype)
    return pictures, latents
