"""The timeline: where each segment lies on the film's clock, and how much of the one before it repeats.

A segment's picture frame i stands at ``offset + i / fps`` of its own clock, its audio latent k at about ``k / 25``; the
clock itself starts at ``start`` on the film. The next segment's clock is shifted by a whole number of audio latents,
and the rest of the shift goes into its picture offset. So picture and sound move by exactly the same time at every
join, and nothing adds up. All times are fractions.
"""

import math
import warnings
from dataclasses import dataclass, replace
from fractions import Fraction

from ..clock import (
    AUDIO_LATENTS_PER_SECOND,
    WINDOW_SECONDS,
    audio_latents_for,
    beyond_window,
    decoded_audio_seconds,
    is_valid_frame_count,
    round_half_up,
    samples_of_frames,
    seconds_of_frames,
    snap_frames,
)
from ..errors import Ltx2Warning, RequestError

# What the published long-video application uses: 9 frames of picture, 49 frames' worth of sound.
VIDEO_OVERLAP_FRAMES = 9
AUDIO_OVERLAP_FRAMES = 49
AUDIO_RULE = "ceil"


@dataclass(frozen=True)
class Overlap:
    """How much of a segment the next one repeats, in video frames.

    video_frames: 8k+1, or 0 for a hard cut. audio_frames: of sound; fewer than ``video_frames`` count as that many, 0
    repeats none.
    """

    video_frames: int = VIDEO_OVERLAP_FRAMES
    audio_frames: int = AUDIO_OVERLAP_FRAMES


@dataclass(frozen=True)
class SegmentTiming:
    """One segment on the film's clock.

    index: number of the segment from 0; frames: pictures it generates; fps: exact.
    video_offset_seconds: seconds added to its picture times; start: where its clock starts on the film, in seconds.
    audio_latents: of the whole segment; audio_overlap_latents: how many of the first are known from the segment before
    (0: none);
    audio_shift: the latent of the segment before that its latent 0 repeats.
    video_overlap: how many of its first frames repeat the segment before; the film leaves them out.
    end_offset: how many of its last frames the film leaves out, because the next segment starts before them.
    first_frame: number in the film of the first frame it adds.
    """

    index: int
    frames: int
    fps: Fraction
    audio_latents: int
    video_offset_seconds: Fraction = Fraction(0)
    start: Fraction = Fraction(0)
    audio_overlap_latents: int = 0
    audio_shift: int = 0
    video_overlap: int = 0
    end_offset: int = 0
    first_frame: int = 0

    @property
    def new_frames(self) -> int:
        """Frames this segment adds to the film."""
        return self.frames - self.end_offset - self.video_overlap

    @property
    def total_frames(self) -> int:
        """Frames of the film up to and with this segment."""
        return self.first_frame + self.new_frames

    @property
    def picture_start(self) -> Fraction:
        """When on the film its first new frame shows."""
        return self.start + self.video_offset_seconds + seconds_of_frames(self.video_overlap, self.fps)

    @property
    def picture_end(self) -> Fraction:
        """When on the film its last used frame ends."""
        return self.start + self.video_offset_seconds + seconds_of_frames(self.frames - self.end_offset, self.fps)

    @property
    def sound_end(self) -> Fraction:
        """When on the film its decoded sound ends."""
        return self.start + decoded_audio_seconds(self.audio_latents)

    @property
    def seconds(self) -> Fraction:
        """Length on its own clock, offset included: what the model's positions span."""
        return self.video_offset_seconds + seconds_of_frames(self.frames, self.fps)

    def doubled(self, rounds: int) -> "SegmentTiming":
        """The same segment at twice the frame rate, so many times over: pictures between its own, none after the last.

        Where a segment goes on from another one that was doubled as often, both still meet.
        """
        more = (1 << rounds) - 1  # frames between two

        def count(frames: int) -> int:
            return (frames << rounds) - more if frames else 0

        return replace(
            self,
            frames=count(self.frames),
            fps=self.fps * (1 << rounds),
            video_overlap=count(self.video_overlap),
            end_offset=self.end_offset << rounds,
            first_frame=count(self.first_frame),
        )

    def total_samples(self, sample_rate: int) -> int:
        """Samples per channel of the film up to and with this segment."""
        return samples_of_frames(self.total_frames, self.fps, sample_rate)

    def __str__(self) -> str:
        return (
            f"segment {self.index + 1}: {self.frames} frames from {float(self.picture_start):.2f} s, "
            f"{self.video_overlap} of them repeated, "
            f"picture offset {float(self.video_offset_seconds):.3f} s, {self.audio_latents} audio latents, "
            f"{self.audio_overlap_latents} known"
        )


def first_segment(
    frames: int, fps: Fraction, *, audio_rule: str = AUDIO_RULE, audio_latents: int | None = None, end_offset: int = 0
) -> SegmentTiming:
    """The timing of a segment with nothing before it; ``audio_latents``: its real count where the latent exists
    already."""
    _check_frames(frames, end_offset)
    count = audio_latents_for(seconds_of_frames(frames, fps), audio_rule) if audio_latents is None else audio_latents
    return SegmentTiming(index=0, frames=frames, fps=fps, audio_latents=count, end_offset=end_offset)


def found_segment(frames: int, fps: Fraction, *, audio_latents: int = 0) -> SegmentTiming:
    """The timing of frames that no model made here: any number of them, as long as they like. audio_latents: of their
    sound where it was encoded. Raises RequestError when there are none."""
    if frames < 1:
        raise RequestError("there are no frames to go on from: connect at least one")
    return SegmentTiming(index=0, frames=frames, fps=fps, audio_latents=audio_latents)


def check_overlap(video_overlap: int) -> None:
    """Raises RequestError for a number of repeated frames that is neither 8k+1 nor 0, a hard cut."""
    if video_overlap and not is_valid_frame_count(video_overlap):
        below = snap_frames(max(video_overlap, 1), "down")
        raise RequestError(f"video overlap is {video_overlap} frames, expected 8k+1: use {below} or {below + 8}")


def check_carried(timing: SegmentTiming, overlap: Overlap) -> None:
    """Raises RequestError for a segment that could not leave a state with so much of itself; asked before it is
    made."""
    check_overlap(overlap.video_frames)
    used = timing.frames - timing.end_offset
    if overlap.video_frames > used:
        raise RequestError(
            f"video overlap is {overlap.video_frames} frames but the segment has {used}: make it longer or the overlap "
            "smaller"
        )
    if overlap.audio_frames < 0:
        raise RequestError(f"audio overlap is {overlap.audio_frames} frames, expected 0 (none) or more")


def overlap_within(timing: SegmentTiming, overlap: Overlap) -> tuple[Overlap, tuple[str, ...]]:
    """As much of an overlap as a finished segment can leave, and what was adjusted: what took minutes to make is not
    refused for it."""
    most = timing.frames - timing.end_offset
    video = snap_frames(max(1, min(overlap.video_frames, most)), "down") if overlap.video_frames else 0
    if video == overlap.video_frames:
        return overlap, ()
    note = f"video overlap {overlap.video_frames} became {video}: a segment of {most} frames carries 8k+1 of them"
    return replace(overlap, video_frames=video), (note,)


def next_segment(
    previous: SegmentTiming,
    frames: int,
    *,
    video_overlap: int = VIDEO_OVERLAP_FRAMES,
    audio_overlap: int = AUDIO_OVERLAP_FRAMES,
    audio_rule: str = AUDIO_RULE,
    audio_latents: int | None = None,
    earliest_latent: int = 0,
    end_offset: int = 0,
) -> SegmentTiming:
    """The timing of the segment after ``previous``.

    video_overlap: frames to repeat, 8k+1, or 0 for a hard cut. audio_overlap: sound to repeat, in video frames; less
    than ``video_overlap`` counts as that much, 0 repeats none. audio_latents: the segment's real count where its latent
    exists already.
    earliest_latent: the first latent of ``previous`` that is still at hand.
    Raises RequestError when the overlap does not fit either segment.
    """
    _check_frames(frames, end_offset)
    fps, used = previous.fps, previous.frames - previous.end_offset
    check_overlap(video_overlap)
    for name, count in (("segment before", used), ("next segment", frames - end_offset)):
        if video_overlap >= count:
            raise RequestError(
                f"video overlap is {video_overlap} frames but the {name} has {count}: make it longer or the overlap "
                "smaller"
            )
    shift, offset, start = clock_shift(previous, video_overlap, audio_overlap, earliest_latent)
    shared = _shared_latents(previous, shift, offset, video_overlap) if audio_overlap > 0 else 0
    count = (
        audio_latents_for(offset + seconds_of_frames(frames, fps), audio_rule)
        if audio_latents is None
        else audio_latents
    )
    if shared and shared >= count:
        raise RequestError(
            f"{shared} of {count} audio latents would be those of the segment before: make it longer or the sound "
            "overlap smaller"
        )
    return SegmentTiming(
        index=previous.index + 1,
        frames=frames,
        fps=fps,
        audio_latents=count,
        video_offset_seconds=offset,
        start=start,
        audio_overlap_latents=shared,
        audio_shift=shift,
        video_overlap=video_overlap,
        end_offset=end_offset,
        first_frame=previous.total_frames,
    )


def _shared_latents(previous: SegmentTiming, shift: int, offset: Fraction, video_overlap: int) -> int:
    """How many audio latents of ``previous`` the next segment starts from, given its shift and picture offset."""
    shared = previous.audio_latents - shift
    if previous.end_offset:
        end = offset + seconds_of_frames(video_overlap, previous.fps)
        shared = min(shared, math.floor(AUDIO_LATENTS_PER_SECOND * end + Fraction(3, 4)))
    if shared < 1:
        have = previous.audio_latents
        raise RequestError(
            f"the segment before has {have} audio latents, too few for an overlap that starts at latent {shift}"
        )
    return shared


def clock_shift(
    previous: SegmentTiming, video_overlap: int, audio_overlap: int, earliest_latent: int = 0
) -> tuple[int, Fraction, Fraction]:
    """First repeated latent of ``previous``, and the next segment's offset and start; see :func:`next_segment`."""
    used = previous.frames - previous.end_offset
    advance = previous.video_offset_seconds + seconds_of_frames(used - video_overlap, previous.fps)
    if audio_overlap <= 0:
        # no sound is carried: both clocks start with the repeated frames
        return 0, Fraction(0), previous.start + advance
    wanted = seconds_of_frames(max(0, audio_overlap - video_overlap), previous.fps)
    shift = max(0, round_half_up(AUDIO_LATENTS_PER_SECOND * (advance - wanted)), earliest_latent)
    if Fraction(shift, AUDIO_LATENTS_PER_SECOND) > advance:
        shift = math.floor(AUDIO_LATENTS_PER_SECOND * advance)
        if shift < earliest_latent:
            have = previous.audio_latents - earliest_latent
            raise RequestError(
                f"only {have} audio latents are at hand, too few for a video overlap of {video_overlap} frames"
            )
    moved = Fraction(shift, AUDIO_LATENTS_PER_SECOND)
    return shift, advance - moved, previous.start + moved


def cut_segment(
    previous: SegmentTiming, frames: int, *, audio_rule: str = AUDIO_RULE, audio_latents: int | None = None
) -> SegmentTiming:
    """The timing of a segment that follows without repeating anything: a new scene."""
    return next_segment(
        previous, frames, video_overlap=0, audio_overlap=0, audio_rule=audio_rule, audio_latents=audio_latents
    )


def _check_frames(frames: int, end_offset: int) -> None:
    if not is_valid_frame_count(frames):
        below = snap_frames(max(frames, 1), "down")
        raise RequestError(f"a segment has {frames} frames, expected 8k+1: use {below} or {below + 8}")
    if not 0 <= end_offset < frames:
        raise RequestError(f"end offset is {end_offset} frames, expected 0 to {frames - 1}")


def warn_beyond_window(timing: SegmentTiming) -> None:
    """Point out (Ltx2Warning) a segment that the model sees further in than it was trained on; for those who plan one
    without a job, which does so by itself."""
    own = seconds_of_frames(timing.frames, timing.fps)
    end = beyond_window(timing.video_offset_seconds, own, timing.audio_latents)
    if end is not None:
        warnings.warn(
            f"segment {timing.index + 1} reaches {float(end):.2f} s with what it repeats, the models were trained up "
            f"to {WINDOW_SECONDS} s: make it shorter",
            Ltx2Warning,
            stacklevel=2,
        )


# --- the join of two segments' sound ---------------------------------------------------------------------------------

CROSSFADE_SECONDS = Fraction(40, 1000)
GUARD_SECONDS = Fraction(20, 1000)
BUTT_FADE_SECONDS = Fraction(5, 1000)
# Below the first the crossfade shrinks in proportion, below the second there is none.
_FULL_OVERLAP = Fraction(120, 1000)
_LEAST_OVERLAP = Fraction(30, 1000)


@dataclass(frozen=True)
class SoundJoin:
    """Where on the film's clock one segment's sound gives way to the next: a crossfade over [fade_start, fade_end], or,
    where nothing is shared, a cut at ``fade_end`` (equal to ``fade_start``) with short fades on both sides."""

    fade_start: Fraction
    fade_end: Fraction

    @property
    def crossfades(self) -> bool:
        """Whether the sounds overlap at the join."""
        return self.fade_end > self.fade_start


def sound_join(previous: SegmentTiming, following: SegmentTiming, sound_end: Fraction | None = None) -> SoundJoin:
    """The join between two neighbours. The window lies inside what both know, so nothing is lost or heard twice.

    sound_end: where the sound of ``previous`` really ends on the film, if not where its timing says.
    """
    if not following.audio_overlap_latents:
        return SoundJoin(previous.picture_end, previous.picture_end)
    end = min(previous.sound_end if sound_end is None else sound_end, previous.picture_end)
    shared = end - following.start
    if shared < _LEAST_OVERLAP:
        return SoundJoin(end, end)
    scale = min(Fraction(1), shared / _FULL_OVERLAP)
    fade_end = end - GUARD_SECONDS * scale
    return SoundJoin(fade_end - CROSSFADE_SECONDS * scale, fade_end)
