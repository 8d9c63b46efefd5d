"""Sound brought to other channels and another sample rate: mixed down as cinemas' tracks are heard on a stereo set."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch

from ..values import Waveform
from .paths import require_av

_HALF_POWER = 0.5**0.5
# What the channels are where only their count is known, in the order in which files hold them.
_USUAL = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
_FRONT = ("FL", "FR", "DL", "DR")  # heard in full; everything else at half power


def mix_to_stereo(waveform: Waveform, channels: Sequence[str] | None = None) -> Waveform:
    """At most two channels: one or two stay as they are; of more, centre and surround are heard on both sides or on
    their own at half power, the low frequency channel is left out (ITU-R BS.775).

    channels: what each is, by FFmpeg's short names; None takes the usual ones for their count. A mix that would clip is
    made quieter as a whole.
    """
    samples = waveform.samples
    count = samples.shape[0]
    if count <= 2:
        return waveform
    names = channels if channels is not None and len(channels) == count else _USUAL.get(count, ())
    left, right = zip(*(_gains(name) for name in names)) if names else ((1 / count,) * count,) * 2
    gains = torch.tensor([left, right], dtype=torch.float32, device=samples.device)  # [2, C]
    if not gains.any():  # of nothing that is known
        gains = torch.full_like(gains, 1 / count)
    mixed = gains @ samples.float()
    peak, before = (
        float(mixed.abs().max()) if mixed.numel() else 0.0,
        float(samples.abs().max()) if mixed.numel() else 0,
    )
    if peak > max(1.0, before):
        mixed = mixed * (max(1.0, before) / peak)
    return Waveform(mixed, waveform.sample_rate)


def mix_note(name: str, count: int) -> str:
    """What to tell of a sound that was mixed down."""
    return f"{name} has {count} channels: they are mixed down to stereo, for the model and the film alike"


def _gains(name: str) -> tuple[float, float]:
    """How loud a channel is heard left and right."""
    if name.startswith("LFE"):
        return 0.0, 0.0
    gain = 1.0 if name in _FRONT else _HALF_POWER
    side = name.rstrip("C") if name in ("FLC", "FRC") else name
    if side.endswith("L"):
        return gain, 0.0
    if side.endswith("R"):
        return 0.0, gain
    return (_HALF_POWER, _HALF_POWER) if name == "FC" else (0.5, 0.5)


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
            array = np.ascontiguousarray(samples[index : index + 1].float().cpu().numpy())
            frame = require_av().AudioFrame.from_ndarray(array, format="fltp", layout="mono")
            frame.sample_rate = self.from_rate
        yield torch.zeros(1, 0)
        if frame is not None or samples is None:
            for made in self._inner[index].resample(frame):
                yield torch.from_numpy(made.to_ndarray().copy())
