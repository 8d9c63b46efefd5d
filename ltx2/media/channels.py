"""Sound brought to the channels of a film and, piece by piece, to its sample rate."""

from collections.abc import Iterator
from fractions import Fraction

import torch

from ..resampling import mix_to_stereo
from ..values import Waveform
from .paths import require_av
from .sound_frames import frame_of


def with_channels(samples: torch.Tensor, count: int) -> torch.Tensor:
    """Samples [C, N] as [count, N]: one channel is heard on both sides, two become the front of more or are mixed into
    one."""
    have = samples.shape[0]
    if have == count:
        return samples
    if have > 2:
        return with_channels(mix_to_stereo(Waveform(samples, 1)).samples, count)
    if count == 1:
        return samples.mean(dim=0, keepdim=True)
    front = samples.expand(2, -1)
    return torch.cat([front, front.new_zeros(count - 2, front.shape[1])])


class Resampler:
    """Consecutive pieces of a sound at another sample rate, without a shift. What comes out adds up to
    round(samples · to / from)."""

    def __init__(self, from_rate: int, to_rate: int, channels: int):
        self.from_rate, self.to_rate, self.channels = from_rate, to_rate, channels
        self._taken = self._handed = 0
        self._inner = None
        if from_rate != to_rate:
            # one channel at a time: FFmpeg would mix layouts that it takes for different ones
            self._inner = [
                require_av().AudioResampler(format="fltp", layout="mono", rate=to_rate) for _ in range(channels)
            ]

    def take(self, samples: torch.Tensor) -> torch.Tensor:
        """The next piece [C, n]; what is ready of the result."""
        if self._inner is None:
            return samples
        out = self._run(samples)
        self._taken += samples.shape[1]
        self._handed += out.shape[1]
        return out

    def rest(self) -> torch.Tensor:
        """What is left once all was taken."""
        if self._inner is None:
            return torch.zeros(self.channels, 0)
        missing = round(Fraction(self._taken * self.to_rate, self.from_rate)) - self._handed
        out = self._run(None)[:, : max(0, missing)]
        return torch.nn.functional.pad(out, (0, max(0, missing - out.shape[1])))

    def _run(self, samples: torch.Tensor | None) -> torch.Tensor:
        return torch.cat([torch.cat(list(self._channel(i, samples)), dim=1) for i in range(self.channels)])

    def _channel(self, index: int, samples: torch.Tensor | None) -> Iterator[torch.Tensor]:
        frame = None
        if samples is not None and samples.shape[1]:
            frame = frame_of(samples[index : index + 1], "mono", self.from_rate)
        yield torch.zeros(1, 0)
        if frame is not None or samples is None:
            for made in self._inner[index].resample(frame):
                yield torch.from_numpy(made.to_ndarray().copy())
