"""Shape of the video VAE: the encoder and the convolutional decoder of every released version."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError

STRIDES = {"space": (1, 2, 2), "time": (2, 1, 1), "all": (2, 2, 2)}
_BY_FACTOR = {math.prod(stride): stride for stride in STRIDES.values()}
_WHOLE = (1, 1, 1)


@dataclass(frozen=True)
class VideoBlock:
    """One block of the encoder or the decoder, in the order in which they run.

    layers: res blocks in it, 0 for a resampling block; stride: time, height and width factor of a resampling block;
    multiplier: an encoder block multiplies its channels by it, a decoder block divides them; residual: the decoder's
    upsampling adds its input, repeated; inject_noise: res blocks add scaled noise.
    """

    layers: int = 0
    stride: tuple[int, int, int] = _WHOLE
    multiplier: int = 1
    residual: bool = False
    inject_noise: bool = False


@dataclass(frozen=True)
class VideoVaeConfig:
    """Encoder and convolutional decoder. A half that a checkpoint does not hold has no blocks.

    Padding modes ("zeros" or "reflect") are for rows and columns; the time axis always repeats its edge frames.
    """

    latent_channels: int = 128
    patch_size: int = 4
    encoder_channels: int = 128
    encoder_blocks: tuple[VideoBlock, ...] = ()
    encoder_padding: str = "zeros"
    log_variance_channels: int = 1
    decoder_channels: int = 128
    decoder_blocks: tuple[VideoBlock, ...] = ()
    decoder_padding: str = "reflect"
    causal_decoder: bool = False
    timestep_conditioning: bool = False

    @property
    def time_compression(self) -> int:
        """Picture frames per latent frame (after the first)."""
        return math.prod(block.stride[0] for block in self.encoder_blocks or self.decoder_blocks)

    @property
    def space_compression(self) -> int:
        """Picture pixels per latent row or column."""
        return self.patch_size * math.prod(block.stride[1] for block in self.encoder_blocks or self.decoder_blocks)

    @property
    def first_latent_space(self) -> bool:
        """Whether its latents are those of LTX-2.0; LTX-2.3 brought others, which 2.5 shares."""
        resampling = [block for block in self.encoder_blocks if block.stride != _WHOLE]
        return any(block.residual for block in self.decoder_blocks) or bool(
            resampling and resampling[-1].multiplier > 1
        )

    @property
    def bottleneck_channels(self) -> int:
        """Width of the decoder's first layers."""
        return self.decoder_channels * math.prod(block.multiplier for block in self.decoder_blocks)


def video_vae_config(config: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]) -> VideoVaeConfig:
    """Config from the checkpoint's ``vae`` dictionary, or from tensor shapes alone where there is none.

    shapes: official tensor names, bare (of the encoder or the decoder alone), with ``encoder.``/``decoder.``, or with
    ``vae.`` in front. Raises CheckpointError for a layout that LTX-2 does not have.
    """
    if config and "encoder" in config and isinstance(config["encoder"], Mapping):
        return _from_nested(config)
    if config and (config.get("encoder_blocks") or config.get("decoder_blocks")):
        return _from_flat(config, shapes)
    return _from_shapes(shapes)


def _from_flat(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> VideoVaeConfig:
    _require_supported(config)
    decoder = _half(shapes, "decoder")
    timestep = config.get("timestep_conditioning")
    if timestep is None:
        timestep = "timestep_scale_multiplier" in decoder
    latent_channels = config.get("latent_channels", 128)
    return VideoVaeConfig(
        latent_channels=latent_channels,
        patch_size=config.get("patch_size", 4),
        # Files without the value are as wide as the latent.
        encoder_channels=config.get("encoder_base_channels", latent_channels),
        encoder_blocks=tuple(_encoder_block(entry) for entry in config.get("encoder_blocks") or ()),
        # One value may stand for both halves; without any the two differ.
        encoder_padding=_padding(
            config.get("encoder_spatial_padding_mode") or config.get("spatial_padding_mode", "zeros")
        ),
        log_variance_channels=_log_variance_channels(config, latent_channels),
        decoder_channels=config.get("decoder_base_channels", 128),
        # The list names the blocks from the pixels inwards.
        decoder_blocks=tuple(_decoder_block(entry) for entry in reversed(config.get("decoder_blocks") or ())),
        decoder_padding=_padding(config.get("spatial_padding_mode", "reflect")),
        causal_decoder=bool(config.get("causal_decoder", False)),
        timestep_conditioning=bool(timestep),
    )


def _from_nested(config: Mapping[str, Any]) -> VideoVaeConfig:
    """The encoder beside a diffusion decoder, whose own shape is another config."""
    encoder = config["encoder"]
    _require_supported(encoder)
    latent_channels = encoder.get("out_channels", 128)
    return VideoVaeConfig(
        latent_channels=latent_channels,
        patch_size=encoder.get("patch_size", 4),
        encoder_channels=encoder.get("base_channels", latent_channels),
        encoder_blocks=tuple(
            _encoder_block(entry) for entry in encoder.get("blocks") or encoder.get("encoder_blocks") or ()
        ),
        encoder_padding=_padding(
            encoder.get("spatial_padding_mode") or config.get("encoder_spatial_padding_mode", "zeros")
        ),
        log_variance_channels=_log_variance_channels(encoder, latent_channels),
    )


def _require_supported(config: Mapping[str, Any]) -> None:
    for key, only in (("dims", 3), ("norm_layer", "pixel_norm"), ("in_channels", 3)):
        if config.get(key, only) != only:
            raise CheckpointError(
                f"video VAE config has {key} {config[key]!r}, expected {only!r}: the file is not an LTX-2 VAE"
            )


def _log_variance_channels(config: Mapping[str, Any], latent_channels: int) -> int:
    kind = config.get("latent_log_var", "uniform")
    known = {"uniform": 1, "constant": 1, "per_channel": latent_channels, "none": 0}
    if kind not in known:
        raise CheckpointError(f"video VAE config has latent_log_var {kind!r}, expected one of {', '.join(known)}")
    return known[kind]


def _padding(mode: str) -> str:
    if mode not in ("zeros", "reflect"):
        raise CheckpointError(f"video VAE config has padding mode {mode!r}, expected zeros or reflect")
    return mode


def _entry(entry) -> tuple[str, Mapping[str, Any]]:
    name, params = entry
    return name, {"num_layers": params} if isinstance(params, int) else params


def _encoder_block(entry) -> VideoBlock:
    name, params = _entry(entry)
    if name == "res_x":
        return VideoBlock(layers=params["num_layers"])
    parts = name.split("_")
    if len(parts) == 3 and parts[0] == "compress" and parts[1] in STRIDES and parts[2] == "res":
        return VideoBlock(stride=STRIDES[parts[1]], multiplier=params.get("multiplier", 2))
    raise CheckpointError(
        f"video encoder block {name!r} is unknown, expected res_x or compress_space/time/all_res: not an LTX-2 VAE"
    )


def _decoder_block(entry) -> VideoBlock:
    name, params = _entry(entry)
    if name == "res_x":
        return VideoBlock(layers=params["num_layers"], inject_noise=bool(params.get("inject_noise", False)))
    parts = name.split("_")
    if len(parts) == 2 and parts[0] == "compress" and parts[1] in STRIDES:
        return VideoBlock(
            stride=STRIDES[parts[1]],
            multiplier=params.get("multiplier", 1),
            residual=bool(params.get("residual", False)),
        )
    raise CheckpointError(
        f"video decoder block {name!r} is unknown, expected res_x or compress_space/time/all: not an LTX-2 VAE"
    )


# --- without metadata ----------------------------------------------------------------------------------------------


def _half(shapes: Mapping[str, tuple[int, ...]], half: str) -> dict[str, tuple[int, ...]]:
    """The shapes of one half under bare names, whichever prefix they came with."""
    for prefix in (f"vae.{half}.", f"{half}."):
        found = {name[len(prefix) :]: tuple(shape) for name, shape in shapes.items() if name.startswith(prefix)}
        if found:
            return found
    blocks = {"encoder": "down_blocks.", "decoder": "up_blocks."}[half]
    if any(name.startswith(blocks) for name in shapes):
        return {name: tuple(shape) for name, shape in shapes.items()}
    return {}


def _from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> VideoVaeConfig:
    encoder, decoder = _half(shapes, "encoder"), _half(shapes, "decoder")
    encoder = encoder if "conv_out.conv.weight" in encoder else {}
    # A diffusion decoder shares the prefix, but has no such blocks.
    decoder = decoder if "up_blocks.0.res_blocks.0.conv1.conv.weight" in decoder else {}
    if not encoder and not decoder:
        raise CheckpointError(
            "no video encoder or convolutional video decoder among these tensors: choose a video VAE file"
        )
    values: dict[str, Any] = {}
    if encoder:
        blocks = _blocks_from_shapes(encoder, "down_blocks", encoder["conv_out.conv.weight"][1])
        values |= dict(
            encoder_channels=encoder["conv_in.conv.weight"][0],
            encoder_blocks=blocks,
            patch_size=math.isqrt(encoder["conv_in.conv.weight"][1] // 3),
            latent_channels=encoder["conv_out.conv.weight"][0] - 1,
        )
    if decoder:
        blocks = _blocks_from_shapes(decoder, "up_blocks", decoder["conv_out.conv.weight"][1])
        values |= dict(
            decoder_channels=decoder["conv_out.conv.weight"][1],
            decoder_blocks=blocks,
            patch_size=math.isqrt(decoder["conv_out.conv.weight"][0] // 3),
            latent_channels=decoder["conv_in.conv.weight"][1],
            # The weights do not tell; the releases are told apart by their residual upsampling.
            decoder_padding="reflect" if any(block.residual for block in blocks) else "zeros",
            timestep_conditioning="timestep_scale_multiplier" in decoder,
        )
    return VideoVaeConfig(**values)


def _blocks_from_shapes(half: Mapping[str, tuple[int, ...]], stem: str, last_channels: int) -> tuple[VideoBlock, ...]:
    count = 1 + max(int(name.split(".")[1]) for name in half if name.startswith(f"{stem}."))
    raw = []  # (layers, channels in, channels out of the convolution, noise)
    for index in range(count):
        layers = {int(name.split(".")[3]) for name in half if name.startswith(f"{stem}.{index}.res_blocks.")}
        key = f"{stem}.{index}.res_blocks.0.conv1.conv.weight" if layers else f"{stem}.{index}.conv.conv.weight"
        if key not in half:
            raise CheckpointError(f"video VAE has no tensor {key}: not an LTX-2 layout, or the file is incomplete")
        noise = f"{stem}.{index}.res_blocks.0.per_channel_scale1" in half
        raw.append((len(layers), half[key][1], half[key][0], noise))
    widths = [channels for _, channels, _, _ in raw] + [last_channels]
    resampling = [
        after / out if stem == "down_blocks" else out / after for (n, _, out, _), after in zip(raw, widths[1:]) if not n
    ]
    if any(factor not in _BY_FACTOR for factor in resampling):
        raise CheckpointError(
            "video VAE blocks change their channels by factors that LTX-2 does not use: not an LTX-2 VAE"
        )
    factors = iter(resampling)
    # 2.0 upsamples time and space together throughout and adds the input; later decoders do neither.
    residual = stem == "up_blocks" and all(factor == math.prod(STRIDES["all"]) for factor in resampling)
    blocks = []
    for (count_of_layers, before, _, noise), after in zip(raw, widths[1:]):
        if count_of_layers:
            blocks.append(VideoBlock(layers=count_of_layers, inject_noise=noise))
            continue
        multiplier = after // before if stem == "down_blocks" else before // after
        blocks.append(VideoBlock(stride=_BY_FACTOR[int(next(factors))], multiplier=multiplier, residual=residual))
    return tuple(blocks)
