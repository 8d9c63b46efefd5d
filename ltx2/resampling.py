"""Sound at another sample rate, in torch alone. Checked against torchaudio's transform as ltx-core 1.0.0 uses it."""

import math
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import MediaError

SAMPLE_RATES = (1000, 768_000)
_ZERO_CROSSINGS = 6  # of the sinc, on each side
_ROLLOFF = 0.99  # of the lower of the two Nyquist frequencies
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
