"""Segments joined into one film: frames trimmed, sound crossfaded on one sample grid, nothing lost and nothing twice.

Works as a stream: of the segment before, only its sound's tail and one small picture are kept. Sound at another rate or
with other channels, and frames of another size, are brought to those of the film, which its first segment sets.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..clock import samples_of_seconds
from ..errors import ContinuationError, Ltx2Warning
from ..media import VideoWriter, prepare_clip, uint8_frames
from ..values import Waveform
from .audio_format import AudioFormat, in_format
from .drift import DriftCorrection, DriftCorrector
from .seam_metrics import FrameMeter, SeamReport, SoundMeter
from .timeline import (
    BUTT_FADE_SECONDS,
    CROSSFADE_SECONDS,
    GUARD_SECONDS,
    SegmentTiming,
    SoundJoin,
    sound_join,
)

# Sound ends up to so much after the picture by the lengths of latents and of codecs' blocks alone.
_SLACK_SECONDS = Fraction(1, 25)


@dataclass(frozen=True)
class FinishedSegment:
    """A segment ready to be joined.

    timing: as it was carried out. frames: all its frames in chunks (see media.uint8_frames); a drift correction goes
    over them twice, so then a list or another collection that can be iterated again. sound: its whole decoded waveform,
    or None where it has none: the film is silent there.
    """

    timing: SegmentTiming
    frames: Iterable
    sound: Waveform | None


def write_film(
    path: str | Path,
    segments: Iterable[FinishedSegment],
    audio: AudioFormat | None,
    *,
    crf: float = 18,
    drift_correction: DriftCorrection | None = None,
    report: Callable[[SeamReport], None] | None = None,
    note: Callable[[str], None] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Path:
    """Write the film of consecutive segments as one MP4, which appears whole or not at all. Returns its path.

    audio: of the film (``audio_format.file_format`` of the segments' sounds), None for a silent one. crf: H.264
    quality; metadata: tags; drift_correction, report, note: see :func:`join_segments`. Raises MediaError and
    ContinuationError.
    """
    segments = iter(segments)
    first = next(segments, None)
    if first is None:
        raise ContinuationError(f"there are no segments to write to {path}")
    joined = join_segments(
        itertools.chain([first], segments), audio=audio, drift_correction=drift_correction, report=report, note=note
    )
    with film_writer(path, first.timing.fps, audio, crf=crf, metadata=metadata) as writer:
        write_pieces(writer, joined)
    return Path(path)


def film_writer(path: str | Path, fps: Fraction, audio: AudioFormat | None, **options: Any) -> VideoWriter:
    """The writer of a film with sound of this format; options: further ones of VideoWriter."""
    rate, channels = (None, 2) if audio is None else (audio.sample_rate, audio.channels)
    return VideoWriter(path, fps=fps, sample_rate=rate, channels=channels, **options)


def write_pieces(writer: VideoWriter, pieces: Iterable[np.ndarray | Waveform]) -> None:
    """Write what :func:`join_segments` gives; its sound only where the film has any."""
    for piece in pieces:
        if not isinstance(piece, Waveform):
            writer.write_frames(piece)
        elif writer.sample_rate is not None:
            writer.write_sound(piece)


def join_segments(
    segments: Iterable[FinishedSegment],
    *,
    audio: AudioFormat | None = None,
    drift_correction: DriftCorrection | None = None,
    report: Callable[[SeamReport], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Iterator[np.ndarray | Waveform]:
    """The film of consecutive segments, as pieces in order: frames uint8 [n, H, W, 3], and sound.

    A segment with nothing before it begins a new scene where the last one ends. The film starts with the first new
    frame of the first segment given, and its sound has exactly round(frames / fps · rate) samples; a film of silent
    segments has none.
    audio: rate and channels of the sound, those of the first segment that has any unless given. report: called for each
    seam once the segment after it is through. note: is given what was adjusted, a warning (Ltx2Warning) unless given.
    drift_correction: none by default. Raises ContinuationError when segments do not follow each other.
    """
    note = _warn if note is None else note
    track, frame_meter, before = _SoundTrack(audio, note), FrameMeter(), None
    corrector = DriftCorrector(drift_correction) if drift_correction is not None else None
    pictures = _Pictures(note)
    for segment in _on_one_clock(segments, note):
        timing = segment.timing
        if before is not None:
            check_neighbours(before.timing, timing)
        corrections = corrector.next(segment) if corrector is not None else None
        yield from track.join(timing, segment.sound, corrections)
        frame_meter.begin()
        for chunk in pictures.of(segment):
            if corrections is not None:
                chunk = corrections.pictures(chunk)
            frame_meter.add(chunk)
            yield chunk
        if before is not None and report is not None:
            report(frame_meter.seam(timing, track.meter))
        before = segment
    yield from track.finish()


def new_sound(timing: SegmentTiming, sound: Waveform) -> Waveform:
    """The sound of the frames that one segment adds to the film, with exactly as many samples as they are long."""
    track = _SoundTrack(None, lambda text: None)
    pieces = [*track.join(timing, sound, None), *track.finish()]
    return Waveform(torch.cat([piece.samples for piece in pieces], dim=1), sound.sample_rate)


def sound_of_segments(segments: Iterable[tuple[SegmentTiming, Waveform]]) -> Iterator[Waveform]:
    """Pieces of the one sound that consecutive segments make, from the first new frame of the first one on, as long as
    their new frames are together. Raises ContinuationError when segments do not follow each other."""
    track, before = _SoundTrack(None, _warn), None
    for timing, sound in segments:
        if before is not None:
            check_neighbours(before, timing)
        yield from track.join(timing, sound, None)
        before = timing
    yield from track.finish()


def _warn(text: str) -> None:
    warnings.warn(text, Ltx2Warning, stacklevel=3)


class _Pictures:
    """The frames that the film shows, all of one size."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._size: tuple[int, int] | None = None

    def of(self, segment: FinishedSegment) -> Iterator[np.ndarray]:
        """Without the repeated ones at the head and the left-out ones at the end."""
        timing, at = segment.timing, 0
        end, noted = timing.frames - timing.end_offset, False
        for chunk in segment.frames:
            frames = uint8_frames(chunk)
            first, last = max(timing.video_overlap - at, 0), end - at
            at += len(frames)
            if first >= min(last, len(frames)):
                continue
            frames = frames[first:last]
            height, width = frames.shape[1:3]
            self._size = self._size or (height, width)
            if (height, width) != self._size:
                if not noted:
                    self._note(
                        f"segment {timing.index + 1} is {width}x{height} px, it was brought to the film's "
                        f"{self._size[1]}x{self._size[0]}"
                    )
                noted, frames = True, uint8_frames(prepare_clip(frames, *self._size))
            yield frames
        if at != timing.frames:
            raise ContinuationError(f"segment {timing.index + 1} gave {at} frames, its timing says {timing.frames}")


def _on_one_clock(segments: Iterable[FinishedSegment], note: Callable[[str], None]) -> Iterator[FinishedSegment]:
    """Segments on the clock of the first. One with nothing before it begins a scene where the last one ends, and what
    goes on from it moves with it; everything else stays where it is."""
    last: SegmentTiming | None = None
    own: SegmentTiming | None = None  # of the last segment, as it came
    for segment in segments:
        timing = segment.timing
        if last is None or own is None:
            placed = timing
        elif begins_anew(timing):
            note(f"segment {last.index + 2} goes on from nothing: it begins with a cut")
            placed = replace(timing, index=last.index + 1, start=last.picture_end, first_frame=last.total_frames)
        else:
            start = timing.start + last.start - own.start
            index, first = (
                timing.index + last.index - own.index,
                timing.first_frame + last.first_frame - own.first_frame,
            )
            placed = replace(timing, index=index, start=start, first_frame=first)
        last, own = placed, timing
        yield replace(segment, timing=placed)


def begins_anew(timing: SegmentTiming) -> bool:
    """Whether a segment has nothing before it."""
    return not (timing.index or timing.start or timing.first_frame or timing.video_overlap)


def check_neighbours(last: SegmentTiming, timing: SegmentTiming, before: str = "the one before it") -> None:
    """Raises ContinuationError for a segment that does not go on where the last one ends. before: what messages call
    that."""
    if timing.fps != last.fps:
        raise ContinuationError(
            f"segment {timing.index + 1} has {float(timing.fps):g} frames per second, {before} {float(last.fps):g}: "
            "make both at one rate"
        )
    if timing.picture_start != last.picture_end:
        raise ContinuationError(
            f"segment {timing.index + 1} begins at {float(timing.picture_start):.3f} s, {before} ends at "
            f"{float(last.picture_end):.3f} s: put together what goes on from each other, in that order"
        )


class _SoundTrack:
    """The continuous sound of a film while it is made: what has been given out, and the rest of the last segment.

    Until a segment with sound comes there is nothing to give out, and the silence before it is made up for then.
    """

    def __init__(self, audio: AudioFormat | None, note: Callable[[str], None]) -> None:
        self._start = self._at = 0  # samples of the film: where the track begins, and how far it was given out
        self.meter: SoundMeter | None = None
        self._format, self._note = audio, note
        self._silent: list[SegmentTiming] = []  # segments before the first sound
        self._timing: SegmentTiming | None = None  # of the last segment
        self._heard = False  # whether it has sound
        self._frames = 0

    def join(self, timing: SegmentTiming, sound: Waveform | None, corrections) -> Iterator[Waveform]:
        """Give out the sound up to and with the join to the next segment, and what is certain of that segment's."""
        self.meter = None
        if sound is None and self._timing is None:
            self._silent.append(timing)
            return
        if self._timing is None:
            self._format = self._format or AudioFormat.of(sound)
            for index, silent in enumerate(self._silent):
                if not index:
                    self._begin(silent, None)
                else:
                    yield from self._next(silent, None, None)
        if sound is None:
            self._note(f"segment {timing.index + 1} has no sound: silence is heard there")
        else:
            sound = in_format(sound, self._format, f"segment {timing.index + 1}", self._note)
        if self._timing is None:
            self._begin(timing, sound)
        else:
            yield from self._next(timing, sound, corrections)
        yield from self._certain()

    def _certain(self) -> Iterator[Waveform]:
        """Give out the sound that no join to a next segment can change, so that a file gets it beside its pictures."""
        if not self._heard:
            return
        real_end = Fraction(self._offset + self._samples.shape[1], self.rate)
        end = min(self._timing.picture_end, real_end)
        if self._timing.audio_latents:
            end = min(end, self._timing.sound_end)
        # a crossfade begins so long before the end at most, and a cut fades for less
        until = samples_of_seconds(end - GUARD_SECONDS - CROSSFADE_SECONDS, self.rate)
        if until > self._at:
            yield self._piece(self._window(self._at, until))
            self._at = until

    def finish(self) -> Iterator[Waveform]:
        """Give out the rest, cut or filled up to the length of the picture."""
        if self._timing is None:
            return
        end = self._start + samples_of_seconds(Fraction(self._frames) / self._timing.fps, self.rate)
        over = Fraction(self._offset + self._samples.shape[1] - end, self.rate)
        if over > _SLACK_SECONDS:
            self._note(f"{float(over):.2f} s of sound after the last frame are left out")
        if end > self._at:
            yield self._piece(self._window(self._at, end))

    @property
    def rate(self) -> int:
        return self._format.sample_rate

    def _begin(self, timing: SegmentTiming, sound: Waveform | None) -> None:
        self._start = self._at = samples_of_seconds(timing.picture_start, self.rate)
        self._take(timing, sound)

    def _next(self, timing: SegmentTiming, sound: Waveform | None, corrections) -> Iterator[Waveform]:
        join = self._join(timing, sound)
        first = max(samples_of_seconds(join.fade_start, self.rate), self._at)
        last = max(samples_of_seconds(join.fade_end, self.rate), first)
        offset = samples_of_seconds(timing.start, self.rate)
        samples = self._samples.new_zeros(self._format.channels, 0) if sound is None else sound.samples.float()
        if corrections is not None and sound is not None:
            samples = corrections.sound(samples, last - offset, self.rate)
        if self._heard and sound is not None:
            shared = join.crossfades
            self.meter = SoundMeter(self._samples, self._offset, samples, offset, first, last, self.rate, shared)
        if last > first:
            rise = (torch.arange(last - first, dtype=torch.float32, device=samples.device) + 0.5) / (last - first)
            before, after = self._window(first, last), _window(samples, first - offset, last - offset)
            yield self._piece(self._window(self._at, first))
            yield self._piece(before * (1 - rise) + after * rise)
        else:
            heard = min(first, max(self._at, self._offset + self._samples.shape[1]))
            goes_on = heard == first and self._same_before(first, samples, offset)
            before = self._window(self._at, heard)
            yield self._piece(before if goes_on else _faded(before, self.rate, out=True))
            if first > heard:
                yield self._piece(self._window(heard, first))
            samples = _window(samples, last - offset, samples.shape[1])
            samples, offset = samples if goes_on else _faded(samples, self.rate, out=False), last
        self._at = last
        self._take(timing, None if sound is None else Waveform(samples, self.rate), offset)

    def _same_before(self, place: int, samples: torch.Tensor, offset: int) -> bool:
        """Whether the next segment's sound is the last one's up to a place, as where both are of one track: it goes on
        without a fade."""
        first = place - samples_of_seconds(BUTT_FADE_SECONDS, self.rate)
        if first < max(offset, self._offset):
            return False
        return torch.equal(self._window(first, place), _window(samples, first - offset, place - offset))

    def _join(self, timing: SegmentTiming, sound: Waveform | None) -> SoundJoin:
        """Where the sound of the last segment gives way; what has none gives way at the seam of the picture."""
        if sound is None or not self._heard:
            return SoundJoin(self._timing.picture_end, self._timing.picture_end)
        end = Fraction(self._offset + self._samples.shape[1], self.rate)
        if self._timing.audio_latents:
            end = min(self._timing.sound_end, end)
        return sound_join(self._timing, timing, end)

    def _take(self, timing: SegmentTiming, sound: Waveform | None, offset: int | None = None) -> None:
        self._timing, self._heard = timing, sound is not None
        self._samples = torch.zeros(self._format.channels, 0) if sound is None else sound.samples.float()
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
