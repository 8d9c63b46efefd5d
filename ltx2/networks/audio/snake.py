"""Anti-aliased snake activation: a periodic non-linearity run at twice the rate, so that its overtones do not fold
back.

Snake: Ziyin et al. 2020 (arXiv 2006.08195); its anti-aliased form: BigVGAN, Lee et al. 2022 (arXiv 2206.04658).
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 12


@functools.cache
def low_pass_filter() -> Tensor:
    """Kaiser-windowed sinc [1, 1, 12] for a factor of 2, summing to 1, on the CPU; the same one each time.
    Released files carry their own, in 16 bits."""
    cutoff, transition, half = 0.25, 0.3, TAPS // 2
    attenuation = 2.285 * (half - 1) * math.pi * 4 * transition + 7.95
    # Kaiser's rule for the range that this attenuation (51 dB) falls into
    window = torch.kaiser_window(
        TAPS, periodic=False, beta=0.1102 * (attenuation - 8.7), dtype=torch.float32, device="cpu"
    )
    t = torch.arange(TAPS, dtype=torch.float32, device="cpu") - (TAPS - 1) / 2
    taps = 2 * cutoff * window * torch.sinc(2 * cutoff * t)
    return (taps / taps.sum()).view(1, 1, TAPS)


class _Filter(nn.Module):
    filter: Tensor

    def __init__(self, **factory):
        super().__init__()
        self.register_buffer("filter", low_pass_filter().to(**factory, copy=True))


class _Downsample(nn.Module):
    def __init__(self, **factory):
        super().__init__()
        self.lowpass = _Filter(**factory)


class _SnakeBeta(nn.Module):
    """y + sin²(e^α y) / e^β, with a frequency and an amplitude for each channel."""

    def __init__(self, channels: int, **factory):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels, **factory))
        self.beta = nn.Parameter(torch.zeros(channels, **factory))

    def forward(self, y: Tensor) -> Tensor:
        alpha, beta = (p.to(y).exp()[:, None] for p in (self.alpha, self.beta))  # [C, 1]
        return (y * alpha).sin_().square_().div_(beta + 1e-9).add_(y)


class AntiAliasedSnake(nn.Module):
    """[B, C, N] → [B, C, N]: up to twice the rate, snake, low-pass, back down."""

    def __init__(self, channels: int, **factory):
        super().__init__()
        self.act = _SnakeBeta(channels, **factory)
        self.upsample = _Filter(**factory)
        self.downsample = _Downsample(**factory)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        rise, fall = (f.to(x).expand(channels, -1, -1) for f in (self.upsample.filter, self.downsample.lowpass.filter))
        y = F.conv_transpose1d(F.pad(x, (5, 5), mode="replicate"), rise * 2, stride=2, groups=channels)
        y = self.act(y[..., 15:-15])  # [B, C, 2N]; the edges stand for the padding
        return F.conv1d(F.pad(y, (5, 6), mode="replicate"), fall, stride=2, groups=channels)
