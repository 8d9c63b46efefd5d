"""A long sound in windows that overlap: where each of them lies on the film's clock, and their sounds as one track."""

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from ..clock import round_half_up, samples_of_seconds, snap_frames
from ..errors import RequestError
from ..values import Waveform
from .join import sound_of_segments
from .timeline import Overlap, SegmentTiming, first_segment, next_segment

WINDOW_SECONDS = 13  # longer ones drift: the models were trained up to 20 s
OVERLAP_SECONDS = 2  # of the sound before that the next window hears
PICTURE_OVERLAP_FRAMES = 9


def sound_overlap(fps: Fraction, *, picture: bool) -> Overlap:
    """How much of a window the next one repeats."""
    return Overlap(PICTURE_OVERLAP_FRAMES if picture else 0, round_half_up(OVERLAP_SECONDS * fps))


def sound_windows(
    frames: int, fps: Fraction, *, picture: bool, first: Callable[[int], SegmentTiming] | None = None
) -> tuple[SegmentTiming, ...]:
    """Windows of about equal length, at most 13 s, that cover so many frames together; the last one may reach further,
    by less than eight frames each.

    picture: whether the windows see one, and then repeat some of it. first: gives the timing of a first window of so
    many frames where something is known before it. Raises RequestError for no frames.
    """
    if frames < 1:
        raise RequestError(f"a sound of {frames} frames was asked for, expected 1 or more")
    overlap = sound_overlap(fps, picture=picture)
    most = snap_frames(int(WINDOW_SECONDS * fps), "down")
    repeated = overlap.video_frames
    count = 1 if frames <= most else math.ceil(Fraction(frames - repeated, most - repeated))
    each = snap_frames(math.ceil(Fraction(frames - repeated, count)) + repeated, "up")
    found: list[SegmentTiming] = []
    left = frames
    while left > 0:
        size = min(each, snap_frames(left + (repeated if found else 0), "up"))
        # a window must have something that is new in it
        size = max(size, repeated + 8 if found else 1)
        size = snap_frames(size, "up")
        if found:
            timing = next_segment(found[-1], size, video_overlap=repeated, audio_overlap=overlap.audio_frames)
        else:
            timing = first_segment(size, fps) if first is None else first(size)
        left -= timing.new_frames
        found.append(timing)
    return tuple(found)


def one_track(windows: Iterable[tuple[SegmentTiming, Waveform]], seconds: Fraction) -> Iterator[Waveform]:
    """Pieces of the one sound that windows make, cut where it has that length."""
    given = 0
    for piece in sound_of_segments(windows):
        end = samples_of_seconds(seconds, piece.sample_rate)
        samples = piece.samples[:, : max(0, end - given)]
        given += samples.shape[1]
        if samples.shape[1]:
            yield Waveform(samples, piece.sample_rate)
