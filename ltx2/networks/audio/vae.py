"""Audio VAE: log-mel spectrogram ↔ latent. Causal in time, 4 mel frames and 4 mel bins to a latent cell.

Images are [B, channels, time, frequency]. Both halves compute in float32; latents are normalised outside and not
inside. Checked against ltx-core 1.0.0 and diffusers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import clock
from ...config.audio import AudioVaeConfig
from ..layers.full_precision import full_precision
from ..layers.ops import TORCH_OPS
from ..layers.statistics import PerChannelStatistics
from ..layers.typed_modules import list_of
from .mel import require_shape


def pixel_norm(x: Tensor) -> Tensor:
    """Each position scaled to unit mean square over its channels. The video VAE's epsilon is smaller."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)


def _norm_silu(x: Tensor) -> Tensor:
    return F.silu(pixel_norm(x), inplace=True)


class CausalConv2d(nn.Module):
    """3 × 3 (or 1 × 1) convolution that sees the past and the present in time, both neighbours in frequency."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 3, *, ops, **factory):
        super().__init__()
        self.conv = ops.Conv2d(channels, out_channels, kernel, padding=(kernel - 1, kernel // 2), **factory)

    def forward(self, x: Tensor) -> Tensor:
        # The convolution pads both ends of time alike: the rows that see beyond the last are cut, which saves a padded
        # copy.
        return self.conv(x)[:, :, : x.shape[2]]


class AudioResBlock(nn.Module):
    """[B, C, T, F] → [B, C', T, F]: two causal convolutions and the input, widened where the channels change."""

    def __init__(self, channels: int, out_channels: int, **factory):
        super().__init__()
        self.conv1 = CausalConv2d(channels, out_channels, **factory)
        self.conv2 = CausalConv2d(out_channels, out_channels, **factory)
        if channels != out_channels:
            self.nin_shortcut = CausalConv2d(channels, out_channels, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(_norm_silu(x))
        h = self.conv2(_norm_silu(h))
        return h.add_(self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AudioDownsample(nn.Module):
    """n rows → ceil(n/2) in time, half of them in frequency."""

    def __init__(self, channels: int, *, ops, **factory):
        super().__init__()
        self.conv = ops.Conv2d(channels, channels, 3, stride=2, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 2, 0)))


class AudioUpsample(nn.Module):
    """n rows → 2n-1 in time, twice in frequency: the first row stands for one moment, every other for two."""

    def __init__(self, channels: int, **factory):
        super().__init__()
        self.conv = CausalConv2d(channels, channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))[:, :, 1:]


class _Level(nn.Module):
    """Res blocks of one resolution; the encoder and the decoder hang their resampling under its own name."""

    downsample: AudioDownsample
    upsample: AudioUpsample

    def __init__(self, channels: int, out_channels: int, blocks: int, **factory):
        super().__init__()
        self.block = nn.ModuleList(
            AudioResBlock(out_channels if i else channels, out_channels, **factory) for i in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return x


class _Middle(nn.Module):
    def __init__(self, channels: int, **factory):
        super().__init__()
        self.block_1 = AudioResBlock(channels, channels, **factory)
        self.block_2 = AudioResBlock(channels, channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.block_1(x))


def _tokens(latent: Tensor) -> Tensor:
    """[B, C, T, F] → [B, T, C·F], the order that the statistics are stored in."""
    return latent.transpose(1, 2).flatten(2)


def _latent(tokens: Tensor, channels: int) -> Tensor:
    """[B, T, C·F] → [B, C, T, F]."""
    return tokens.unflatten(2, (channels, -1)).transpose(1, 2)


class AudioEncoder(nn.Module):
    """Log-mel [B, 2, T, 64] → normalised latent [B, 8, ceil(T/4), 16], float32. Never sampled: the mean is the
    latent."""

    def __init__(self, config: AudioVaeConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        factory = dict(ops=full_precision(ops), device=device, dtype=dtype)
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = CausalConv2d(config.sound_channels, config.channels, **factory)
        self.down = nn.ModuleList()
        for index, (before, width) in enumerate(zip([config.channels, *widths], widths)):
            level = _Level(before, width, config.res_blocks, **factory)
            if index < len(widths) - 1:
                level.downsample = AudioDownsample(width, **factory)
            self.down.append(level)
        self.mid = _Middle(widths[-1], **factory)
        self.conv_out = CausalConv2d(widths[-1], config.encoder_out_channels, **factory)
        self.per_channel_statistics = PerChannelStatistics(config.feature_channels, device=device, dtype=dtype)

    def forward(self, mel: Tensor) -> Tensor:
        require_shape(mel, "mel to encode", self.config.sound_channels, self.config.mel_bins)
        h = self.conv_in(mel.float())  # [B, ch, T, 64]
        for level in list_of(_Level, self.down):
            h = level(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
        h = self.mid(h)  # [B, 4 ch, ceil(T/4), 16]
        mean = self.conv_out(_norm_silu(h))[:, : self.config.latent_channels]
        return _latent(self.per_channel_statistics.normalize(_tokens(mean), dim=-1), self.config.latent_channels)

    @property
    def latents_seen(self) -> int:
        """How many latents before its own a latent shares mel frames with, at most."""
        rows = 2 + 8  # conv_out and two middle blocks; every causal 3 × 3 convolution looks two rows back
        for level in reversed(list_of(_Level, self.down)):
            if level is not self.down[-1]:
                rows = 2 * rows + 2  # one row was two, and the convolution between looks two further back
            rows += 4 * len(level.block)
        return -(-(rows + 2) // clock.MEL_FRAMES_PER_LATENT)  # conv_in


class AudioDecoder(nn.Module):
    """Normalised latent [B, 8, T, 16] → log-mel [B, 2, 4T-3, 64], float32."""

    def __init__(self, config: AudioVaeConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        factory = dict(ops=full_precision(ops), device=device, dtype=dtype)
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = CausalConv2d(config.latent_channels, widths[-1], **factory)
        self.mid = _Middle(widths[-1], **factory)
        self.up = nn.ModuleList()  # numbered by resolution, run from the coarsest (last) to the finest
        for index, (width, before) in enumerate(zip(widths, [*widths[1:], widths[-1]])):
            level = _Level(before, width, config.res_blocks + 1, **factory)
            if index:
                level.upsample = AudioUpsample(width, **factory)
            self.up.append(level)
        self.conv_out = CausalConv2d(widths[0], config.sound_channels, **factory)
        self.per_channel_statistics = PerChannelStatistics(config.feature_channels, device=device, dtype=dtype)

    def forward(self, latent: Tensor) -> Tensor:
        require_shape(latent, "audio latent to decode", self.config.latent_channels, self.config.latent_bins)
        z = _latent(
            self.per_channel_statistics.un_normalize(_tokens(latent.float()), dim=-1), self.config.latent_channels
        )
        h = self.mid(self.conv_in(z))  # [B, 4 ch, T, 16]
        for level in reversed(list_of(_Level, self.up)):
            h = level(h)
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        mel = self.conv_out(_norm_silu(h))
        frames = clock.mel_frames_of_latents(latent.shape[2])
        mel = mel[:, :, :frames, : self.config.mel_bins]
        # Layouts with fewer levels fall short of the full mel; the official decoder fills them with zeros.
        return F.pad(mel, (0, self.config.mel_bins - mel.shape[3], 0, frames - mel.shape[2]))

    @property
    def latents_seen(self) -> int:
        """How many latents before its own a mel frame depends on, at most."""
        rows = 2  # conv_out; every causal 3 × 3 convolution looks two rows back
        for level in list_of(_Level, self.up):
            rows += 4 * len(level.block)
            if level is not self.up[-1]:
                rows = (rows + 3) // 2  # through the convolution after upsampling, then two rows become one
        return rows + 8 + 2  # two middle blocks and conv_in
