"""Shape of a latent upsampler: twice or one and a half times the rows and columns, twice the frames, or both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..errors import CheckpointError

# What a resampler can do: shuffle up by the first number, then blur and stride down by the second.
_SCALES = {Fraction(3, 4): (3, 4), Fraction(3, 2): (3, 2), Fraction(2): (2, 1), Fraction(4): (4, 1)}


@dataclass(frozen=True)
class UpsamplerConfig:
    """Latent upsampler.

    spatial, temporal: which axes grow; scale: of rows and columns as (up, down); rational: the key form of the
    resampler that can also shrink (``upsampler.conv``), as opposed to a bare convolution (``upsampler.0``).
    """

    channels: int = 128
    mid_channels: int = 1024
    blocks: int = 4
    spatial: bool = True
    temporal: bool = False
    scale: tuple[int, int] = (2, 1)
    rational: bool = False


def upsampler_config(config: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]) -> UpsamplerConfig:
    """Config from an upsampler file's flat dictionary, or from tensor shapes alone where there is none.

    Raises CheckpointError for tensors that are no latent upsampler and for scales that have no resampler.
    """
    if not config:
        return _from_shapes(shapes)
    if config.get("dims", 3) != 3:
        raise CheckpointError(
            f"upsampler config has dims {config['dims']!r}, expected 3: the file is not an LTX-2 latent upsampler"
        )
    spatial, temporal = bool(config.get("spatial_upsample", True)), bool(config.get("temporal_upsample", False))
    if not spatial and not temporal:
        raise CheckpointError(
            "upsampler config enlarges neither space nor time, expected one of them: the config is damaged"
        )
    # Only the resampler for space alone knows other scales than 2.
    rational = bool(config.get("rational_resampler", False)) and spatial and not temporal
    scale = (2, 1)
    if rational:
        scale = _SCALES.get(Fraction(str(config.get("spatial_scale", 2.0))))
        if scale is None:
            known = ", ".join(str(float(value)) for value in _SCALES)
            raise CheckpointError(
                f"upsampler config has spatial_scale {config['spatial_scale']!r}, expected one of {known}"
            )
    return UpsamplerConfig(
        channels=config.get("in_channels", 128),
        mid_channels=config.get("mid_channels", 512),
        blocks=config.get("num_blocks_per_stage", 4),
        spatial=spatial,
        temporal=temporal,
        scale=scale,
        rational=rational,
    )


def _from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> UpsamplerConfig:
    if "initial_conv.weight" not in shapes or "final_conv.weight" not in shapes:
        raise CheckpointError("no latent upsampler among these tensors: choose a spatial or temporal upscaler file")
    mid_channels, channels = shapes["initial_conv.weight"][:2]
    blocks = len({name.split(".")[1] for name in shapes if name.startswith("res_blocks.")})
    if "upsampler.conv.weight" in shapes:
        up = math.isqrt(shapes["upsampler.conv.weight"][0] // mid_channels)
        scale = {2: (2, 1), 3: (3, 2), 4: (4, 1)}.get(up)
        if scale is None:
            raise CheckpointError(
                f"upsampler shuffles {up} times the rows, expected 2, 3 or 4: the file is not an LTX-2 latent upsampler"
            )
        return UpsamplerConfig(channels, mid_channels, blocks, scale=scale, rational=True)
    shape = shapes.get("upsampler.0.weight", ())
    kinds = {(4, 4): (True, False), (5, 2): (False, True), (5, 8): (True, True)}
    kind = kinds.get((len(shape), shape[0] // mid_channels)) if shape else None
    if kind is None:
        raise CheckpointError(
            f"upsampler has an upsampler.0 of shape {list(shape)}, expected twice, 4 or 8 times {mid_channels} channels"
        )
    return UpsamplerConfig(channels, mid_channels, blocks, spatial=kind[0], temporal=kind[1])
