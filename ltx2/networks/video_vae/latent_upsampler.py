"""Latent upsampler: a video latent with more rows and columns, or more frames. Checked against ltx-core 1.0.0 and
diffusers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.upsampler import UpsamplerConfig
from ...errors import RequestError
from ..layers.ops import TORCH_OPS, compute_dtype
from ..layers.statistics import PerChannelStatistics
from ..layers.typed_modules import list_of


class _UpsamplerBlock(nn.Module):
    def __init__(self, channels: int, *, ops, **factory):
        super().__init__()
        self.conv1 = ops.Conv3d(channels, channels, 3, padding=1, **factory)
        self.norm1 = ops.GroupNorm(32, channels, **factory)
        self.conv2 = ops.Conv3d(channels, channels, 3, padding=1, **factory)
        self.norm2 = ops.GroupNorm(32, channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm1(self.conv1(x)), inplace=True)
        return F.silu(self.norm2(self.conv2(h)).add_(x), inplace=True)


class _BlurDown(nn.Module):
    """Binomial 5 × 5 blur, keeping every ``stride``-th row and column; nothing at all for a stride of 1."""

    kernel: Tensor

    def __init__(self, stride: int, *, device=None, dtype=None):
        super().__init__()
        self.stride = stride
        row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device="cpu")
        self.register_buffer(
            "kernel", (row[:, None] * row / 256)[None, None].to(device=device, dtype=dtype)
        )  # [1, 1, 5, 5]

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        channels = x.shape[1]
        return F.conv2d(
            x, self.kernel.to(x).expand(channels, -1, -1, -1), stride=self.stride, padding=2, groups=channels
        )


class _Resampler(nn.Module):
    """[N, C, H, W] → rows and columns times up/down."""

    def __init__(self, channels: int, up: int, down: int, *, ops, **factory):
        super().__init__()
        self.up = up
        self.conv = ops.Conv2d(channels, up * up * channels, 3, padding=1, **factory)
        self.blur_down = _BlurDown(down, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.blur_down(F.pixel_shuffle(self.conv(x), self.up))


def _spread(x: Tensor, time: int, side: int) -> Tensor:
    """[B, C·time·side·side, T, H, W] → [B, C, T·time, H·side, W·side]."""
    x = x.unflatten(1, (-1, time, side, side)).permute(0, 1, 5, 2, 6, 3, 7, 4)  # [B, C, T, time, H, side, W, side]
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


class LatentUpsampler(nn.Module):
    """Un-normalised latent [B, C, T, H, W] → [B, C, T', H', W'].

    Space: H' = 2H (or ceil(1.5 H)); time: T' = 2T-1, the first latent frame standing for one picture as before.
    Its group norms span the whole clip, so a clip cannot be cut into pieces.
    """

    def __init__(self, config: UpsamplerConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        factory = dict(device=device, dtype=dtype)
        width = config.mid_channels
        self.upsampler: nn.ModuleList | _Resampler
        self.initial_conv = ops.Conv3d(config.channels, width, 3, padding=1, **factory)
        self.initial_norm = ops.GroupNorm(32, width, **factory)
        self.res_blocks = nn.ModuleList(_UpsamplerBlock(width, ops=ops, **factory) for _ in range(config.blocks))
        if config.temporal:
            factor = 8 if config.spatial else 2
            self.upsampler = nn.ModuleList([ops.Conv3d(width, factor * width, 3, padding=1, **factory)])
        elif config.rational:
            self.upsampler = _Resampler(width, *config.scale, ops=ops, **factory)
        else:
            self.upsampler = nn.ModuleList([ops.Conv2d(width, 4 * width, 3, padding=1, **factory)])
        self.post_upsample_res_blocks = nn.ModuleList(
            _UpsamplerBlock(width, ops=ops, **factory) for _ in range(config.blocks)
        )
        self.final_conv = ops.Conv3d(width, config.channels, 3, padding=1, **factory)

    def forward(self, latent: Tensor) -> Tensor:
        x = F.silu(self.initial_norm(self.initial_conv(latent)), inplace=True)
        for block in self.res_blocks:
            x = block(x)
        x = self._upsample(x)
        for block in self.post_upsample_res_blocks:
            x = block(x)
        return self.final_conv(x)

    def _upsample(self, x: Tensor) -> Tensor:
        config = self.config
        upsampler = self.upsampler
        if config.temporal:
            return _spread(list_of(nn.Module, upsampler)[0](x), 2, 2 if config.spatial else 1)[:, :, 1:]
        frames = x.transpose(1, 2).flatten(0, 1)  # [B·T, C, H, W]
        frames = upsampler(frames) if config.rational else F.pixel_shuffle(list_of(nn.Module, upsampler)[0](frames), 2)
        return frames.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def upsample(upsampler: LatentUpsampler, latent: Tensor, statistics: PerChannelStatistics) -> Tensor:
    """Normalised latent → larger normalised latent of the same type: un-normalise, upsample, normalise.

    latent: [B, C, T, H, W]; statistics: those of the video VAE. The network runs in the type of its own weights.
    Raises RequestError for another shape.
    """
    channels = upsampler.config.channels
    if latent.ndim != 5 or latent.shape[1] != channels:
        raise RequestError(
            f"latent has shape {list(latent.shape)}, expected [batch, {channels}, frames, rows, columns] for this "
            "upsampler"
        )
    weights = compute_dtype(upsampler)
    upsampled = upsampler(statistics.un_normalize(latent).to(weights))
    return statistics.normalize(upsampled.to(latent.dtype))
