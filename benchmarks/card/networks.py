"""Networks of any size with random weights, made where they are used, and what a transformer is given."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ltx2.checkpoint.adapters.difference import LoadedDifference
from ltx2.checkpoint.adapters.kinds.low_rank import LowRank
from ltx2.checkpoint.quantization.formats.fp8 import Fp8
from ltx2.checkpoint.quantization.formats.int8 import Int8
from ltx2.checkpoint.quantization.formats.nvfp4 import GROUP, Nvfp4
from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.checkpoint.quantization.packed import PackedWeight
from ltx2.checkpoint.quantization.tiles import tiled_size
from ltx2.config.transformer import TransformerConfig
from ltx2.networks.layers.rope import audio_positions, video_positions
from ltx2.networks.transformer.model import StreamInput, Transformer

from .session import Session
from .sizes import FPS, Clip

FORMS = ("fp8", "int8", "nvfp4")


def random_weight(shape: Iterable[int], name: str, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of a size that keeps what passes through a layer near 1."""
    shape = tuple(shape)
    weight = torch.empty(shape, device=device, dtype=dtype).normal_(0, 1)
    if len(shape) >= 2:
        return weight.mul_(1 / math.sqrt(math.prod(shape[1:])))
    weight.mul_(0.1)
    return weight.add_(1) if "norm" in name or name.endswith("std-of-means") else weight


def filled(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network from the meta device with random weights of a type on a device; computed buffers must be there."""
    for name, tensor in list(network.state_dict(keep_vars=True).items()):
        if not tensor.is_meta:
            continue
        value = random_weight(tensor.shape, name, device, dtype)
        stem, _, last = name.rpartition(".")
        owner = network.get_submodule(stem)
        if isinstance(tensor, nn.Parameter):
            setattr(owner, last, nn.Parameter(value, requires_grad=False))
        else:
            owner.register_buffer(last, value)
    return network.eval().requires_grad_(False)


def transformer(
    config: TransformerConfig, device: torch.device, dtype: torch.dtype = torch.bfloat16, **options: Any
) -> Transformer:
    """A transformer of random weights."""
    torch.manual_seed(0)
    return filled(Transformer(config, device="meta", **options), device, dtype)


def few_blocks(session: Session) -> TransformerConfig:
    """The transformer with the few blocks that its kinds are compared on."""
    return replace(session.sizes.transformer, layers=session.sizes.few_blocks)


def packed_weight(kind: str, rows: int, columns: int, device: torch.device) -> PackedWeight:
    """A random weight as a file stores it."""

    def bytes_of(count: int) -> torch.Tensor:
        # 0…0x7d: none of them is a NaN as an eight-bit float
        return torch.randint(0, 126, (count,), device=device, dtype=torch.uint8)

    size = torch.tensor(1 / (8 * math.sqrt(columns)), device=device)
    if kind == "fp8":
        weight = torch.empty(rows, columns, device=device).normal_(0, 4).to(torch.float8_e4m3fn)
        return PackedWeight(Fp8(), (rows, columns), {"weight": weight, "scale": size})
    if kind == "int8":
        weight = torch.randint(-127, 128, (rows, columns), device=device, dtype=torch.int8)
        scale = torch.full((rows, 1), 1 / (64 * math.sqrt(columns)), device=device)
        return PackedWeight(Int8(), (rows, columns), {"weight": weight, "scale": scale})
    if kind == "nvfp4":
        codes = torch.randint(0, 256, (rows, columns // 2), device=device, dtype=torch.uint8)
        count = tiled_size(rows, columns // GROUP)
        scales = (bytes_of(count).float() / 64 + 0.5).to(torch.float8_e4m3fn)
        parts = {"weight": codes, "scale": scales, "tensor_scale": size}
        return PackedWeight(Nvfp4(), (rows, columns), parts)
    raise ValueError(f"no form is called {kind!r}")


def difference(rows: int, columns: int, rank: int, device: torch.device, dtype: torch.dtype) -> LoadedDifference:
    """A random LoRA of one weight."""
    up, down = (torch.randn(shape, device=device, dtype=dtype) for shape in ((rows, rank), (rank, columns)))
    return LoadedDifference(LowRank(1.0), 0.02 / math.sqrt(rank * columns), {"up": up, "down": down})


def quantize_blocks(network: Transformer, kind: str, lora_rank: int = 0) -> Transformer:
    """The linear layers of all blocks exchanged for ones that keep a stored form; lora_rank: of a LoRA on each."""
    for name, layer in list(network.named_modules()):
        if not (name.startswith("transformer_blocks.") and isinstance(layer, nn.Linear)):
            continue
        rows, columns = layer.out_features, layer.in_features
        device, dtype = layer.weight.device, layer.weight.dtype
        changes = [difference(rows, columns, lora_rank, device, dtype)] if lora_rank else []
        parent, _, last = name.rpartition(".")
        packed = packed_weight(kind, rows, columns, device)
        network.get_submodule(parent).__setattr__(
            last, QuantizedLinear(packed, layer.bias, changes, compute_dtype=dtype)
        )
    return network


def inputs(
    session: Session, clip: Clip, *, known_frames: int = 0, batch: int = 1, dtype: torch.dtype = torch.bfloat16
) -> tuple[StreamInput, StreamInput]:
    """Both streams of a clip in the middle of denoising; known_frames: latent frames that are clean, as behind a
    state."""
    config, device = session.sizes.transformer, session.device
    grid, sigma = clip.grid, 0.7
    random = torch.Generator(device).manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, device=device, dtype=torch.float32).to(dtype)

    def stream(tokens: int, channels: int, width: int, positions: torch.Tensor, known: int) -> StreamInput:
        timesteps = torch.full((batch, tokens, 1), sigma, device=device)
        timesteps[:, :known] = 0
        levels = torch.full((batch,), sigma, device=device)
        context = noise(batch, session.sizes.words, width)
        return StreamInput(noise(batch, tokens, channels), timesteps, levels, positions, context)

    of_video = video_positions(*grid, FPS, device=device)
    of_audio = audio_positions(clip.sounds, device=device)
    known = known_frames * grid[1] * grid[2]
    return (
        stream(clip.tokens, config.in_channels, config.context_width, of_video, known),
        stream(clip.sounds, config.audio_in_channels, config.audio_context_width, of_audio, 8 * known_frames),
    )


def step_flops(config: TransformerConfig, tokens: int, sounds: int, words: int, batch: int = 1) -> int:
    """Multiplications and additions of one forward, both counted: 2·m·n·k for each matrix product.

    With T picture tokens, A sound tokens, S words, widths V and W, and I = W of the attention between the streams, a
    block has for the picture 8TV² + 4T²V (self-attention), 4TV² + 4SCV + 4TSV (text) and 16TV² (feed-forward); the
    same for the sound; and between them 4TVI + 4AWI + 4TAI and 4AWI + 4TVI + 4ATI. Norms, gates and modulation are
    left out: they are thousandths.
    """

    def own(count: int, width: int, context: int) -> int:
        itself = 8 * count * width**2 + 4 * count**2 * width
        text = 4 * count * width**2 + 4 * words * context * width + 4 * count * words * width
        return itself + text + 16 * count * width**2

    inner = config.audio_heads * config.audio_head_dim
    between = 8 * tokens * config.width * inner + 8 * sounds * config.audio_width * inner + 8 * tokens * sounds * inner
    block = own(tokens, config.width, config.context_width) + own(
        sounds, config.audio_width, config.audio_context_width
    )
    ends = 2 * tokens * config.width * (config.in_channels + config.out_channels)
    return batch * (config.layers * (block + between) + ends)
