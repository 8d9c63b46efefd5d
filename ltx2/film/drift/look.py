"""How pictures look and how loud sound is, as a few numbers, and the small changes that bring one to another."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ...media import uint8_frames

# Corrections stay small: a new scene is meant to look different, only drift is to be taken back.
MOST_GAIN = 1.25
MOST_SHIFT = 24.0  # levels of 0…255
MOST_SOUND_GAIN = 2.0  # 6 dB
_SILENCE = 1e-4
SAMPLED_SIDE = 128  # pictures are looked at on about this many rows


@dataclass(frozen=True, eq=False)
class Look:
    """Mean and deviation of each colour channel, [3] each, in levels of 0…255."""

    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True, eq=False)
class Change:
    """value → (value − mean) · gain + mean + shift for each colour channel, [3] each."""

    mean: np.ndarray
    gain: np.ndarray
    shift: np.ndarray

    @property
    def offset(self) -> np.ndarray:
        """value → value · gain + offset, the same change."""
        return self.mean * (1 - self.gain) + self.shift


NO_CHANGE = Change(np.zeros(3), np.ones(3), np.zeros(3))


def look_of(chunks: Iterable) -> Look:
    """The look of frames in chunks (see media.uint8_frames); large ones are sampled."""
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for chunk in chunks:
        frames = uint8_frames(chunk)
        step = max(1, min(frames.shape[1:3]) // SAMPLED_SIDE)
        values = frames[:, ::step, ::step].reshape(-1, 3).astype(np.float64)
        count += len(values)
        total += values.sum(0)
        squares += np.square(values).sum(0)
    mean = total / max(count, 1)
    return Look(mean, np.sqrt(np.maximum(squares / max(count, 1) - np.square(mean), 0)))


def change_toward(reference: Look, look: Look, colour: float, contrast: float) -> Change:
    """The change of frames with one look that takes a share (0…1) of its distance to another one back."""
    gain = 1 + contrast * (reference.deviation / np.maximum(look.deviation, 1.0) - 1)
    shift = colour * (reference.mean - look.mean)
    return Change(
        mean=look.mean,
        gain=np.clip(gain, 1 / MOST_GAIN, MOST_GAIN),
        shift=np.clip(shift, -MOST_SHIFT, MOST_SHIFT),
    )


def changed(frame: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A copy of uint8 frames [..., 3], each channel times its gain plus its offset."""
    # every value of a channel maps alike, so a table of 256 does
    table = np.clip(np.rint(np.arange(256)[:, None] * gain + offset), 0, 255).astype(np.uint8)
    return np.stack([table[frame[..., channel], channel] for channel in range(3)], axis=-1)


def loudness_of(samples: torch.Tensor) -> float:
    """Root of the mean square of samples of any shape."""
    return float(samples.double().square().mean().sqrt())


def gain_toward(reference: float, loudness: float, amount: float) -> float:
    """The factor that takes a share of a difference in loudness back; 1 where one of both is silent."""
    gain = (reference / loudness) ** amount if min(loudness, reference) > _SILENCE else 1.0
    return min(max(gain, 1 / MOST_SOUND_GAIN), MOST_SOUND_GAIN)
