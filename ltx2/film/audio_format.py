"""Sample rate and channels of a film's sound, and sound brought to them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ..media.video import AAC_RATES
from ..resampling import resample
from ..values import Waveform

FILE_CHANNELS = (1, 2, 6, 8)
# Of the others in a front speaker: half the power of each (ITU-R BS.775).
_SHARE = 0.5**0.5


@dataclass(frozen=True)
class AudioFormat:
    """sample_rate in Hz; channels: how many."""

    sample_rate: int
    channels: int

    @classmethod
    def of(cls, sound: Waveform) -> "AudioFormat":
        """The format of a sound."""
        return cls(sound.sample_rate, sound.samples.shape[0])

    def __str__(self) -> str:
        return f"{self.channels} channels at {self.sample_rate} Hz"


def file_format(sounds: Iterable[Waveform | None]) -> AudioFormat | None:
    """The format in which a film file holds these sounds: the first one's, or the nearest that MP4 takes. None when all
    are None."""
    first = next((sound for sound in sounds if sound is not None), None)
    if first is None:
        return None
    rate, channels = first.sample_rate, first.samples.shape[0]
    if rate not in AAC_RATES:
        rate = min((known for known in AAC_RATES if known > rate), default=max(AAC_RATES))
    return AudioFormat(rate, channels if channels in FILE_CHANNELS else 2)


def in_format(sound: Waveform, wanted: AudioFormat, name: str, note: Callable[[str], None]) -> Waveform:
    """Sound with the rate and channels of a film. note: is given a sentence where that changes it; name: what it calls
    the sound's owner."""
    found = AudioFormat.of(sound)
    if found == wanted:
        return sound
    note(f"the sound of {name} has {found}, it was brought to the film's {wanted}")
    samples = _mixed(sound.samples.float(), wanted.channels)
    return Waveform(resample(samples, sound.sample_rate, wanted.sample_rate), wanted.sample_rate)


def _mixed(samples: torch.Tensor, channels: int) -> torch.Tensor:
    """[C, N] → [channels, N]. One is heard on both sides; of many the front pair keeps what the others say."""
    have = samples.shape[0]
    if have == channels:
        return samples
    if channels == 1:
        return samples.mean(0, keepdim=True)
    if have == 1:
        front = samples.expand(2, -1)
    elif have == 2:
        front = samples
    else:
        # left, right, centre, then (where there are six or eight) the low one, which is left out, and pairs
        rest = [samples[i] for i in range(2, have) if not (i == 3 and have in (6, 8))]
        sides = [torch.stack([samples[side], *rest]) for side in (0, 1)]
        weights = torch.tensor([1.0, *[_SHARE] * len(rest)], device=samples.device)
        front = torch.stack([(one * (weights / weights.sum())[:, None]).sum(0) for one in sides])
    silent = samples.new_zeros(channels - 2, samples.shape[1])
    return torch.cat([front, silent]) if channels > 2 else front
