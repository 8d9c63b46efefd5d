"""Sound at another sample rate and in fewer channels, in torch alone.

The rate: checked against torchaudio's transform as ltx-core 1.0.0 uses it. Channels: mixed down as cinemas' tracks are
heard on a stereo set.
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import MediaError
from .values import Waveform

SAMPLE_RATES = (1000, 768_000)  # a second: what is a sound's
_ZERO_CROSSINGS = 6  # of the sinc, on each side
_ROLLOFF = 0.99  # of the lower of the two Nyquist frequencies
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
_GATHERED = 2**21  # numbers in one resampling step: 8 MiB a channel


def resample(samples: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling: [..., N] → [..., ceil(N · to / from)] float32.

    A sinc under a Hann window of six zero crossings a side, rolled off at 0.99 of the lower Nyquist frequency. Works in
    steps of a few MiB, and for rates without a common divisor as well as for 48 kHz. Raises MediaError for absurd
    rates.
    """
    check_rate(from_rate)
    check_rate(to_rate)
    samples = samples.float()
    if from_rate == to_rate:
        return samples
    divisor = math.gcd(from_rate, to_rate)
    old, new = from_rate // divisor, to_rate // divisor
    base = _ROLLOFF * min(old, new)  # zero crossings in `old` input samples
    reach = math.ceil(_ZERO_CROSSINGS * old / base)  # input samples a side
    count = -(-new * samples.shape[-1] // old)
    padded = F.pad(samples, (reach, reach + 1))
    offsets = torch.arange(-reach, reach + 1, device=samples.device)  # [taps]
    out = samples.new_empty(*samples.shape[:-1], count)
    step = max(1, _GATHERED // len(offsets))
    for start in range(0, count, step):
        # Output m lies at input position m·old/new. Its distance to each input is taken within one period of the two
        # rates and in float32, like the reference does it: next to silence even that rounding shows in the mel.
        index = torch.arange(start, min(start + step, count), device=samples.device)
        nearest = index * old // new
        inputs = (nearest - index // new * old)[:, None] + offsets  # [outputs, taps]
        t = (inputs.float() / old - (index % new).float()[:, None] / new) * base
        t.clamp_(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
        taps = torch.sinc(t) * torch.cos(t * (math.pi / 2 / _ZERO_CROSSINGS)).square() * (base / old)
        heard = padded[..., nearest[:, None] + offsets + reach]  # [..., outputs, taps]
        out[..., start : start + step] = (heard * taps).sum(-1)
    return out


def check_rate(rate: Any) -> None:
    """Raises MediaError unless sound is sampled at such a rate."""
    low, high = SAMPLE_RATES
    if isinstance(rate, bool) or not isinstance(rate, Integral) or not low <= int(rate) <= high:
        raise MediaError(
            f"sound has {rate} samples per second, expected a whole number from {low} to {high}: check where it was "
            "loaded"
        )


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
