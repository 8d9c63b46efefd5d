"""When each frame of a film is shown: the times of its packets, and the constant clock that the film is read on."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import MediaError
from .paths import FilePath, shown

FASTEST_CLOCK = 60  # of a film whose rate varies; nothing is lost that a screen would show
_SHORT_INTERVALS = 0.1  # the share of shortest intervals that may be accidents
_DEFAULT, _COVER = 0x1, 0x400  # FFmpeg's flags: what a player takes, and a cover picture
_ROUNDING = 0.0015  # of a rate that was taken from few rounded times
_NEAR = 0.02  # a measured rate this near to a usual one means that one
_USUAL = tuple(
    Fraction(rate)
    for rate in (8, 10, 12, Fraction(25, 2), 15, 16, 20, Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30)
) + (Fraction(48), Fraction(50), Fraction(60000, 1001), Fraction(60))


@dataclass(frozen=True, eq=False)
class FilmClock:
    """The constant clock of a film, and which of its frames is seen when.

    starts: seconds after the first frame at which each frame is shown, in the order shown, float64. end: seconds at
    which the last one is over. fps, frames: of the constant clock. constant: the film itself keeps that clock, so that
    frame i is the i-th one shown. ticks: presentation times in the stream's units, or None where it states none.
    hidden: how many frames are stored and not shown.
    """

    fps: Fraction
    frames: int
    starts: np.ndarray
    end: Fraction
    constant: bool
    ticks: np.ndarray | None
    hidden: int = 0

    def shown_at(self, seconds: float) -> int:
        """Index of the frame that is seen at a time; before the first one and after the last these two."""
        return min(max(int(np.searchsorted(self.starts, seconds, side="right")) - 1, 0), len(self.starts) - 1)

    def source_frame(self, frame: int) -> int:
        """Index, in the order shown, of what the film shows at a frame of the constant clock."""
        if self.constant:
            return frame
        # a quarter of a frame later: times in files are rounded, and devices are late by a little
        return self.shown_at((frame + 0.25) / float(self.fps))

    def note(self, name: str) -> str | None:
        """What to tell of a film that is not read as it is."""
        if self.constant:
            return None
        seen = len({self.source_frame(frame) for frame in range(min(self.frames, 1_000_000))})
        return (
            f"{name} has a variable frame rate: it is read at {float(self.fps):g} frames per second, {seen} of its "
            f"{len(self.starts)} frames in {self.frames}"
        )


def film_clock(container: Any, stream: Any, path: FilePath) -> FilmClock:
    """The clock of a film's picture, from its packets alone; the container stands at its start again. Raises
    MediaError."""
    every = [(p.pts, p.dts, p.duration, p.is_discard) for p in container.demux(stream) if p.size]
    packets = [packet[:3] for packet in every if not packet[3]]
    if not packets:
        raise MediaError(f"{shown(path)} has no frames")
    # AVI holds no times; FFmpeg's guesses are wrong where frames are stored in another order than they are shown in
    stated = "avi" not in container.format.name and all(pts is not None for pts, _, _ in packets)
    # then frames still leave the decoder in order, as far apart as they enter it
    times = sorted(
        (pts if stated else dts, duration or 0) for pts, dts, duration in packets if stated or dts is not None
    )
    if len(times) < len(packets):
        raise MediaError(f"{shown(path)} has frames without a time: convert it to MP4 first")
    container.seek(0)
    ticks = np.array([time for time, _ in times], np.int64)
    starts = (ticks - ticks[0]) * float(stream.time_base)
    last = times[-1][1] * Fraction(stream.time_base)
    hidden = len(every) - len(packets)
    whole = int(ticks[-1] - ticks[0]) * Fraction(stream.time_base)
    rates = [Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
    fps = _constant_rate(starts, [*rates, *([_usual((len(ticks) - 1) / whole)] if whole else [])], last)
    fps = fps and _meant(fps, starts, float(stream.time_base))
    if fps is not None:
        return FilmClock(fps, len(ticks), starts, len(ticks) / fps, True, ticks if stated else None, hidden)
    if len(ticks) == 1:
        raise MediaError(f"{shown(path)} does not state a frame rate")
    fps = _varying_rate(starts)
    end = whole + (last or 1 / fps)
    return FilmClock(fps, max(1, round(end * fps)), starts, end, False, ticks if stated else None, hidden)


def _constant_rate(starts: np.ndarray, rates: list[Fraction], last: Fraction) -> Fraction | None:
    """The first of these rates that fits all frames well, else the best one that puts each within half a frame of its
    place; None for a film whose rate varies, or that ends with a held frame."""
    off = [float(np.abs(starts * float(rate) - np.arange(len(starts))).max()) for rate in rates]
    good = [rate for rate, most in zip(rates, off) if most < 0.1]
    best = good[0] if good else min(zip(off, rates))[1] if off and min(off) < 0.5 else None
    held = best is not None and len(starts) > 1 and last * best >= 2
    return None if held else best


def _meant(fps: Fraction, starts: np.ndarray, tick: float) -> Fraction:
    """The usual rate that a film was made with, where its times are those of that rate in whole ticks of its clock."""
    usual = _usual(fps)
    off = np.abs(starts - np.arange(len(starts)) / float(usual)).max()
    return usual if usual != fps and abs(usual / fps - 1) < _ROUNDING and off <= 1.01 * tick else fps


def _varying_rate(starts: np.ndarray) -> Fraction:
    """The rate at which nothing is lost of a film that varies: of its fastest parts, but no faster than 60."""
    intervals = np.diff(starts)
    shortest = float(np.quantile(intervals[intervals > 0], _SHORT_INTERVALS)) if (intervals > 0).any() else 0
    return _usual(1 / Fraction(shortest)) if shortest * FASTEST_CLOCK > 1 else Fraction(FASTEST_CLOCK)


def _usual(measured: Fraction, rates: Iterable[Fraction] = _USUAL) -> Fraction:
    near = min(rates, key=lambda rate: abs(rate - measured))
    return near if abs(near - measured) <= _NEAR * near else measured.limit_denominator(1001)


# --- a container's tracks ----------------------------------------------------------------------------------------


def picture_tracks(container: Any) -> list[Any]:
    """The tracks that are film, that which is shown first: a cover picture in a sound file is a still."""
    return _shown_first([stream for stream in container.streams.video if not _has(stream, _COVER)])


def sound_tracks(container: Any) -> list[Any]:
    """The tracks that are sound, that which is heard first: of several languages a file states which."""
    return _shown_first(list(container.streams.audio))


def _shown_first(tracks: list[Any]) -> list[Any]:
    return sorted(tracks, key=lambda track: not _has(track, _DEFAULT))


def seek_before(container: Any, ticks: int, stream: Any) -> None:
    """Go to a place of a stream, or, in files that nothing is found in, to the start."""
    try:
        container.seek(ticks, stream=stream)
    except OSError:
        container.seek(0)


def film_start(container: Any) -> Fraction:
    """Seconds on the container's clock at which frame 0 is shown; where there is no picture, at which sound begins."""
    stream = (picture_tracks(container) or sound_tracks(container))[0]
    return (stream.start_time or 0) * stream.time_base


def _has(stream: Any, flag: int) -> bool:
    disposition = getattr(stream, "disposition", None)
    # a flag of its own kind, whose number is FFmpeg's
    return bool(disposition is not None and int(getattr(disposition, "value", disposition)) & flag)
