"""The video VAE, trained cell by cell.

A latent of the world holds all that a cell shows, so no convolution needs its neighbours: only the centre taps are
used (of the causal encoder the last tap in time), and training runs on single blocks of 8 × 32 × 32 with plain
matrices, 27 times cheaper than with whole kernels. The decoder learns to draw the nearest meaning of an uncertain code,
the encoder to read what was drawn.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import latents
from .engine import VideoDecoder, VideoEncoder, video_vae_config
from .logs import cut_log, log

ENCODER_BASE, DECODER_BASE = 40, 32
# from the pixels inwards, as the released configs have them
ENCODER_BLOCKS = [
    ["res_x", {"num_layers": 1}],
    ["compress_space_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
    ["compress_time_res", {"multiplier": 1}],
    ["compress_all_res", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
    ["compress_all_res", {"multiplier": 1}],
    ["res_x", {"num_layers": 1}],
]
DECODER_BLOCKS = [
    ["compress_all", {"multiplier": 1}],
    ["res_x", {"num_layers": 1}],
    ["compress_all", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
    ["compress_all", {"multiplier": 2}],
    ["res_x", {"num_layers": 1}],
]
CONFIG = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "encoder_blocks": ENCODER_BLOCKS,
    "decoder_blocks": DECODER_BLOCKS,
    "scaling_factor": 1.0,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
    "timestep_conditioning": False,
    "encoder_base_channels": ENCODER_BASE,
    "decoder_base_channels": DECODER_BASE,
    "spatial_padding_mode": "zeros",
}
CENTRE, LAST = (1, 1, 1), (2, 1, 1)  # taps in time, height, width
OBJECT_WEIGHT = 4.0


@dataclass(frozen=True)
class Plan:
    """CPU minutes of both halves together, on another device of the clock, and how they are spent."""

    minutes: float = 66.0
    decoder_share: float = 0.7
    batch: int = 128
    rate: float = 2e-3
    seed: int = 0
    save_seconds: float = 60.0
    device: str = "cpu"


def _activate(x: Tensor) -> Tensor:
    return F.silu(x * (x.square().mean(-1, keepdim=True) + 1e-8).rsqrt())


class _Res(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(_activate(self.conv1(_activate(x))))

    def write(self, block, tap) -> None:
        _write(block.res_blocks[0].conv1, self.conv1, tap)
        _write(block.res_blocks[0].conv2, self.conv2, tap)


def _unfold(x: Tensor, strides: tuple[int, int, int]) -> Tensor:
    """Depth to space: [N, t, h, w, C·P] → [N, t·a, h·b, w·c, C], channels ordered (C, a, b, c)."""
    n, t, h, w, _ = x.shape
    a, b, c = strides
    x = x.reshape(n, t, h, w, -1, a, b, c).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(n, t * a, h * b, w * c, -1)


def _fold(x: Tensor, strides: tuple[int, int, int]) -> Tensor:
    """Space to depth, the inverse of :func:`_unfold`."""
    n, t, h, w, channels = x.shape
    a, b, c = strides
    x = x.reshape(n, t // a, a, h // b, b, w // c, c, channels).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(n, t // a, h // b, w // c, -1)


class CellDecoder(nn.Module):
    """Codes [N, 30] → blocks [N, 8, 32, 32, 3] in -1…1."""

    def __init__(self):
        super().__init__()
        widths = [4 * DECODER_BASE, 2 * DECODER_BASE, DECODER_BASE, DECODER_BASE]
        self.conv_in = nn.Linear(latents.VIDEO_CHANNELS, widths[0])
        self.res = nn.ModuleList(_Res(width) for width in widths[:3])
        self.up = nn.ModuleList(nn.Linear(old, 8 * new) for old, new in zip(widths, widths[1:]))
        self.conv_out = nn.Linear(widths[3], 48)

    def forward(self, code: Tensor) -> Tensor:
        x = self.conv_in(code)[:, None, None, None]
        for res, up in zip(self.res, self.up):
            x = _unfold(up(res(x)), (2, 2, 2))
        x = self.conv_out(_activate(x))  # [N, 8, 8, 8, 48], channels (colour, offset along the width, along the height)
        n = len(x)
        return x.reshape(n, 8, 8, 8, 3, 4, 4).permute(0, 1, 2, 6, 3, 5, 4).reshape(n, 8, 32, 32, 3)

    def write(self, decoder) -> None:
        _clear(decoder)
        _write(decoder.conv_in, self.conv_in, CENTRE)
        for index in range(3):
            self.res[index].write(decoder.up_blocks[2 * index], CENTRE)
            _write(decoder.up_blocks[2 * index + 1].conv, self.up[index], CENTRE)
        _write(decoder.conv_out, self.conv_out, CENTRE)


class CellEncoder(nn.Module):
    """Blocks [N, 8, 32, 32, 3] in -1…1 → codes [N, 30]."""

    STRIDES = ((1, 2, 2), (2, 1, 1), (2, 2, 2), (2, 2, 2))

    def __init__(self):
        super().__init__()
        widths = [ENCODER_BASE, 2 * ENCODER_BASE, 2 * ENCODER_BASE, 4 * ENCODER_BASE, 4 * ENCODER_BASE]
        self.conv_in = nn.Linear(48, widths[0])
        folds = [int(np.prod(strides)) for strides in self.STRIDES]
        self.down = nn.ModuleList(nn.Linear(old, new // fold) for old, new, fold in zip(widths, widths[1:], folds))
        self.res = nn.ModuleList(_Res(width) for width in (widths[0], widths[1], widths[3], widths[4]))
        self.conv_out = nn.Linear(widths[4], latents.VIDEO_CHANNELS)

    def forward(self, frames: Tensor) -> Tensor:
        n = len(frames)
        x = frames.reshape(n, 8, 8, 4, 8, 4, 3).permute(0, 1, 2, 4, 6, 5, 3).reshape(n, 8, 8, 8, 48)
        x = self.res[0](self.conv_in(x))
        after = {0: self.res[1], 2: self.res[2], 3: self.res[3]}
        for index, (down, strides) in enumerate(zip(self.down, self.STRIDES)):
            new = _fold(down(x), strides)
            x = new + _fold(x, strides).unflatten(-1, (new.shape[-1], -1)).mean(-1)
            if index in after:
                x = after[index](x)
        return self.conv_out(_activate(x))[:, 0, 0, 0]

    def write(self, encoder) -> None:
        _clear(encoder)
        _write(encoder.conv_in, self.conv_in, LAST)
        for place, res in zip((0, 2, 5, 7), self.res):
            res.write(encoder.down_blocks[place], LAST)
        for place, down in zip((1, 3, 4, 6), self.down):
            _write(encoder.down_blocks[place].conv, down, LAST)
        _write(encoder.conv_out, self.conv_out, LAST)


def _clear(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.requires_grad_(False).zero_()


@torch.no_grad()
def _write(conv, linear: nn.Linear, tap: tuple[int, int, int]) -> None:
    """A matrix into one tap of a convolution, whose further inputs and outputs stay 0."""
    rows, columns = linear.weight.shape
    conv.conv.weight[(slice(rows), slice(columns), *tap)] = linear.weight
    conv.conv.bias[:rows] = linear.bias


# --- training -------------------------------------------------------------------------------------------------------


def blocks() -> Tensor:
    """What every entry of the latent table shows, [entries, 8, 32, 32, 3] uint8."""
    drawn = [np.round(latents.block_of(number) * 255).astype(np.uint8) for number in range(len(latents.table()))]
    return torch.from_numpy(np.stack(drawn))


def _floats(frames: Tensor) -> Tensor:
    return frames.float() / 127.5 - 1


@dataclass(frozen=True)
class Lesson:
    """Codes as they come [N, 30], what they mean [N, 30], the blocks that show it, and weights of their pixels."""

    codes: Tensor
    meanings: Tensor
    frames: Tensor
    weights: Tensor


def lesson(drawn: Tensor, count: int, generator: torch.Generator) -> Lesson:
    """Mostly objects, noisy, weaker or stronger than they should be; traces of one are to be overlooked."""
    table = latents.table().to(drawn.device)
    to = {"generator": generator, "device": drawn.device}

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, **to) * (high - low) + low

    numbers = torch.randint(0, len(table), (count,), **to)
    empty = uniform(0, 1, count) < 0.3
    bare = numbers - numbers % latents.PER_CELL
    noise = torch.randn(count, latents.VIDEO_CHANNELS, **to) * uniform(0, 0.35, count, 1)
    codes = table[numbers].clone()
    strength = torch.where(empty, uniform(-0.2, 0.4, count), uniform(0.65, 1.15, count))
    codes[:, latents.OBJECT] *= strength[:, None]
    shown = torch.where(empty, bare, numbers)
    frames, background = _floats(drawn[shown]), _floats(drawn[bare])
    differs = ((frames - background).abs().amax(-1, keepdim=True) > 0.04).float()
    return Lesson(codes + noise, table[shown], frames, 1 + (OBJECT_WEIGHT - 1) * differs)


@torch.enable_grad()
def train(plan: Plan, folder: Path) -> tuple[CellDecoder, CellEncoder]:
    """Both halves, one after the other; what is done already is read from ``folder``."""
    torch.manual_seed(plan.seed)
    decoder, encoder = CellDecoder().to(plan.device), CellEncoder().to(plan.device)
    drawn = blocks().to(plan.device)
    generator = torch.Generator(plan.device).manual_seed(plan.seed)

    def drawing() -> Tensor:
        given = lesson(drawn, plan.batch, generator)
        return ((decoder(given.codes) - given.frames).square() * given.weights).mean()

    def reading() -> Tensor:
        given = lesson(drawn, plan.batch, generator)
        half = plan.batch // 2
        with torch.no_grad():
            made = decoder(given.codes[:half]).clamp(-1, 1)
        frames = torch.cat([made, given.frames[half:]])
        noise = torch.randn(frames.shape, generator=generator, device=frames.device)
        frames = frames + noise * 0.01  # eight bits, and a little more
        return (encoder(frames) - given.meanings).square().mean()

    seconds = 60 * plan.minutes
    _fit(decoder, drawing, plan, seconds * plan.decoder_share, folder / "decoder.pt")
    _fit(encoder, reading, plan, seconds * (1 - plan.decoder_share), folder / "encoder.pt")
    return decoder.cpu(), encoder.cpu()


def _fit(network: nn.Module, loss_of: Callable[[], Tensor], plan: Plan, seconds: float, path: Path) -> None:
    """Train until so much CPU time is spent, saving what a killed run goes on from."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0)
    step, spent, losses = 0, 0.0, []
    if path.exists():
        content = torch.load(path, weights_only=True, map_location=plan.device)
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        step, spent = content["step"], content["spent"]
    cut_log(path.with_suffix(".jsonl"), step)
    clock = time.process_time if plan.device == "cpu" else time.monotonic
    began, saved = clock() - spent, spent
    while spent < seconds:
        fall = 0.5 * (1 + math.cos(math.pi * spent / seconds))
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * fall)
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step, spent = step + 1, clock() - began
        losses.append(loss.item())
        if step % 200 == 0:
            mean = sum(losses) / len(losses)
            print(f"{path.stem}: step {step}, {spent / seconds:.0%}, loss {mean:.5f}", flush=True)
            log(path.with_suffix(".jsonl"), {"step": step, "loss": round(mean, 5)})
            losses = []
        if spent - saved > plan.save_seconds or spent >= seconds:
            content = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(content | {"step": step, "spent": spent}, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
            saved = spent


def quality(decoder: CellDecoder, encoder: CellEncoder, count: int = 400) -> dict[str, float]:
    """PSNR in dB of clean codes drawn, of whole blocks and of the object; share of codes read back right; their
    error."""
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randint(0, len(latents.table()), (count,), generator=generator)
    codes = latents.table()[numbers]
    frames = torch.stack([torch.from_numpy(latents.block_of(number)).float() for number in numbers.tolist()]) * 2 - 1
    bare = numbers - numbers % latents.PER_CELL
    background = torch.stack([torch.from_numpy(latents.block_of(number)).float() for number in bare.tolist()]) * 2 - 1
    there = ((frames - background).abs().amax(-1) > 0.04) & (numbers != bare)[:, None, None, None]
    with torch.no_grad():
        made = decoder(codes).clamp(-1, 1)
        read = encoder(made)
    error = (made - frames).square()
    right = torch.stack([read[:, part].argmax(1) == codes[:, part].argmax(1) for part in latents.GROUPS.values()])
    decibel = [float(10 * torch.log10(4 / part.mean())) for part in (error, error[there])]
    return {
        "picture_db": decibel[0],
        "object_db": decibel[1],
        "read_right": float(right.all(0).float().mean()),
        "read_error": float((read - codes).square().mean().sqrt()),
    }


def networks(decoder: CellDecoder, encoder: CellEncoder):
    """The engine's networks with these weights."""
    config = video_vae_config(CONFIG, {})
    whole_encoder, whole_decoder = VideoEncoder(config), VideoDecoder(config)
    encoder.write(whole_encoder)
    decoder.write(whole_decoder)
    for network in (whole_encoder, whole_decoder):
        network.per_channel_statistics.get_buffer("std-of-means").fill_(1.0)
        network.per_channel_statistics.get_buffer("mean-of-means").zero_()
    return whole_encoder, whole_decoder
