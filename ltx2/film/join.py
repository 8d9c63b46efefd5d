"""Segments joined into one film: frames trimmed, sound crossfaded on one sample grid, nothing lost and nothing twice.

Works as a stream: of the segment before, only its sound's tail and one small picture are kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from ..clock import samples_of_seconds
from ..errors import ContinuationError
from ..media import uint8_frames
from ..values import Waveform
from .drift import DriftCorrection, DriftCorrector
from .seam_metrics import FrameMeter, SeamReport, SoundMeter
from .timeline import BUTT_FADE_SECONDS, SegmentTiming, sound_join


@dataclass(frozen=True)
class FinishedSegment:
    """A segment ready to be joined.

    plan: as it was carried out. frames: all its frames in chunks (see media.uint8_frames); a hold goes over them twice,
    so then a list or another collection that can be iterated again. sound: its whole decoded waveform, or None in a
    silent film.
    """

    timing: SegmentTiming
    frames: Iterable
    sound: Waveform | None


def join_segments(
    segments: Iterable[FinishedSegment],
    *,
    hold: DriftCorrection | None = None,
    report: Callable[[SeamReport], None] | None = None,
) -> Iterator[np.ndarray | Waveform]:
    """The film of consecutive segments, as pieces in order: frames uint8 [n, H, W, 3], and sound.

    The film starts with the first new frame of the first segment given, and its sound has exactly round(frames / fps ·
    rate) samples.
    report: called for each seam once the segment after it is through. hold: corrections against drift, none by default.
    Raises ContinuationError when segments do not follow each other.
    """
    track: _SoundTrack | None = None
    frame_meter, before = FrameMeter(), None
    keeper = DriftCorrector(hold) if hold is not None else None
    for segment in segments:
        timing = segment.timing
        _check_neighbours(before, segment)
        corrections = keeper.next(segment) if keeper is not None else None
        seam = None
        if segment.sound is not None:
            if track is None:
                track = _SoundTrack(timing, segment.sound)
            else:
                yield from track.join(timing, segment.sound, corrections)
                seam = track.meter
        frame_meter.begin()
        for chunk in _trimmed(segment):
            if corrections is not None:
                chunk = corrections.pictures(chunk)
            frame_meter.add(chunk)
            yield chunk
        if before is not None and report is not None:
            report(frame_meter.seam(timing, seam))
        before = segment
    if before is not None and track is not None:
        yield from track.finish()


def new_sound(timing: SegmentTiming, sound: Waveform) -> Waveform:
    """The sound of the frames that one segment adds to the film, with exactly as many samples as they are long."""
    track = _SoundTrack(timing, sound)
    return Waveform(torch.cat([piece.samples for piece in track.finish()], dim=1), sound.sample_rate)


def _trimmed(segment: FinishedSegment) -> Iterator[np.ndarray]:
    """The frames that the film shows: without the repeated ones at the head and the left-out ones at the end."""
    timing, at = segment.timing, 0
    end = timing.frames - timing.end_offset
    for chunk in segment.frames:
        pictures = uint8_frames(chunk)
        first, last = max(timing.video_overlap - at, 0), end - at
        at += len(pictures)
        if first < min(last, len(pictures)):
            yield pictures[first:last]
    if at != timing.frames:
        raise ContinuationError(f"segment {timing.index} gave {at} frames, its plan says {timing.frames}")


def _check_neighbours(before: FinishedSegment | None, segment: FinishedSegment) -> None:
    if before is None:
        return
    last, timing = before.timing, segment.timing
    if timing.fps != last.fps or timing.picture_start != last.picture_end:
        raise ContinuationError(
            f"segment {timing.index} starts at {float(timing.picture_start):.3f} s with {timing.fps} fps, the one "
            "before "
            "ends at "
            f"{float(last.picture_end):.3f} s with {last.fps}: they do not follow each other"
        )
    if (segment.sound is None) != (before.sound is None):
        raise ContinuationError(
            f"segment {timing.index} and the one before differ in having sound: give all of them sound, or none"
        )


class _SoundTrack:
    """The continuous sound of a film while it is made: what has been given out, and the rest of the last segment."""

    def __init__(self, timing: SegmentTiming, sound: Waveform) -> None:
        self.rate, self.channels = sound.sample_rate, sound.samples.shape[0]
        self.meter: SoundMeter | None = None
        self._start = self._at = samples_of_seconds(timing.picture_start, self.rate)
        self._frames = 0
        self._take(timing, sound.samples)

    def join(self, timing: SegmentTiming, sound: Waveform, corrections) -> Iterator[Waveform]:
        """Give out the sound up to and with the join to the next segment."""
        if (sound.sample_rate, sound.samples.shape[0]) != (self.rate, self.channels):
            raise ContinuationError(
                f"segment {timing.index} has {sound.samples.shape[0]} channels at {sound.sample_rate} Hz, "
                f"the film {self.channels} at {self.rate} Hz"
            )
        real_end = Fraction(self._offset + self._samples.shape[1], self.rate)
        join = sound_join(self._timing, timing, min(self._timing.sound_end, real_end))
        first = max(samples_of_seconds(join.fade_start, self.rate), self._at)
        last = max(samples_of_seconds(join.fade_end, self.rate), first)
        samples, offset = sound.samples.float(), samples_of_seconds(timing.start, self.rate)
        if corrections is not None:
            samples = corrections.sound(samples, last - offset, self.rate)
        self.meter = SoundMeter(self._samples, self._offset, samples, offset, first, last, self.rate, join.crossfades)
        if last > first:
            rise = (torch.arange(last - first, dtype=torch.float32, device=samples.device) + 0.5) / (last - first)
            before, after = self._window(first, last), _window(samples, first - offset, last - offset)
            yield self._piece(self._window(self._at, first))
            yield self._piece(before * (1 - rise) + after * rise)
        else:
            heard = min(first, max(self._at, self._offset + self._samples.shape[1]))
            yield self._piece(_faded(self._window(self._at, heard), self.rate, out=True))
            if first > heard:
                yield self._piece(self._window(heard, first))
            samples = _window(samples, last - offset, samples.shape[1])
            samples, offset = _faded(samples, self.rate, out=False), last
        self._at = last
        self._take(timing, samples, offset)

    def finish(self) -> Iterator[Waveform]:
        """Give out the rest, cut or filled up to the length of the picture."""
        end = self._start + samples_of_seconds(Fraction(self._frames) / self._timing.fps, self.rate)
        if end > self._at:
            yield self._piece(self._window(self._at, end))

    def _take(self, timing: SegmentTiming, samples: torch.Tensor, offset: int | None = None) -> None:
        self._timing, self._samples = timing, samples.float()
        self._offset = samples_of_seconds(timing.start, self.rate) if offset is None else offset
        self._frames += timing.new_frames

    def _window(self, first: int, last: int) -> torch.Tensor:
        return _window(self._samples, first - self._offset, last - self._offset)

    def _piece(self, samples: torch.Tensor) -> Waveform:
        return Waveform(samples, self.rate)


def _window(samples: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Samples [C, last − first], with silence where there are none."""
    head, tail = max(-first, 0), max(last - samples.shape[1], 0)
    inside = samples[:, max(first, 0) : max(last, 0)]
    if not head and not tail:
        return inside
    length = max(last - first, 0)
    return torch.nn.functional.pad(inside, (min(head, length), min(tail, length)))[:, :length]


def _faded(samples: torch.Tensor, rate: int, *, out: bool) -> torch.Tensor:
    """A short fade at the end or the start, so that a cut does not click."""
    count = min(samples_of_seconds(BUTT_FADE_SECONDS, rate), samples.shape[1])
    if count == 0:
        return samples
    rise = (torch.arange(count, dtype=torch.float32, device=samples.device) + 0.5) / count
    samples = samples.clone()
    if out:
        samples[:, -count:] *= rise.flip(0)
    else:
        samples[:, :count] *= rise
    return samples
