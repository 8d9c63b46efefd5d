"""How well two segments join: small numbers per seam, measured while the film streams by."""

import math
from collections import deque
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import torch

from .drift.look import SAMPLED_SIDE
from .timeline import SegmentTiming

_LOUDNESS_SECONDS = 0.4  # the length that loudness meters use for a moment
_CORRELATION_SECONDS = 0.2
_MOST_DIFFERENCES = 1024
_SILENCE = 1e-5  # −100 dB, so that silence against silence is no step


@dataclass(frozen=True)
class SeamReport:
    """One seam. Differences are in levels of 0…255.

    segment: the one after the seam, from 0; frame: the film's frame it starts with. frame_difference: mean change of
    brightness from the last frame before to the first after; median_difference: the same between neighbours inside both
    segments. luma_step: change of mean brightness. loudness_step_db: of 0.4 s after against before; correlation: of
    both segments' sound where they tell the same time, 1 = equal; both None without sound or, for the latter, without
    shared sound.
    """

    segment: int
    frame: int
    frame_difference: float
    median_difference: float
    luma_step: float
    loudness_step_db: float | None = None
    correlation: float | None = None

    def as_json(self) -> dict:
        """The figures as a JSON object."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        sound = "" if self.loudness_step_db is None else f", loudness {self.loudness_step_db:+.1f} dB"
        shared = "" if self.correlation is None else f", sound correlation {self.correlation:.3f}"
        return (
            f"seam before segment {self.segment + 1}: frames differ by {self.frame_difference:.2f} (inside "
            f"{self.median_difference:.2f}), "
            f"brightness {self.luma_step:+.2f}{sound}{shared}"
        )


class FrameMeter:
    """Brightness differences between neighbouring frames of a film, kept for two segments at a time."""

    def __init__(self) -> None:
        self._inside: deque[deque[float]] = deque(maxlen=2)
        self._last: np.ndarray | None = None
        self._across = (0.0, 0.0)
        self._first = True

    def begin(self) -> None:
        """The next frame is the first of another segment."""
        self._inside.append(deque(maxlen=_MOST_DIFFERENCES))
        self._first = True

    def add(self, frames: np.ndarray) -> None:
        """Take in frames [n, H, W, 3] uint8, in order of time."""
        for frame in frames:
            luma = _luma(frame)
            if self._last is not None and self._last.shape == luma.shape:
                difference = float(np.abs(luma - self._last).mean())
                if self._first:
                    self._across = (difference, float(luma.mean() - self._last.mean()))
                else:
                    self._inside[-1].append(difference)
            self._last, self._first = luma, False

    def seam(self, timing: SegmentTiming, sound: "SoundMeter | None") -> SeamReport:
        """The report on the seam before the segment that was added last."""
        inside = [difference for differences in self._inside for difference in differences]
        return SeamReport(
            segment=timing.index,
            frame=timing.first_frame,
            frame_difference=self._across[0],
            median_difference=median(inside) if inside else 0.0,
            luma_step=self._across[1],
            loudness_step_db=sound.loudness_step_db if sound else None,
            correlation=sound.correlation if sound else None,
        )


def _luma(frame: np.ndarray) -> np.ndarray:
    step = max(1, min(frame.shape[:2]) // SAMPLED_SIDE)
    return frame[::step, ::step].astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709


class SoundMeter:
    """Loudness and likeness around a join over samples [first, last) of the film; both waveforms [C, n] with their film
    offsets."""

    def __init__(
        self, before, before_offset: int, after, after_offset: int, first: int, last: int, rate: int, shared: bool
    ) -> None:
        moment = round(_LOUDNESS_SECONDS * rate)
        loud_before = _rms(before[:, max(first - before_offset - moment, 0) : max(first - before_offset, 0)])
        loud_after = _rms(after[:, max(last - after_offset, 0) : max(last - after_offset + moment, 0)])
        self.loudness_step_db = 20 * math.log10(loud_after / loud_before)
        self.correlation: float | None = None
        if shared:
            start = max(last - round(_CORRELATION_SECONDS * rate), before_offset, after_offset)
            self.correlation = _correlation(
                before[:, start - before_offset : last - before_offset],
                after[:, start - after_offset : last - after_offset],
            )


def _rms(samples: torch.Tensor) -> float:
    return max(float(samples.double().square().mean().sqrt()), _SILENCE) if samples.numel() else _SILENCE


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float | None:
    count = min(a.shape[1], b.shape[1])
    if count < 2:
        return None
    a, b = (x[:, :count].double().flatten() for x in (a, b))
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    if scale < _SILENCE:
        return 1.0 if float((a - b).norm()) < _SILENCE else 0.0
    return float(a @ b) / scale
