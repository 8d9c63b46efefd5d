"""Colour, contrast and loudness of a finished film's scenes kept at those of their first segments."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...errors import RequestError
from .look import NO_CHANGE, Change, Look, change_toward, changed, gain_toward, look_of, loudness_of

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


@dataclass(frozen=True)
class _Correction:
    """A change of the picture; sound times ``sound``."""

    picture: Change = NO_CHANGE
    sound: float = 1.0


class DriftCorrector:
    """The look of a scene's first segment, and the correction reached by the last one. What shares nothing with the
    segment before it begins a scene."""

    def __init__(self, amount: DriftCorrection) -> None:
        self._amount = amount
        self._first: tuple[Look, float] | None = None
        self._reached = _Correction()

    def next(self, segment: Any) -> "Corrections | None":
        """The corrections for a segment, None for the first of a scene. They set in over a second, so that none shows
        at the seam."""
        look, timing = look_of(segment.frames), segment.timing
        loudness = 0.0 if segment.sound is None else loudness_of(segment.sound.samples)
        if self._first is None or not (timing.video_overlap or timing.audio_overlap_latents):
            # a new scene is meant to look and sound different
            self._first, self._reached = (look, loudness), _Correction()
            return None
        first, amount, before = self._first, self._amount, self._reached
        target = self._reached = _Correction(
            change_toward(first[0], look, amount.colour, amount.contrast),
            gain_toward(first[1], loudness, amount.loudness),
        )
        ramp = max(1, round(float(segment.timing.fps) * _RAMP_SECONDS))
        return Corrections(before, target, ramp)


class Corrections:
    """What is done to one segment's frames and sound."""

    def __init__(self, before: _Correction, target: _Correction, ramp: int) -> None:
        self._before, self._target, self._ramp, self._at = before, target, ramp, 0

    def pictures(self, frames: np.ndarray) -> np.ndarray:
        """Corrected copies of the next frames [n, H, W, 3]."""
        out = np.empty_like(frames)
        before, target = self._before.picture, self._target.picture
        for index, frame in enumerate(frames):
            share = min(1.0, (self._at + 1) / self._ramp)
            gain = before.gain * (1 - share) + target.gain * share
            offset = before.offset * (1 - share) + target.offset * share
            out[index] = changed(frame, gain, offset)
            self._at += 1
        return out

    def sound(self, samples: torch.Tensor, start: int, rate: int) -> torch.Tensor:
        """The segment's samples [C, n] with the gain moving to its own from sample ``start`` on."""
        share = (torch.arange(samples.shape[1], dtype=torch.float32, device=samples.device) - start) / (
            rate * _RAMP_SECONDS
        )
        share = share.clamp(0, 1)
        return samples * (self._before.sound * (1 - share) + self._target.sound * share)
