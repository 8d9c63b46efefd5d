"""Vocoders: log-mel spectrogram → waveform, always in float32.

2.0 has one generator (HiFi-GAN, Kong et al. 2020, arXiv 2010.05646). From 2.3 on a generator with snake activations
(BigVGAN, Lee et al. 2022, arXiv 2206.04658) makes sound of 16 kHz, and a second one adds the band above it.
Checked against ltx-core 1.0.0 and diffusers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.audio import BandwidthExtensionConfig, GeneratorConfig, VocoderConfig
from ..layers.full_precision import full_precision
from ..layers.ops import TORCH_OPS
from .mel import LOG_FLOOR, mel_filters, require_shape
from .snake import AntiAliasedSnake

# samples on either side that an anti-aliased activation mixes in
_SNAKE_REACH = 6

Activation = Callable[[Tensor], Tensor]


class _VocoderBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair added to its input."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], snake: bool, *, ops, **factory):
        super().__init__()

        def convolutions(rates):
            return nn.ModuleList(
                ops.Conv1d(channels, channels, kernel, dilation=rate, padding=rate * (kernel - 1) // 2, **factory)
                for rate in rates
            )

        self.convs1 = convolutions(dilations)
        self.convs2 = convolutions([1] * len(dilations))
        self.snake = snake
        if snake:
            self.acts1 = nn.ModuleList(AntiAliasedSnake(channels, **factory) for _ in dilations)
            self.acts2 = nn.ModuleList(AntiAliasedSnake(channels, **factory) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        plain: Sequence[Activation] = [_leaky] * len(self.convs1)
        acts1: Sequence[Activation] = list(self.acts1) if self.snake else plain
        acts2: Sequence[Activation] = list(self.acts2) if self.snake else plain
        for conv1, conv2, act1, act2 in zip(self.convs1, self.convs2, acts1, acts2):
            x = conv2(act2(conv1(act1(x)))).add_(x)
        return x


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


class Generator(nn.Module):
    """Mel [B, 2 · 64, T] → waveform [B, 2, T · samples_per_frame]."""

    def __init__(self, config: GeneratorConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        ops = full_precision(ops)
        factory = dict(device=device, dtype=dtype)
        widths = [config.channels >> i for i in range(len(config.rates) + 1)]
        self.conv_pre = ops.Conv1d(config.mel_channels, widths[0], 7, padding=3, **factory)
        self.ups = nn.ModuleList(
            ops.ConvTranspose1d(before, after, kernel, rate, padding=(kernel - rate) // 2, **factory)
            for before, after, kernel, rate in zip(widths, widths[1:], config.kernels, config.rates)
        )
        self.resblocks = nn.ModuleList(
            _VocoderBlock(width, kernel, dilations, config.snake, ops=ops, **factory)
            for width in widths[1:]
            for kernel, dilations in zip(config.block_kernels, config.block_dilations)
        )
        if config.snake:
            self.act_post = AntiAliasedSnake(widths[-1], **factory)
        self.conv_post = ops.Conv1d(widths[-1], config.sound_channels, 7, padding=3, bias=config.final_bias, **factory)

    def forward(self, mel: Tensor) -> Tensor:
        config = self.config
        x = self.conv_pre(mel)
        per_stage = len(config.block_kernels)
        for i, up in enumerate(self.ups):
            x = up(x if config.snake else _leaky(x))
            first, *others = self.resblocks[per_stage * i : per_stage * (i + 1)]
            total = first(x)
            for block in others:
                total += block(x)
            x = total.div_(per_stage)
        # Without a snake the last slope is PyTorch's default, unlike the 0.1 inside.
        x = self.conv_post(self.act_post(x) if config.snake else F.leaky_relu(x, 0.01))
        if config.last == "tanh":
            return x.tanh_()
        return x.clamp_(-1, 1) if config.last == "clamp" else x

    @property
    def frames_seen(self) -> int:
        """How many mel frames on either side of its own a sample depends on, at most."""
        config = self.config
        snake = _SNAKE_REACH if config.snake else 0
        reach = 3 + snake  # in samples of the stage at hand, from the output inwards
        for kernel, rate in zip(reversed(config.kernels), reversed(config.rates)):
            reach += max(
                sum((d + 1) * (k - 1) // 2 + 2 * snake for d in dilations)
                for k, dilations in zip(config.block_kernels, config.block_dilations)
            )
            reach = math.ceil((reach + kernel) / rate)
        return reach + 3


class Vocoder(Generator):
    """Vocoder of 2.0: log-mel [B, 2, T, 64] → waveform [B, 2, 240 T] in [-1, 1] at ``sample_rate``."""

    def __init__(self, config: VocoderConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__(config.generator, ops=ops, device=device, dtype=dtype)
        self.sample_rate = config.sample_rate

    def forward(self, mel: Tensor) -> Tensor:
        _check(mel, self.config)
        return super().forward(_side_by_side(mel))

    @property
    def samples_per_frame(self) -> int:
        """Samples for each mel frame."""
        return self.config.samples_per_frame


def _check(mel: Tensor, config: GeneratorConfig) -> None:
    require_shape(mel, "mel to turn into sound", config.sound_channels, config.mel_channels // config.sound_channels)


def _side_by_side(mel: Tensor) -> Tensor:
    """[B, 2, T, bins] → [B, 2 · bins, T]: the left channel's bins first."""
    return mel.float().transpose(2, 3).flatten(1, 2)


class _Stft(nn.Module):
    """Windowed Fourier rows as stored: first the real ones, then the imaginary. The inverse rows are in the file, but
    unused."""

    forward_basis: Tensor

    def __init__(self, window: int, **factory):
        super().__init__()
        t = torch.arange(window, dtype=torch.float32, device="cpu")
        frequency = torch.arange(window // 2 + 1, dtype=torch.float32, device="cpu")
        angle = frequency[:, None] * t % window * (2 * math.pi / window)
        rows = torch.cat([angle.cos(), -angle.sin()]) * torch.hann_window(window, device="cpu")
        self.register_buffer("forward_basis", rows[:, None].to(**factory))  # [window+2, 1, window]
        self.register_buffer("inverse_basis", torch.zeros(rows[:, None].shape, **factory))


class CausalMel(nn.Module):
    """Log-mel of the first generator's sound: [B, C, N] → [B, C, N / hop, bins], frame k seeing nothing after (k+1)
    hops."""

    mel_basis: Tensor

    def __init__(self, config: BandwidthExtensionConfig, *, device=None, dtype=None):
        super().__init__()
        self.overlap, self.hop = config.window_samples - config.hop_samples, config.hop_samples
        basis = mel_filters(config.window_samples, config.input_sample_rate, config.mel_bins, device="cpu")
        self.register_buffer("mel_basis", basis.to(device=device, dtype=dtype))
        self.stft_fn = _Stft(config.window_samples, device=device, dtype=dtype)

    def forward(self, samples: Tensor) -> Tensor:
        batch = samples.shape[:2]
        padded = F.pad(samples.flatten(0, 1)[:, None], (self.overlap, 0))  # [B·C, 1, overlap + N]
        rows = F.conv1d(padded, self.stft_fn.forward_basis.to(samples), stride=self.hop)
        real, imaginary = rows.chunk(2, dim=1)  # [B·C, window/2+1, frames] each
        mel = self.mel_basis.to(samples) @ (real.square() + imaginary.square()).sqrt_()
        return mel.clamp_(min=LOG_FLOOR).log_().transpose(1, 2).unflatten(0, batch)


def interpolate(samples: Tensor, factor: int) -> Tensor:
    """[B, C, N] → [B, C, factor · N]: sinc under a Hann window of six zero crossings a side, edges held."""
    if factor == 1:
        return samples
    channels = samples.shape[1]
    rolloff, crossings = 0.99, 6
    width = math.ceil(crossings / rolloff)
    taps = 2 * width * factor + 1
    t = (torch.arange(taps, device=samples.device) / factor - width) * rolloff
    window = torch.cos(t.clamp(-crossings, crossings) * (math.pi / 2 / crossings)).square()
    kernel = (torch.sinc(t) * window * (rolloff / factor)).to(samples).expand(channels, 1, -1)
    # Every output is to see `width` samples a side, so the transposed convolution runs over the edges and is cut.
    padded = F.pad(samples, (width, width), mode="replicate")
    out = F.conv_transpose1d(padded, kernel * factor, stride=factor, groups=channels)
    return out[..., 2 * width * factor : out.shape[-1] - (taps - factor)]


class BandwidthExtensionVocoder(nn.Module):
    """Vocoder of 2.3 on: log-mel [B, 2, T, 64] → waveform [B, 2, 480 T] in [-1, 1] at ``sample_rate``."""

    def __init__(self, config: VocoderConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.factor = config.sample_rate // config.extension.input_sample_rate
        factory = dict(device=device, dtype=dtype)
        self.vocoder = Generator(config.generator, ops=ops, **factory)
        self.bwe_generator = Generator(config.extension.generator, ops=ops, **factory)
        self.mel_stft = CausalMel(config.extension, **factory)

    def forward(self, mel: Tensor) -> Tensor:
        _check(mel, self.config.generator)
        low = self.vocoder(_side_by_side(mel))  # [B, 2, 160 T] at 16 kHz
        count = low.shape[-1]
        low = F.pad(low, (0, -count % self.config.extension.hop_samples))
        high = self.bwe_generator(_side_by_side(self.mel_stft(low)))
        return high.add_(interpolate(low, self.factor)).clamp_(-1, 1)[..., : count * self.factor]

    @property
    def samples_per_frame(self) -> int:
        """Samples for each mel frame."""
        return self.config.generator.samples_per_frame * self.factor

    @property
    def frames_seen(self) -> int:
        """How many mel frames on either side of its own a sample depends on, at most."""
        extension = self.config.extension
        samples = extension.window_samples + self.bwe_generator.frames_seen * extension.hop_samples
        return self.vocoder.frames_seen + math.ceil(samples / self.config.generator.samples_per_frame)


def make_vocoder(config: VocoderConfig, **options: Any) -> Vocoder | BandwidthExtensionVocoder:
    """The vocoder that a checkpoint's config describes; options as for the networks (``ops``, ``device``,
    ``dtype``)."""
    return (BandwidthExtensionVocoder if config.extension else Vocoder)(config, **options)
