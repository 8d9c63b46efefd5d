"""Video VAEs of tiny checkpoints. Their weights are random, but lean towards something: a latent's first 48 channels
are the colours of a 4 × 4 grid in its block of pixels, so that an encoded and decoded picture is itself, blurred.

The decoders split the grid while they upsample and blend the pixels between its cells. The encoder's last layer is
fitted to its own features on smooth random pictures.
"""

import math

import torch
import torch.nn.functional as F

from ..config.diffusion_decoder import diffusion_decoder_config
from ..config.video_vae import VideoVaeConfig, video_vae_config
from ..networks.video_vae.diffusion_decoder import DiffusionDecoder
from ..networks.video_vae.model import VideoDecoder, VideoEncoder
from . import configs as tiny_configs
from .weights import Tensors, generator, random_tensor, shapes_of

GRID = 4
CELL_CHANNELS = 3 * GRID * GRID
CELL_SPREAD = 0.5  # standard deviation of the colours: what noise latents look like
# Colours are small swings around 1 inside the networks: pixel norm and silu are nearly straight lines there.
SWING = 0.2
SILU_SLOPE = 0.9277  # of silu at 1
SOFT = 0.02  # how much of the random weights is left
SOFTER = 0.004  # in the diffusion decoder, whose blocks have no pixel norm after them
FIT_PICTURES, FIT_SIZE, FIT_RIDGE = 48, 128, 1e-5


def _cell(grid: int, colour: int, row: int, column: int) -> int:
    return (colour * grid + row) * grid + column


def _sources(grid: int, stride: tuple[int, int, int]):
    """How an upsampling lays out the grid: (channel after, place in the stride, channel before, (row, column) of the
    place).

    While there is a grid left, each half of the pixels takes its half of it; later every place takes the same colour.
    """
    _, rows, columns = stride
    split = rows == 2 and grid > 1
    left = grid // 2 if split else grid
    for colour in range(3):
        for row in range(left):
            for column in range(left):
                for place in range(math.prod(stride)):
                    high, wide = place // columns % rows, place % columns
                    step = (high * left, wide * left) if split else (0, 0)
                    yield (
                        _cell(left, colour, row, column),
                        place,
                        _cell(grid, colour, row + step[0], column + step[1]),
                        (high, wide),
                    )


def _after(grid: int, stride: tuple[int, int, int]) -> int:
    return grid // 2 if stride[1] == 2 and grid > 1 else grid


def _blend(half: int | None) -> torch.Tensor:
    """Weights over three neighbours: straight ahead, or for the first or second of two pixels a quarter of the nearer
    side."""
    return torch.tensor({None: [0.0, 1, 0], 0: [0.25, 0.75, 0], 1: [0, 0.75, 0.25]}[half])


def statistics(seed: int) -> Tensors:
    """What normalises latents; the same for the encoder and both decoders."""
    tensors = {}
    for kind in ("std-of-means", "mean-of-means"):
        values = random_tensor(f"per_channel_statistics.{kind}", (tiny_configs.LATENT_CHANNELS,), seed)
        values[:CELL_CHANNELS] *= CELL_SPREAD if kind == "std-of-means" else 0
        tensors[f"per_channel_statistics.{kind}"] = values.bfloat16().float()
    return tensors


def decoder_tensors(version: str, seed: int) -> Tensors:
    """The convolutional decoder under bare names (``decoder.…``), without statistics."""
    config = video_vae_config(tiny_configs.video_vae(version), {})
    shapes = {
        name: shape
        for name, shape in shapes_of(VideoDecoder(config, device="meta")).items()
        if "per_channel" not in name
    }
    tensors = {name: SOFT * random_tensor(f"decoder.{name}", shape, seed) for name, shape in shapes.items()}
    weight = tensors["conv_in.conv.weight"]
    for channel in range(CELL_CHANNELS):
        weight[channel, channel, 1, 1, 1] += SWING
    grid = GRID
    upsamplings = [(index, block) for index, block in enumerate(config.decoder_blocks) if not block.layers]
    for index, block in upsamplings:
        weight, places = tensors[f"up_blocks.{index}.conv.conv.weight"], math.prod(block.stride)
        channels = weight.shape[1]
        if block.residual:  # what the skip adds is taken off again
            for row in range(weight.shape[0]):
                weight[row, row // places % (channels // places) * places + row % places, 1, 1, 1] -= 1
        left = _after(grid, block.stride)
        for after, place, before, (high, wide) in _sources(grid, block.stride):
            smooth = block.stride[1] == 2 and left == grid
            rows, columns = _blend(high if smooth else None), _blend(wide if smooth else None)
            weight[after * places + place, before, 1] += rows[:, None] * columns
        grid = left
    tensors[f"up_blocks.{upsamplings[-1][0]}.conv.conv.bias"] += 1
    weight = tensors["conv_out.conv.weight"]
    area, gain = weight.shape[0] // 3, 1 / (SWING * SILU_SLOPE)
    for colour in range(3):
        weight[colour * area : (colour + 1) * area, colour, 1, 1, 1] += gain
    # the other channels say what grey is
    weight[:, 3:, 1, 1, 1] -= gain / (weight.shape[1] - 3)
    return {f"decoder.{name}": tensor for name, tensor in tensors.items()}


def diffusion_decoder_tensors(seed: int) -> Tensors:
    """The diffusion decoder of 2.5 under bare names (``decoder.…``), without statistics."""
    config = diffusion_decoder_config(tiny_configs.diffusion_vae(), {})
    tensors = {}
    for name, shape in shapes_of(DiffusionDecoder(config, device="meta")).items():
        if not name.startswith("per_channel"):
            quiet = name.rpartition(".")[0].endswith(
                (".proj", "w_down", "context_proj", "conv_in_x_t", "conv_in", "conv_out")
            )
            tensors[name] = random_tensor(f"decoder.{name}", shape, seed) * (SOFTER if quiet else 1)
    tensors["shared_adaln.proj.weight"] *= 0.3 / SOFTER
    for channel in range(CELL_CHANNELS):
        tensors["conv_in.weight"][channel, channel] += SWING
    grid = GRID
    for stage, (stride, _) in enumerate(config.upsamples):
        for after, place, before, _ in _sources(grid, stride):
            tensors[f"upsamples.{stage}.proj.weight"][after * math.prod(stride) + place, before] += 1
        grid = _after(grid, stride)
    context = tensors["diff_blocks.0.context_proj.weight"]
    context[:3, :3] += torch.eye(3)
    tensors["diff_blocks.0.context_proj.bias"][3:] += 1
    tensors["norm_out.weight"] = torch.ones_like(tensors["norm_out.weight"])
    # the norm divides by the root of the mean square, which all but the colours set
    gain = math.sqrt((len(context) - 3) / len(context)) / SWING
    weight = tensors["conv_out.weight"]
    area = weight.shape[0] // 3
    for colour in range(3):
        weight[colour * area : (colour + 1) * area, colour] += gain
    return {f"decoder.{name}": tensor for name, tensor in tensors.items()}


def encoder_tensors(version: str, seed: int) -> Tensors:
    """The encoder under bare names (``encoder.…``), without statistics."""
    config = video_vae_config(tiny_configs.video_vae(version), {})
    shapes = {
        name: shape
        for name, shape in shapes_of(VideoEncoder(config, device="meta")).items()
        if "per_channel" not in name
    }
    tensors = {name: random_tensor(f"encoder.{name}", shape, seed) for name, shape in shapes.items()}
    weight = tensors["conv_in.conv.weight"]
    weight *= SOFT
    area = config.patch_size**2
    for colour in range(3):
        weight[colour, colour * area : (colour + 1) * area, 2, 1, 1] += SWING / area
    for name in tensors:
        if ".conv2." in name:
            tensors[name] *= SOFT
    downsamplings = [index for index, block in enumerate(config.encoder_blocks) if not block.layers]
    for index in downsamplings:
        # mixing the channels of one position keeps what the average of the skip loses
        weight = tensors[f"down_blocks.{index}.conv.conv.weight"]
        centre = weight[:, :, 2, 1, 1] * math.sqrt(math.prod(weight.shape[2:]))
        weight *= SOFT
        weight[:, :, 2, 1, 1] += centre
        tensors[f"down_blocks.{index}.conv.conv.bias"] *= 0
    tensors[f"down_blocks.{downsamplings[-1]}.conv.conv.bias"] += 1
    tensors |= _fitted_last_layer(config, tensors, seed)
    return {f"encoder.{name}": tensor for name, tensor in tensors.items()}


def _fitted_last_layer(config: VideoVaeConfig, tensors: Tensors, seed: int) -> Tensors:
    """Weights of ``conv_out`` that read the colour grid off the features, by least squares over smooth random
    pictures."""
    random = generator("pictures", seed)
    pictures = torch.zeros(FIT_PICTURES, 3, FIT_SIZE, FIT_SIZE)
    for size, contrast in ((2, 0.6), (4, 0.6), (8, 0.3), (16, 0.3)):
        noise = contrast * torch.randn(FIT_PICTURES, 3, size, size, generator=random)
        pictures += F.interpolate(noise, size=(FIT_SIZE, FIT_SIZE), mode="bilinear")
    pictures.clamp_(-1.2, 1.2)
    features = _features(config, tensors, pictures[:, :, None]).flatten(0, -2)  # [N·h·w, C]
    grid = F.pixel_unshuffle(F.avg_pool2d(pictures, config.space_compression // GRID), GRID)
    wanted = grid.permute(0, 2, 3, 1).flatten(0, -2).double()  # [N·h·w, 48]: colour, row, column
    means = features.mean(0), wanted.mean(0)
    features, wanted = features - means[0], wanted - means[1]
    square = features.T @ features
    square += FIT_RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    solution = torch.linalg.solve(square, features.T @ wanted)  # [C, 48]
    weight, bias = 0.1 * tensors["conv_out.conv.weight"], tensors["conv_out.conv.bias"].clone()
    weight[:CELL_CHANNELS] = 0
    weight[:CELL_CHANNELS, :, 2, 1, 1] = solution.T.float()
    bias[:CELL_CHANNELS] = (means[1] - means[0] @ solution).float()
    return {"conv_out.conv.weight": weight, "conv_out.conv.bias": bias}


@torch.inference_mode()
def _features(config: VideoVaeConfig, tensors: Tensors, frames: torch.Tensor) -> torch.Tensor:
    """What the encoder's last layer reads, [N, h, w, C] float64: the output of an encoder whose last layer hands it
    on."""
    encoder = VideoEncoder(config)
    last = torch.zeros_like(tensors["conv_out.conv.weight"])
    channels = last.shape[1]
    last[:channels, :, 2, 1, 1] = torch.eye(channels)
    bias = torch.zeros_like(tensors["conv_out.conv.bias"])
    encoder.load_state_dict(tensors | {"conv_out.conv.weight": last, "conv_out.conv.bias": bias}, strict=False)
    return encoder(frames)[:, :channels, 0].permute(0, 2, 3, 1).double()
