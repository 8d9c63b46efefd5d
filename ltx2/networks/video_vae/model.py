"""The video VAE: pictures to latents and, by convolutions, back. 8 × 32 × 32 to one, the first frame on its own.

Formulas checked against ltx-core 1.0.0 and diffusers. Every convolution reads from a buffer that is made in one go:
edge frames repeated, borders mirrored where the padding mode asks for it, normalisation and activation written straight
into it. So a res block never holds more than three tensors of its size, and a stream of pieces (see video_streaming)
runs through exactly the same steps as a whole clip.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clock import latent_frames
from ...config.video_vae import VideoBlock, VideoVaeConfig
from ...errors import RequestError
from ..layers.ops import TORCH_OPS
from ..layers.statistics import PerChannelStatistics

PIXEL_NORM_EPS = 1e-8
# A timestep-conditioned decoder gets slightly noised latents, and is told so.
DECODE_NOISE = 0.025
DECODE_TIMESTEP = 0.05
TIMESTEP_FREQUENCIES = 256


@dataclass(frozen=True)
class DecoderModulation:
    """Scale and shift after a norm, each [B, C, 1, 1, 1]."""

    shift: Tensor
    scale: Tensor


# --- pieces --------------------------------------------------------------------------------------------------------


def activate_into(target: Tensor, x: Tensor, modulation: DecoderModulation | None = None) -> None:
    """Write silu(pixel norm of x) into ``target`` of the same shape, which doubles as the scratch for the squares."""
    torch.mul(x, x, out=target)
    scale = target.mean(1, keepdim=True, dtype=torch.float32)  # [B, 1, F, H, W]
    torch.mul(x, scale.add_(PIXEL_NORM_EPS).rsqrt_().to(x.dtype), out=target)
    if modulation is not None:
        target.mul_(1 + modulation.scale).add_(modulation.shift)
    F.silu(target, inplace=True)


def patchify(x: Tensor, size: int) -> Tensor:
    """[B, C, F, H, W] → [B, C·size², F, H/size, W/size]; the offset along the width is the slower channel index."""
    b, c, f, h, w = x.shape
    x = x.reshape(b, c, f, h // size, size, w // size, size)
    return x.permute(0, 1, 6, 4, 2, 3, 5).reshape(b, c * size * size, f, h // size, w // size)


def unpatchify(x: Tensor, size: int) -> Tensor:
    """Inverse of :func:`patchify`."""
    b, c, f, h, w = x.shape
    x = x.reshape(b, c // (size * size), size, size, f, h, w)  # width offset, height offset
    return x.permute(0, 1, 4, 5, 3, 6, 2).reshape(b, -1, f, h * size, w * size)


def space_to_depth(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """[B, C, F, H, W] → [B, C·P, F/t, H/h, W/w], channels ordered (c, dt, dh, dw)."""
    t, r, s = stride
    b, c, f, h, w = x.shape
    x = x.reshape(b, c, f // t, t, h // r, r, w // s, s)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * t * r * s, f // t, h // r, w // s)


def depth_to_space(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Inverse of :func:`space_to_depth`."""
    t, r, s = stride
    b, c, f, h, w = x.shape
    x = x.reshape(b, c // (t * r * s), t, r, s, f, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, -1, f * t, h * r, w * s)


class CausalConv(nn.Module):
    """3×3×3 convolution over a buffer that already holds its padding in time (and in space, unless that is zeros)."""

    def __init__(self, channels: int, out_channels: int, padding_mode: str, *, ops, device=None, dtype=None):
        super().__init__()
        self.border = 1 if padding_mode == "reflect" else 0
        padding = (0, 0, 0) if self.border else (0, 1, 1)
        self.conv = ops.Conv3d(channels, out_channels, 3, padding=padding, device=device, dtype=dtype)

    def fill(
        self,
        parts: list[Tensor],
        front: int,
        back: int,
        *,
        ready: Tensor | None = None,
        activate: bool = False,
        modulation: DecoderModulation | None = None,
    ) -> Tensor:
        """The convolution's input: ``ready`` frames as they are, then ``parts`` [B, C, n, H, W] one after the other.

        front, back: how often the first and the last frame are repeated outside; activate: norm and silu of the parts.
        """
        b, c, _, h, w = parts[0].shape
        held = 0 if ready is None else ready.shape[2]
        frames = front + held + sum(part.shape[2] for part in parts) + back
        buffer = parts[0].new_empty(b, c, frames, h + 2 * self.border, w + 2 * self.border)
        inside = self.inside(buffer)
        at = front
        if ready is not None:
            inside[:, :, at : at + held].copy_(ready)
            at += held
        for part in parts:
            target = inside[:, :, at : at + part.shape[2]]
            if activate:
                activate_into(target, part, modulation)
            else:
                target.copy_(part)
            at += part.shape[2]
        if front:
            inside[:, :, :front] = inside[:, :, front : front + 1]
        if back:
            inside[:, :, at:] = inside[:, :, at - 1 : at]
        return buffer

    def inside(self, buffer: Tensor) -> Tensor:
        """The buffer without its mirrored border."""
        return buffer[..., 1:-1, 1:-1] if self.border else buffer

    def forward(self, buffer: Tensor) -> Tensor:
        """buffer [B, C, n+2, H(+2), W(+2)] from :meth:`fill` → [B, C', n, H, W]."""
        if self.border:
            buffer[..., 0, :] = buffer[..., 2, :]
            buffer[..., -1, :] = buffer[..., -3, :]
            buffer[..., 0] = buffer[..., 2]
            buffer[..., -1] = buffer[..., -3]
        return self.conv(buffer)

    def whole(self, x: Tensor, causal: bool, **options: Any) -> Tensor:
        """Convolve a whole clip."""
        return self(self.fill([x], *edge_frames(causal), **options))


def edge_frames(causal: bool) -> tuple[int, int]:
    """How often the first and the last frame are repeated outside the clip."""
    return (2, 0) if causal else (1, 1)


class ResBlock(nn.Module):
    """x + conv2(act(conv1(act(x))))."""

    def __init__(self, channels: int, padding_mode: str, *, timestep=False, noise=False, ops, device=None, dtype=None):
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.conv1 = CausalConv(channels, channels, padding_mode, ops=ops, **factory)
        self.conv2 = CausalConv(channels, channels, padding_mode, ops=ops, **factory)
        if timestep:
            self.scale_shift_table = nn.Parameter(torch.zeros(4, channels, **factory), requires_grad=False)
        if noise:
            self.per_channel_scale1 = nn.Parameter(torch.zeros(channels, 1, 1, **factory), requires_grad=False)
            self.per_channel_scale2 = nn.Parameter(torch.zeros(channels, 1, 1, **factory), requires_grad=False)

    def modulations(self, embedding: Tensor | None) -> tuple[DecoderModulation | None, DecoderModulation | None]:
        """What the two norms are followed by; embedding [B, 4C] of the timestep or None."""
        if embedding is None:
            return None, None
        rows = self.scale_shift_table.to(embedding) + embedding.unflatten(-1, (4, -1))  # [B, 4, C]
        shift1, scale1, shift2, scale2 = rows[..., None, None, None].unbind(1)
        return DecoderModulation(shift1, scale1), DecoderModulation(shift2, scale2)

    def noise(self, which: int, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """The noise plane that is added to every frame after convolution 1 or 2, [C, 1, H, W]; None where none is
        wanted."""
        scale = getattr(self, f"per_channel_scale{which}", None)
        if scale is None or generator is None:
            return None
        plane = torch.randn(x.shape[-2:], generator=generator, device=x.device, dtype=x.dtype)
        return (plane * scale.to(x))[:, None]

    def forward(
        self, x: Tensor, causal: bool, embedding: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        first, second = self.modulations(embedding)
        hidden = self.conv1.whole(x, causal, activate=True, modulation=first)
        noise = self.noise(1, hidden, generator)
        if noise is not None:
            hidden += noise
        # Rebinding frees each tensor before the next of its size is made.
        hidden = self.conv2.fill([hidden], *edge_frames(causal), activate=True, modulation=second)
        hidden = self.conv2(hidden)
        noise = self.noise(2, hidden, generator)
        if noise is not None:
            hidden += noise
        return hidden.add_(x)


class TimestepEmbedder(nn.Module):
    """Sinusoid of the scaled timestep through two layers, [B] → [B, width]."""

    def __init__(self, width: int, *, ops, device=None, dtype=None):
        super().__init__()
        to = {"device": device, "dtype": dtype}
        layers = {"linear_1": ops.Linear(TIMESTEP_FREQUENCIES, width, **to), "linear_2": ops.Linear(width, width, **to)}
        self.timestep_embedder = nn.ModuleDict(layers)

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        half = TIMESTEP_FREQUENCIES // 2
        steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep.float()[:, None] * torch.exp(-math.log(10000) * steps / half)
        wave = torch.cat([angles.cos(), angles.sin()], -1).to(dtype)
        return self.timestep_embedder["linear_2"](F.silu(self.timestep_embedder["linear_1"](wave)))


class ResBlocks(nn.Module):
    """Several res blocks of one width; with timestep conditioning they share an embedding of the timestep.

    Whoever runs them goes through ``res_blocks`` itself: a forward here would keep the first block's input alive.
    """

    def __init__(
        self, block: VideoBlock, channels: int, padding_mode: str, *, timestep=False, ops, device=None, dtype=None
    ):
        super().__init__()
        factory = {"ops": ops, "device": device, "dtype": dtype}
        if timestep:
            self.time_embedder = TimestepEmbedder(4 * channels, **factory)
        self.res_blocks = nn.ModuleList(
            ResBlock(channels, padding_mode, timestep=timestep, noise=block.inject_noise, **factory)
            for _ in range(block.layers)
        )

    def embedding(self, timestep: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """The embedding of a timestep [B], where the blocks take one: [B, 4C]."""
        return None if timestep is None else self.time_embedder(timestep, dtype)


class VideoDownsample(nn.Module):
    """Space-to-depth of a convolution, plus the input's own space-to-depth averaged over groups of consecutive
    channels."""

    def __init__(self, block: VideoBlock, channels: int, padding_mode: str, *, ops, device=None, dtype=None):
        super().__init__()
        self.stride = block.stride
        self.out_channels = channels * block.multiplier
        self.conv = CausalConv(
            channels, self.out_channels // math.prod(block.stride), padding_mode, ops=ops, device=device, dtype=dtype
        )

    def skip(self, x: Tensor) -> Tensor:
        """The input's own space-to-depth, averaged to the output's channels."""
        folded = space_to_depth(x, self.stride)  # [B, P·C, F/t, H/h, W/w]
        return folded.unflatten(1, (self.out_channels, -1)).mean(2)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            x = torch.cat([x[:, :, :1], x], 2)
        out = space_to_depth(self.conv.whole(x, True), self.stride)
        return out.add_(self.skip(x))


class VideoUpsample(nn.Module):
    """Depth-to-space of a convolution, with the residual form plus the input's own, repeated along the channels as a
    whole."""

    def __init__(self, block: VideoBlock, channels: int, padding_mode: str, *, ops, device=None, dtype=None):
        super().__init__()
        self.stride = block.stride
        self.residual = block.residual
        out_channels = channels // block.multiplier * math.prod(block.stride)
        self.conv = CausalConv(channels, out_channels, padding_mode, ops=ops, device=device, dtype=dtype)

    def expand(self, out: Tensor, x: Tensor) -> Tensor:
        """Convolution output and the input frames it belongs to → upsampled frames, none dropped yet."""
        out = depth_to_space(out, self.stride)
        if self.residual:
            skip = depth_to_space(x, self.stride)  # [B, C/P, F·t, H·h, W·w]
            out.unflatten(1, (-1, skip.shape[1])).add_(skip[:, None])
        return out

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        out = self.expand(self.conv.whole(x, causal), x)
        return out[:, :, 1:] if self.stride[0] == 2 else out


# --- networks ------------------------------------------------------------------------------------------------------


class VideoEncoder(nn.Module):
    """Pictures → normalised latent. Causal in time: a latent frame never depends on later frames."""

    def __init__(self, config: VideoVaeConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        factory = {"ops": ops, "device": device, "dtype": dtype}
        mode, width = config.encoder_padding, config.encoder_channels
        self.conv_in = CausalConv(3 * config.patch_size**2, width, mode, **factory)
        self.down_blocks = nn.ModuleList()
        for block in config.encoder_blocks:
            if block.layers:
                self.down_blocks.append(ResBlocks(block, width, mode, **factory))
            else:
                self.down_blocks.append(VideoDownsample(block, width, mode, **factory))
                width *= block.multiplier
        self.conv_out = CausalConv(width, config.latent_channels + config.log_variance_channels, mode, **factory)
        self.per_channel_statistics = PerChannelStatistics(config.latent_channels, device=device, dtype=dtype)

    def check_picture(self, frames: Tensor) -> None:
        """Raise RequestError unless ``frames`` is [B, 3, F, 32·h, 32·w]."""
        if frames.ndim != 5 or frames.shape[1] != 3:
            raise RequestError(
                f"pictures to encode have shape {list(frames.shape)}, expected [B, 3, frames, height, width] in RGB"
            )
        unit = self.config.space_compression
        height, width = frames.shape[-2:]
        if not height or not width or height % unit or width % unit:
            near = " × ".join(str(max(1, round(side / unit)) * unit) for side in (width, height))
            raise RequestError(
                f"pictures are {width} × {height} px, expected sides that are multiples of {unit}: resize to {near}"
            )

    def check(self, frames: Tensor) -> None:
        """Raise RequestError unless ``frames`` is [B, 3, 8k+1, 32·h, 32·w]."""
        self.check_picture(frames)
        latent_frames(frames.shape[2])

    def forward(self, frames: Tensor) -> Tensor:
        """frames [B, 3, 8k+1, H, W] in -1…1 → normalised latent [B, C, k+1, H/32, W/32]. Raises RequestError for other
        sizes."""
        self.check(frames)
        x = self.conv_in.whole(patchify(frames, self.config.patch_size), True)
        for block in self.down_blocks:
            if isinstance(block, ResBlocks):
                for res_block in block.res_blocks:
                    x = res_block(x, True)
            else:
                x = block(x)
        return self.latent(self.conv_out.whole(x, True, activate=True))

    def latent(self, moments: Tensor) -> Tensor:
        """The means among the last layer's channels, normalised; the log-variances are never used."""
        return self.per_channel_statistics.normalize(moments[:, : self.config.latent_channels])


class VideoDecoder(nn.Module):
    """Normalised latent → pictures, by convolutions that look both ways in time."""

    def __init__(self, config: VideoVaeConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        factory = {"ops": ops, "device": device, "dtype": dtype}
        mode, width, timestep = config.decoder_padding, config.bottleneck_channels, config.timestep_conditioning
        self.conv_in = CausalConv(config.latent_channels, width, mode, **factory)
        self.up_blocks = nn.ModuleList()
        for block in config.decoder_blocks:
            if block.layers:
                self.up_blocks.append(ResBlocks(block, width, mode, timestep=timestep, **factory))
            else:
                self.up_blocks.append(VideoUpsample(block, width, mode, **factory))
                width //= block.multiplier
        self.conv_out = CausalConv(width, 3 * config.patch_size**2, mode, **factory)
        if timestep:
            self.timestep_scale_multiplier = nn.Parameter(
                torch.tensor(1000.0, device=device, dtype=dtype), requires_grad=False
            )
            self.last_time_embedder = TimestepEmbedder(2 * width, **factory)
            self.last_scale_shift_table = nn.Parameter(
                torch.zeros(2, width, device=device, dtype=dtype), requires_grad=False
            )
        self.per_channel_statistics = PerChannelStatistics(config.latent_channels, device=device, dtype=dtype)

    def check(self, latent: Tensor) -> None:
        """Raise RequestError unless the latent has this decoder's channels and enough rows and columns."""
        channels = self.config.latent_channels
        if latent.ndim != 5 or latent.shape[1] != channels or not latent.numel():
            raise RequestError(
                f"latent to decode has shape {list(latent.shape)}, expected [B, {channels}, frames, rows, columns]"
            )
        if self.config.decoder_padding == "reflect" and min(latent.shape[3:]) < 2:
            rows, columns = latent.shape[3:]
            raise RequestError(
                f"latent has {rows} rows and {columns} columns, this decoder needs 2 of each: use 64 px or more a side"
            )

    def prepare(self, latent: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """The latent, still normalised, and the scaled timestep [B]; both only change with timestep conditioning."""
        timestep = None
        if self.config.timestep_conditioning:
            if generator is not None:
                noise = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
                latent = DECODE_NOISE * noise + (1 - DECODE_NOISE) * latent
            timestep = (DECODE_TIMESTEP * self.timestep_scale_multiplier.to(latent)).expand(latent.shape[0])
        return latent, timestep

    def last_modulation(self, timestep: Tensor | None, dtype: torch.dtype) -> DecoderModulation | None:
        """Scale and shift of the last norm at a timestep, where the decoder takes one."""
        if timestep is None:
            return None
        embedding = self.last_time_embedder(timestep, dtype)
        rows = self.last_scale_shift_table.to(embedding) + embedding.unflatten(-1, (2, -1))  # [B, 2, C]
        shift, scale = rows[..., None, None, None].unbind(1)
        return DecoderModulation(shift, scale)

    def forward(self, latent: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """latent [B, C, T, h, w] → pixels [B, 3, 8(T-1)+1, 32h, 32w] in about -1…1.

        generator: of the noise in a timestep-conditioned decoder and in noise-injecting blocks; None leaves it out.
        Raises RequestError for a latent that does not fit.
        """
        self.check(latent)
        causal = self.config.causal_decoder
        latent, timestep = self.prepare(latent, generator)
        x = self.conv_in.whole(self.per_channel_statistics.un_normalize(latent), causal)
        for block in self.up_blocks:
            if isinstance(block, ResBlocks):
                embedding = block.embedding(timestep, x.dtype)
                for res_block in block.res_blocks:
                    x = res_block(x, causal, embedding, generator)
            else:
                x = block(x, causal)
        x = self.conv_out.whole(x, causal, activate=True, modulation=self.last_modulation(timestep, x.dtype))
        return unpatchify(x, self.config.patch_size)
