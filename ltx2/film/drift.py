"""Colour, contrast and loudness of a scene kept at those of its first segment. Optional; nothing of it runs by
default."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import RequestError
from ..media import uint8_frames

# Corrections stay small: a new scene is meant to look different, only drift is to be taken back.
_MOST_GAIN = 1.25
_MOST_SHIFT = 24.0  # levels of 0…255
_MOST_SOUND_GAIN = 2.0  # 6 dB
_SAMPLED_SIDE = 128
_RAMP_SECONDS = 1.0


@dataclass(frozen=True)
class DriftCorrection:
    """How much of the difference to the first segment is taken back, 0…1 each."""

    colour: float = 0.0
    contrast: float = 0.0
    loudness: float = 0.0

    def __post_init__(self) -> None:
        for name in ("colour", "contrast", "loudness"):
            if not 0 <= getattr(self, name) <= 1:
                raise RequestError(f"drift correction of {name} is {getattr(self, name)!r}, expected 0 to 1")


HALF_LIFE_SEGMENTS = 5


@dataclass(frozen=True)
class RelaxingStrength:
    """How firmly the segments of a scene start from the one before: the first that goes on by ``start``, later ones by
    less, half of the way to ``end`` after every five. A model that may repair its context drifts less than one that
    copies it."""

    start: float
    end: float

    def at(self, segment: int) -> float:
        """The strength of the segment after so many in its scene that go on already."""
        return self.end + (self.start - self.end) * 0.5 ** (segment / HALF_LIFE_SEGMENTS)


@dataclass(frozen=True)
class _Look:
    mean: np.ndarray  # [3]
    deviation: np.ndarray  # [3]
    loudness: float


@dataclass(frozen=True)
class _Correction:
    """value → (value − mean) · gain + mean + shift per channel; sound times ``sound``."""

    mean: np.ndarray
    gain: np.ndarray
    shift: np.ndarray
    sound: float

    @property
    def offset(self) -> np.ndarray:
        return self.mean * (1 - self.gain) + self.shift


def _nothing() -> _Correction:
    return _Correction(np.zeros(3), np.ones(3), np.zeros(3), 1.0)


class DriftCorrector:
    """The look of a scene's first segment, and the correction reached by the last one. What shares nothing with the
    segment before it begins a scene."""

    def __init__(self, amount: DriftCorrection) -> None:
        self._amount = amount
        self._first: _Look | None = None
        self._reached = _nothing()

    def next(self, segment: Any) -> "Corrections | None":
        """The corrections for a segment, None for the first of a scene. They set in over a second, so that none shows
        at the seam."""
        look = _look(segment)
        timing = segment.timing
        if self._first is None or not (timing.video_overlap or timing.audio_overlap_latents):
            # a new scene is meant to look and sound different
            self._first, self._reached = look, _nothing()
            return None
        target, before = self._correction(look), self._reached
        self._reached = target
        ramp = max(1, round(float(segment.timing.fps) * _RAMP_SECONDS))
        return Corrections(before, target, ramp)

    def _correction(self, look: _Look) -> _Correction:
        first, amount = self._first, self._amount
        gain = 1 + amount.contrast * (first.deviation / np.maximum(look.deviation, 1.0) - 1)
        shift = amount.colour * (first.mean - look.mean)
        sound = (
            (first.loudness / look.loudness) ** amount.loudness if min(look.loudness, first.loudness) > 1e-4 else 1.0
        )
        return _Correction(
            mean=look.mean,
            gain=np.clip(gain, 1 / _MOST_GAIN, _MOST_GAIN),
            shift=np.clip(shift, -_MOST_SHIFT, _MOST_SHIFT),
            sound=min(max(sound, 1 / _MOST_SOUND_GAIN), _MOST_SOUND_GAIN),
        )


class Corrections:
    """What is done to one segment's frames and sound."""

    def __init__(self, before: _Correction, target: _Correction, ramp: int) -> None:
        self._before, self._target, self._ramp, self._at = before, target, ramp, 0

    def pictures(self, frames: np.ndarray) -> np.ndarray:
        """Corrected copies of the next frames [n, H, W, 3]."""
        out = np.empty_like(frames)
        for index, frame in enumerate(frames):
            share = min(1.0, (self._at + 1) / self._ramp)
            gain = self._before.gain * (1 - share) + self._target.gain * share
            offset = self._before.offset * (1 - share) + self._target.offset * share
            # every value of a channel maps alike, so a table of 256 does
            table = np.clip(np.rint(np.arange(256)[:, None] * gain + offset), 0, 255).astype(np.uint8)
            for channel in range(3):
                out[index, ..., channel] = table[frame[..., channel], channel]
            self._at += 1
        return out

    def sound(self, samples: torch.Tensor, start: int, rate: int) -> torch.Tensor:
        """The segment's samples [C, n] with the gain moving to its own from sample ``start`` on."""
        share = (torch.arange(samples.shape[1], dtype=torch.float32, device=samples.device) - start) / (
            rate * _RAMP_SECONDS
        )
        share = share.clamp(0, 1)
        return samples * (self._before.sound * (1 - share) + self._target.sound * share)


def _look(segment) -> _Look:
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for chunk in segment.frames:
        frames = uint8_frames(chunk)
        step = max(1, min(frames.shape[1:3]) // _SAMPLED_SIDE)
        values = frames[:, ::step, ::step].reshape(-1, 3).astype(np.float64)
        count += len(values)
        total += values.sum(0)
        squares += np.square(values).sum(0)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - np.square(mean), 0))
    loudness = float(segment.sound.samples.double().square().mean().sqrt()) if segment.sound is not None else 0.0
    return _Look(mean, deviation, loudness)
