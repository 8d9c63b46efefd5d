"""The second stage: the first one's latents at twice the size, partly noised again and denoised in a few steps.

Its start is ``upsample_video``; conditions are encoded again at full size, and ``denoising.denoise`` does the rest with
the refine schedule, whose first sigma says how much noise is mixed in.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..checkpoint.lora import Lora, differences_for, merge_loras, merged, weight_shapes
from ..checkpoint.quantization.linear import QuantizedLinear
from ..config.upsampler import UpsamplerConfig
from ..errors import RequestError
from ..networks.layers.statistics import PerChannelStatistics
from ..networks.video_vae.latent_upsampler import LatentUpsampler, upsample
from ..values import AVLatent, Progress
from .memory import copy_to, on_device, stays, temporary_copy


def check_upsampler(config: UpsamplerConfig) -> None:
    """Raise RequestError for an upsampler that does more or less than to double height and width."""
    if (config.spatial, config.temporal, config.scale) != (True, False, (2, 1)):
        raise RequestError(
            f"the upsampler {_does(config)}, expected one that doubles height and width: load the spatial x2 upsampler"
        )


def check_temporal_upsampler(config: UpsamplerConfig) -> None:
    """Raise RequestError for an upsampler that does more or less than to double the frame rate."""
    if (config.spatial, config.temporal) != (False, True):
        raise RequestError(
            f"the temporal upsampler {_does(config)}, expected one that doubles the frame rate: load the release's "
            "temporal-upscaler-x2 file"
        )


def _does(config: UpsamplerConfig) -> str:
    if config.temporal:
        return "enlarges and adds frames" if config.spatial else "adds frames"
    return f"enlarges {config.scale[0] / config.scale[1]:g} times"


def upsample_video(
    upsampler: LatentUpsampler,
    statistics: PerChannelStatistics,
    latent: AVLatent,
    *,
    device: torch.device | str,
    progress: Callable[[Progress], None] | None = None,
) -> AVLatent:
    """The latents with the picture at twice the height and width, or with twice the frames, as the upsampler does; the
    sound stays as it is.

    statistics: of the video VAE, on ``device`` like the upsampler. Runs in the upsampler's own type, one clip after the
    other; the result has the latent's. Raises RequestError when there is no video or the upsampler is of another kind.
    """
    if latent.video is None:
        raise RequestError("there is no video latent to upsample")
    (check_temporal_upsampler if upsampler.config.temporal else check_upsampler)(upsampler.config)
    clips = []
    with torch.no_grad():
        for i, clip in enumerate(latent.video.to(device).split(1)):
            if progress is not None:
                progress(Progress("upsampling", i, len(latent.video)))
            clips.append(upsample(upsampler, clip, statistics))
    video = torch.cat(clips) if len(clips) > 1 else clips[0]
    if progress is not None:
        progress(Progress("upsampling", len(clips), len(clips)))
    return AVLatent(video, latent.audio)


@contextmanager
def stage_transformer(
    transformer: nn.Module, loras: Sequence[tuple[Lora, float]], *, device: torch.device | str
) -> Iterator[nn.Module]:
    """The transformer of one stage, on ``device`` for as long as the block runs, with LoRAs at strengths on top.

    The given module, with whatever LoRAs the user merged into it, is left as it is: no other stage sees this one. Where
    it has to be copied to the device anyway, each weight gets its differences on the way, so that there is one copy
    only.
    Raises CheckpointError for a LoRA of another model.
    """
    loras = [(lora, strength) for lora, strength in loras if strength]
    copied = copied_transformer(transformer, loras, device)
    if copied is not None:
        with temporary_copy(copied()) as changed:
            yield changed
        return
    with on_device(transformer, device) as there:
        # shares what the LoRAs leave alone with the given one
        yield merge_loras(there, loras) if loras else there


def copied_transformer(
    transformer: nn.Module, loras: Sequence[tuple[Lora, float]], device: torch.device | str
) -> Callable[[], nn.Module] | None:
    """What makes a transformer's copy on a device, each weight with its differences from LoRAs; None where there need
    be no copy of its own. Raises CheckpointError for a LoRA of another model."""
    quantised = any(isinstance(layer, QuantizedLinear) for layer in transformer.modules())
    if stays(transformer, device) or (loras and quantised):
        return None
    additions = differences_for(loras, weight_shapes(transformer), needed=True) if loras else {}

    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        return merged(weight, additions[name]) if name in additions else weight

    return lambda: copy_to(transformer, device, change=change)
