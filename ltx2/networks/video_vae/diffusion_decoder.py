"""The diffusion decoder of LTX-2.5: latents become a context volume, and pixels are denoised in it.

Checked against ltx-core 1.2.0 and diffusers. Everything but attention works on each position alone, so it is computed
in
pieces: no tensor wider than a stage's channels ever exists for the whole clip.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.diffusion_decoder import DiffusionDecoderConfig
from ...errors import RequestError
from ..layers.adaln import SINUSOID_WIDTH, sinusoid
from ..layers.ops import TORCH_OPS, Ops
from ..layers.statistics import PerChannelStatistics
from ..layers.typed_modules import dict_of, list_of
from .neighborhood_attention import Grid, neighborhood_attention, window_starts

NORM_EPS = 1e-6
ROPE_BASE = 10000.0
MODULATION_ROWS = 7  # scale, shift, gate of attention; scale, shift, gate of the MLP; gate of the context
PIECE_ELEMENTS = 2**24  # of the widest tensor of one piece: 32 MiB in bfloat16
WIDTH_CHUNKS = 4  # of attention in low-memory mode
DEFAULT_SEED = 0


def pieces(count: int, width: int) -> Iterator[slice]:
    """Slices of ``count`` positions, so few at a time that ``width`` values for each stay small."""
    step = max(256, PIECE_ELEMENTS // width)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


class NeighborhoodAttention(nn.Module):
    """Attention within a window, with normalised and rotated queries and keys."""

    def __init__(self, channels: int, kernel: Grid, head_dim: int, *, ops: Ops, **to):
        super().__init__()
        self.qkv = ops.Linear(channels, 3 * channels, **to)
        self.q_norm = ops.RMSNorm(head_dim, eps=NORM_EPS, **to)
        self.k_norm = ops.RMSNorm(head_dim, eps=NORM_EPS, **to)
        self.proj = ops.Linear(channels, channels, **to)
        self.kernel = kernel
        self.heads = channels // head_dim
        self.head_dim = head_dim

    def add_to(self, x: Tensor, prepare: Callable[[Tensor], Tensor], *, low_memory: bool) -> None:
        """x += proj(attention(prepare(x))) in place, x [B, T, H, W, C]; prepare works on each position alone."""
        columns = x.shape[3]
        if low_memory and columns > WIDTH_CHUNKS * self.kernel[2]:
            # Columns that a chunk's windows reach into are computed again by its neighbours; nothing changes.
            starts = window_starts(columns, self.kernel[2])
            attended = torch.empty_like(x)
            step = -(-columns // WIDTH_CHUNKS)
            for first in range(0, columns, step):
                last = min(first + step, columns)
                origin, end = starts[first], starts[last - 1] + self.kernel[2]
                part = self._attend(x[:, :, :, origin:end], prepare, origin)
                attended[:, :, :, first:last] = part[:, :, :, first - origin : last - origin]
                del part
        else:
            attended = self._attend(x, prepare, 0)
        flat, attended = x.view(-1, x.shape[-1]), attended.flatten(0, 3)
        for piece in pieces(len(flat), x.shape[-1]):
            flat[piece] += self.proj(attended[piece])

    def _attend(self, x: Tensor, prepare: Callable[[Tensor], Tensor], first_column: int) -> Tensor:
        batch, frames, rows, columns, channels = x.shape
        grid = frames, rows, columns
        flat = x.reshape(-1, channels)
        q, k, v = (x.new_empty(batch, *grid, self.heads, self.head_dim) for _ in range(3))
        angles = rotation_angles(grid, self.head_dim, first_column, x.device)
        for piece in pieces(len(flat), 3 * channels):
            parts = self.qkv(prepare(flat[piece])).unflatten(
                -1, (3, self.heads, self.head_dim)
            )  # [n, 3, heads, head_dim]
            turn = angles_at(angles, piece)
            q.flatten(0, 3)[piece] = rotate(self.q_norm(parts[:, 0]) * self.head_dim**-0.5, turn)
            k.flatten(0, 3)[piece] = rotate(self.k_norm(parts[:, 1]), turn)
            v.flatten(0, 3)[piece] = parts[:, 2]
        return neighborhood_attention(q, k, v, self.kernel).flatten(-2)


def rotation_angles(grid: Grid, head_dim: int, first_column: int, device: torch.device | str) -> list[Tensor]:
    """Rotary angles along time, rows and columns of a grid: three tables [positions, pairs of neighbouring values]."""
    # A quarter of the head for time, the rest in halves; each part holds whole pairs.
    time = head_dim // 4 // 2 * 2
    if (head_dim - time) // 2 % 2:
        time -= 2
    space = (head_dim - time) // 2
    tables = []
    for size, width, first in zip(grid, (time, space, space), (0, 0, first_column)):
        exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
        frequencies = (ROPE_BASE**-exponents).to(device, torch.float32)
        tables.append((torch.arange(size, device=device, dtype=torch.float32) + first)[:, None] * frequencies)
    return tables


def angles_at(tables: list[Tensor], piece: slice) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n, 1, pairs] at positions ``piece`` of the flattened (batch, time, rows, columns)."""
    frames, rows, columns = (len(table) for table in tables)
    index = torch.arange(piece.start, piece.stop, device=tables[0].device)
    where = (index // (rows * columns) % frames, index // columns % rows, index % columns)
    angles = torch.cat([table[i] for table, i in zip(tables, where)], -1)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs of neighbouring values of x [n, heads, head_dim], in float32."""
    cos, sin = turn
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


class Mlp(nn.Module):
    """SwiGLU of four times the width."""

    def __init__(self, channels: int, *, ops: Ops, **to):
        super().__init__()
        self.hidden = -(-4 * channels // 16) * 16
        self.w_up = ops.Linear(channels, self.hidden, bias=False, **to)
        self.w_gate = ops.Linear(channels, self.hidden, bias=False, **to)
        self.w_down = ops.Linear(self.hidden, channels, bias=False, **to)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_down(F.silu(self.w_gate(x)).mul_(self.w_up(x)))

    def add_to(self, x: Tensor, prepare: Callable[[Tensor], Tensor]) -> None:
        """x += mlp(prepare(x)) in place."""
        flat = x.view(-1, x.shape[-1])
        for piece in pieces(len(flat), self.hidden):
            flat[piece] += self(prepare(flat[piece]))


class SpatialBlock(nn.Module):
    """A block of the first four stages."""

    def __init__(self, channels: int, kernel: Grid, head_dim: int, *, ops: Ops, **to):
        super().__init__()
        self.norm1 = ops.RMSNorm(channels, eps=NORM_EPS, **to)
        self.attn = NeighborhoodAttention(channels, kernel, head_dim, ops=ops, **to)
        self.norm2 = ops.RMSNorm(channels, eps=NORM_EPS, **to)
        self.mlp = Mlp(channels, ops=ops, **to)

    def add_to(self, x: Tensor, *, low_memory: bool) -> None:
        """Add attention and feed-forward to x [B, T, H, W, C], in place."""
        self.attn.add_to(x, self.norm1, low_memory=low_memory)
        self.mlp.add_to(x, self.norm2)


class DiffusionBlock(SpatialBlock):
    """A block of the last stage: it takes in the context, and its norms depend on the time of denoising."""

    def __init__(self, channels: int, kernel: Grid, head_dim: int, *, ops: Ops, **to):
        super().__init__(channels, kernel, head_dim, ops=ops, **to)
        self.context_proj = ops.Linear(channels, channels, **to)
        self.scale_shift_table = nn.Parameter(torch.zeros(MODULATION_ROWS, channels, **to), requires_grad=False)

    def add_modulated(self, x: Tensor, context: "Context", modulation: Tensor, *, low_memory: bool) -> None:
        """modulation: [7, C]; its gates are not used, they are part of the weights (see fold_gates)."""
        for frames in context.pieces():
            x[:, frames] += self.context_proj(context.at(frames))
        rows = modulation + self.scale_shift_table.to(modulation)
        scale_attn, shift_attn, _, scale_mlp, shift_mlp, _, _ = rows
        self.attn.add_to(
            x, lambda part: torch.addcmul(shift_attn, self.norm1(part), 1 + scale_attn), low_memory=low_memory
        )
        self.mlp.add_to(x, lambda part: torch.addcmul(shift_mlp, self.norm2(part), 1 + scale_mlp))


class DiffusionUpsample(nn.Module):
    """More positions of fewer channels."""

    def __init__(self, channels: int, stride: Grid, reduction: int, *, ops: Ops, **to):
        super().__init__()
        self.stride = stride
        self.channels = channels // reduction
        self.proj = ops.Linear(channels, stride[0] * stride[1] * stride[2] * self.channels, **to)

    @property
    def repeats(self) -> int:
        """Frames made of the clip's frame 0 that are dropped, as it stands for one frame alone."""
        return self.stride[0] - 1

    def forward(self, x: Tensor, drop: int = 0) -> Tensor:
        """[B, T, H, W, C] → [B, T·st - drop, H·sh, W·sw, C / reduction] without the first ``drop`` frames.

        The channels of the projection are in the order (c, t, h, w).
        """
        batch, frames, rows, columns, _ = x.shape
        st, sh, sw = self.stride
        out = x.new_empty(batch, frames * st - drop, rows * sh, columns * sw, self.channels)
        for clip in range(batch):
            for frame in range(frames):
                wide = self.proj(x[clip, frame]).view(rows, columns, self.channels, st, sh, sw)
                wide = wide.permute(3, 0, 4, 1, 5, 2)  # [st, rows, sh, columns, sw, C']
                first = frame * st - drop
                target = out[clip, max(first, 0) : first + st]
                target.view(-1, rows, sh, columns, sw, self.channels).copy_(wide[max(-first, 0) :])
        return out


@dataclass(frozen=True)
class Context:
    """What the last stage is told about each position: features [B, t, h, w, C'] before the last upsampling, and either
    the upsampled volume itself, or the layer that makes any stretch of it when it is needed (low memory).

    dropped: frames at the start of what is upsampled that are none of the volume's; frames: how many it has.
    """

    features: Tensor
    upsample: DiffusionUpsample
    dropped: int
    frames: int
    volume: Tensor | None = None

    def pieces(self) -> Iterator[slice]:
        """Stretches of frames that are handled at once."""
        _, _, rows, columns, channels = self.features.shape
        return pieces_of_frames(
            self.frames, rows * columns * self.upsample.stride[1] * self.upsample.stride[2] * channels
        )

    def at(self, frames: slice) -> Tensor:
        """The context of a stretch of frames."""
        if self.volume is not None:
            return self.volume[:, frames]
        stride = self.upsample.stride[0]
        start, stop = frames.start + self.dropped, frames.stop + self.dropped
        cells = slice(start // stride, -(-stop // stride))
        return self.upsample(self.features[:, cells])[:, start - cells.start * stride : stop - cells.start * stride]


def pieces_of_frames(frames: int, width: int) -> Iterator[slice]:
    """Stretches of frames whose values at ``width`` stay within what is handled at once."""
    step = max(1, PIECE_ELEMENTS // width)
    for start in range(0, frames, step):
        yield slice(start, min(start + step, frames))


class DiffusionDecoder(nn.Module):
    """Normalised video latents to pixels. ``state_dict`` has the official names (``decoder.`` stripped) and the
    statistics."""

    def __init__(self, config: DiffusionDecoderConfig, *, ops: Ops = TORCH_OPS, device=None, dtype=None):
        super().__init__()
        to = {"device": device, "dtype": dtype}
        self.config = config
        width = config.channels[-1]
        pixels = 3 * config.patch_size**2
        self.per_channel_statistics = PerChannelStatistics(config.latent_channels, **to)
        self.conv_in = ops.Linear(config.latent_channels, config.channels[0], **to)
        self.det_stages = nn.ModuleList()
        self.upsamples = nn.ModuleList()
        for stage, (stride, reduction) in enumerate(config.upsamples):
            shape = config.channels[stage], config.kernels[stage], config.head_dim
            self.det_stages.append(
                nn.ModuleList(SpatialBlock(*shape, ops=ops, **to) for _ in range(config.depths[stage]))
            )
            self.upsamples.append(DiffusionUpsample(config.channels[stage], stride, reduction, ops=ops, **to))
        layers = {
            "0": ops.Linear(SINUSOID_WIDTH, config.time_embedding, **to),
            "2": ops.Linear(config.time_embedding, config.time_embedding, **to),
        }
        self.t_embedder = nn.ModuleDict({"mlp": nn.ModuleDict(layers)})
        self.conv_in_x_t = ops.Linear(pixels, width, **to)
        self.shared_adaln = nn.ModuleDict({"proj": ops.Linear(config.time_embedding, MODULATION_ROWS * width, **to)})
        shape = width, config.kernels[-1], config.head_dim
        self.diff_blocks = nn.ModuleList(DiffusionBlock(*shape, ops=ops, **to) for _ in range(config.depths[-1]))
        self.norm_out = ops.RMSNorm(width, eps=NORM_EPS, **to)
        self.conv_out = ops.Linear(width, pixels, **to)
        if config.type_embedding:
            # Only told apart by a decode with keyframes between the latents; part of the file all the same.
            self.type_emb = nn.Parameter(torch.zeros(config.latent_channels, **to), requires_grad=False)

    def forward(
        self,
        latent: Tensor,
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        steps: int | None = None,
        low_memory: bool = False,
    ) -> Tensor:
        """Latent [B, C, T, h, w] (normalised) to pixels [B, 3, 8T-7, 32h, 32w] around -1…1, the whole clip at once.

        generator: draws the noise (default: one seeded with 0, so the same latent always gives the same pixels); noise:
        given instead, of the shape noise_shape(latent). steps: of denoising, the checkpoint's number by default.
        low_memory: about half the memory for some more time, with the same result. For tiles and for pixels on the way
        see diffusion_tiling.
        """
        self.check(latent)
        padded, crop = pad_latent(latent, self.config)
        shape = self.noise_shape(latent)
        if noise is None:
            noise = draw_noise(shape, generator or default_generator(), latent)
        elif tuple(noise.shape) != shape:
            raise RequestError(f"noise for the diffusion decoder has shape {list(noise.shape)}, expected {list(shape)}")
        context = self.context(self.features(padded, low_memory=low_memory), low_memory=low_memory)
        return self.denoise(context, noise, steps, low_memory=low_memory)[crop]

    def check(self, latent: Tensor) -> None:
        """Raise RequestError unless this is a latent that can be decoded."""
        if latent.ndim != 5 or latent.shape[1] != self.config.latent_channels or 0 in latent.shape:
            raise RequestError(
                f"video latent has shape {list(latent.shape)}, expected [B, {self.config.latent_channels}, T, h, w]"
            )

    def noise_shape(self, latent: Tensor) -> tuple[int, int, int, int, int]:
        """Shape of the noise for a latent: of the pixels, after a small latent was padded to the smallest that can be
        decoded."""
        frames, rows, columns = (max(a, b) for a, b in zip(latent.shape[2:], self.config.smallest_latent))
        time, space = self.config.time_compression, self.config.space_compression
        return latent.shape[0], 3, (frames - 1) * time + 1, rows * space, columns * space

    def features(self, latent: Tensor, *, low_memory: bool = False) -> Tensor:
        """All stages before the last upsampled one: [B, C, T, h, w] → [B, 4(T+2)-3, 4h, 4w, 512], ghosts at the end."""
        latent = self.per_channel_statistics.un_normalize(latent)
        ghosts = latent[:, :, -1:].expand(-1, -1, self.config.ghost_latents, -1, -1)
        x = self.conv_in(torch.cat([latent, ghosts], 2).permute(0, 2, 3, 4, 1))  # [B, T', h, w, C]
        upsamples = list_of(DiffusionUpsample, self.upsamples)
        for blocks, upsample in zip(list_of(nn.ModuleList, self.det_stages[:-1]), upsamples[:-1]):
            for block in list_of(SpatialBlock, blocks):
                block.add_to(x, low_memory=low_memory)
            x = upsample(x, upsample.repeats)
        return x

    def context(self, features: Tensor, *, first: bool = True, last: bool = True, low_memory: bool = False) -> Context:
        """The last stage before the pixels, on features or a tile of them.

        first: the tile begins at frame 0; last: it ends with the ghosts, which are dropped here.
        """
        x = features.clone(memory_format=torch.contiguous_format)
        for block in list_of(SpatialBlock, self.det_stages[-1]):
            block.add_to(x, low_memory=low_memory)
        upsample = list_of(DiffusionUpsample, self.upsamples)[-1]
        dropped = upsample.repeats if first else 0
        frames = x.shape[1] * upsample.stride[0] - dropped
        if last:
            frames = max(frames - self.config.ghost_latents * self.config.time_compression, self.config.kernels[-1][0])
        if low_memory:
            return Context(x, upsample, dropped, frames)
        return Context(x[:0], upsample, dropped, frames, upsample(x, dropped))

    def denoise(self, context: Context, noise: Tensor, steps: int | None = None, *, low_memory: bool = False) -> Tensor:
        """Pixels [B, 3, F, H, W] from noise of that shape in ``steps`` equal steps from time 1 to 0."""
        steps = self.config.steps if steps is None else steps
        if steps < 1:
            raise RequestError(f"diffusion decoder steps are {steps}, expected at least 1")
        times = torch.linspace(1, 1 / steps, steps).tolist() + [0.0]
        x = noise
        for now, after in zip(times, times[1:]):
            predicted = self.predict(context, x, now, low_memory=low_memory)
            if self.config.output == "x0" and not after:
                return predicted
            velocity = predicted.float() if self.config.output == "v" else (x.float() - predicted) / now
            x = (x.float() - (now - after) * velocity).to(noise.dtype)
        return x

    def predict(self, context: Context, x: Tensor, time: float, *, low_memory: bool = False) -> Tensor:
        """What the last stage makes of pixels x [B, 3, F, H, W] at a time 0…1 of denoising."""
        layers = dict_of(nn.Module, self.t_embedder["mlp"])
        angle = sinusoid(torch.full((1,), time * self.config.timestep_multiplier, device=x.device)).to(x.dtype)
        embedded = layers["2"](F.silu(layers["0"](angle)))
        modulation = self.shared_adaln["proj"](F.silu(embedded)).view(MODULATION_ROWS, -1)
        hidden = self.conv_in_x_t(patchify(x, self.config.patch_size))  # [B, F, h, w, C]
        for block in list_of(DiffusionBlock, self.diff_blocks):
            block.add_modulated(hidden, context, modulation, low_memory=low_memory)
        flat = hidden.flatten(0, 3)
        out = flat.new_empty(len(flat), 3 * self.config.patch_size**2)
        for piece in pieces(len(flat), flat.shape[1]):
            out[piece] = self.conv_out(self.norm_out(flat[piece]))
        shape = hidden.shape[:-1]
        del hidden, flat
        return unpatchify(out.view(*shape, -1), self.config.patch_size)


def patchify(x: Tensor, size: int) -> Tensor:
    """[B, 3, F, H, W] → [B, F, H/size, W/size, 3·size²]: channel, column in the patch, row in the patch."""
    x = x.unflatten(4, (-1, size)).unflatten(3, (-1, size))  # [B, 3, F, h, row, w, column]
    return x.permute(0, 2, 3, 5, 1, 6, 4).flatten(4)


def unpatchify(x: Tensor, size: int) -> Tensor:
    """The inverse of patchify."""
    x = x.unflatten(4, (-1, size, size))  # [B, F, h, w, 3, column, row]
    return x.permute(0, 4, 1, 2, 6, 3, 5).flatten(5, 6).flatten(3, 4)


def pad_latent(latent: Tensor, config: DiffusionDecoderConfig) -> tuple[Tensor, tuple]:
    """A latent grown to the smallest that every window fits on, by repeating its edges, and the crop of the pixels
    back."""
    frames, rows, columns = latent.shape[2:]
    least = config.smallest_latent
    top, left = max(0, least[1] - rows) // 2, max(0, least[2] - columns) // 2
    index = [
        torch.arange(max(size, floor), device=latent.device).sub_(before).clamp_(0, size - 1)
        for size, floor, before in zip((frames, rows, columns), least, (0, top, left))
    ]
    for axis, where in enumerate(index, start=2):
        if len(where) > latent.shape[axis]:
            latent = latent.index_select(axis, where)
    space = config.space_compression
    crop = (
        ...,
        slice(0, (frames - 1) * config.time_compression + 1),
        slice(top * space, (top + rows) * space),
        slice(left * space, (left + columns) * space),
    )
    return latent, crop


def default_generator() -> torch.Generator:
    """The one that draws when none is given: always the same."""
    return torch.Generator("cpu").manual_seed(DEFAULT_SEED)


def draw_noise(shape: Sequence[int], generator: torch.Generator, like: Tensor, *, stay: bool = False) -> Tensor:
    """Normal noise of a shape, drawn in float32, then as the latent is; ``stay`` leaves it where the generator
    lives."""
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
    return noise.to(like.dtype) if stay else noise.to(like)


def fold_gates(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bare decoder tensors in the released layout: gates that early files hold beside their layers are multiplied into
    them.

    Residuals of the released decoder have no gates. Leftovers of training (``coarse_*``) are dropped.
    """
    gated = {"gate_msa": ("attn.proj.weight", "attn.proj.bias"), "gate_mlp": ("mlp.w_down.weight",)}
    gated["gate_ctx"] = ("context_proj.weight", "context_proj.bias")
    out = {name: tensor for name, tensor in tensors.items() if not name.startswith("coarse_")}
    for name in tensors:
        stem, _, gate = name.rpartition(".")
        if gate not in gated:
            continue
        factor = out.pop(name).flatten().float()  # one for each output channel
        for layer in gated[gate]:
            weight = out[f"{stem}.{layer}"]
            out[f"{stem}.{layer}"] = (weight.float() * (factor[:, None] if weight.ndim == 2 else factor)).to(
                weight.dtype
            )
    return out
