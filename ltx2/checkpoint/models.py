"""Every network of the family from a checkpoint: the configuration is read, the network built, its weights assigned.

All functions take ``dtype`` (of the weights; None as stored), ``device``, ``ops`` (the layer set) and ``quantized``
(``dequantize`` at load, or ``on_use``), and raise MissingComponent (a CheckpointError) when no file holds the
component, CheckpointError when what the files hold does not fit together.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import nn

from ..config.audio import audio_vae_config, vocoder_config
from ..config.check import invalid_fields
from ..config.diffusion_decoder import diffusion_decoder_config
from ..config.duration import duration_config
from ..config.transformer import connector_config, text_projection_config, transformer_config
from ..config.upsampler import upsampler_config
from ..config.versions import release
from ..config.video_vae import video_vae_config
from ..errors import CheckpointError, is_out_of_memory
from ..networks.audio.vae import AudioDecoder, AudioEncoder
from ..networks.audio.vocoder import make_vocoder
from ..networks.layers import attention as networks_attention
from ..networks.layers.ops import TORCH_OPS, Ops
from ..networks.transformer.connectors import Connector, TextProjection
from ..networks.transformer.duration_head import DurationHead
from ..networks.transformer.model import Transformer
from ..networks.video_vae.diffusion_decoder import DiffusionDecoder, fold_gates
from ..networks.video_vae.latent_upsampler import LatentUpsampler
from ..networks.video_vae.model import VideoDecoder, VideoEncoder
from .build import build
from .layout import CONNECTORS, Component, find_component
from .lazy_tensor import HeldTensor
from .lora import Lora
from .reader import Checkpoint

Loras = Sequence[tuple[Lora, float]]

LONGEST_REASON = 300  # characters of an error that metadata caused
LEAST_REPEATS = 64  # that a configuration may ask for, however few tensors there are


def load_transformer(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    attention: networks_attention.AttentionFunction = networks_attention.attention,
    loras: Loras = (),
    quantized: str = "dequantize",
    av_timestep_mode: str = "hybrid",
) -> Transformer:
    """The audio-video transformer, with LoRAs merged in at their strengths.

    Errors: also CheckpointError for a model version that this package does not know and for LoRAs of another model.
    """
    component = find_component(checkpoint, "transformer")
    release(component.version, str(component))
    config = _read(transformer_config, component)
    options = {"attention": attention, "av_timestep_mode": av_timestep_mode}
    return _build(component, lambda **how: Transformer(config, **options, **how), ops, dtype, device, quantized, loras)


def transformer_heads(checkpoint: Checkpoint) -> tuple[int, int]:
    """Attention heads of video and audio, read from a checkpoint's header alone. Raises CheckpointError."""
    config = _read(transformer_config, find_component(checkpoint, "transformer"))
    return config.heads, config.audio_heads


def load_connectors(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    attention: networks_attention.AttentionFunction = networks_attention.attention,
    loras: Loras = (),
    quantized: str = "dequantize",
) -> tuple[Connector, Connector]:
    """The video and the audio connector. LoRAs that say nothing about connectors are passed over."""
    connectors = []
    for stream, prefix in zip(("video", "audio"), CONNECTORS):
        component = find_component(checkpoint, f"{stream}_connector")
        config = _read(connector_config, component, stream)
        parts = [(lora.part(prefix), strength) for lora, strength in loras]
        parts = [(part, strength) for part, strength in parts if part.differences]
        factory = _connector(config, attention)
        connectors.append(_build(component, factory, ops, dtype, device, quantized, parts))
    return tuple(connectors)


def load_text_projection(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
) -> TextProjection:
    """The projection of the text encoder's hidden states."""
    return _load(checkpoint, "text_projection", text_projection_config, TextProjection, ops, dtype, device, quantized)


def load_video_encoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
) -> VideoEncoder:
    """The video VAE's encoder."""
    return _load(checkpoint, "video_encoder", video_vae_config, VideoEncoder, ops, dtype, device, quantized)


def load_video_decoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
    kind: str | None = None,
) -> VideoDecoder | DiffusionDecoder:
    """The video decoder. kind: ``conv``, ``diffusion``, or None for the one in the first file that holds any."""
    name = {"conv": "video_decoder", "diffusion": "diffusion_decoder"}.get(kind) or _first_decoder(checkpoint)
    if name == "video_decoder":
        return _load(checkpoint, name, video_vae_config, VideoDecoder, ops, dtype, device, quantized)
    component = _without_gates(find_component(checkpoint, name))
    config = _read(diffusion_decoder_config, component)
    return _build(component, lambda **how: DiffusionDecoder(config, **how), ops, dtype, device, quantized)


def load_audio_encoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
) -> AudioEncoder:
    """The audio VAE's encoder."""
    return _load(checkpoint, "audio_encoder", audio_vae_config, AudioEncoder, ops, dtype, device, quantized)


def load_audio_decoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
) -> AudioDecoder:
    """The audio VAE's decoder."""
    return _load(checkpoint, "audio_decoder", audio_vae_config, AudioDecoder, ops, dtype, device, quantized)


def load_vocoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
) -> nn.Module:
    """The vocoder: a Vocoder (2.0) or a BandwidthExtensionVocoder (2.3 on)."""
    return _load(checkpoint, "vocoder", vocoder_config, make_vocoder, ops, dtype, device, quantized)


def load_upsampler(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
) -> LatentUpsampler:
    """A latent upsampler, spatial or temporal."""
    return _load(checkpoint, "upsampler", upsampler_config, LatentUpsampler, ops, dtype, device, quantized)


def load_duration_head(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    ops: Ops = TORCH_OPS,
    quantized: str = "dequantize",
) -> DurationHead:
    """The network that guesses how long a prompt's clip should be."""
    return _load(checkpoint, "duration_head", duration_config, DurationHead, ops, dtype, device, quantized)


def _load(
    checkpoint: Checkpoint,
    name: str,
    reader: Callable,
    network: Callable[..., nn.Module],
    ops: Ops,
    dtype,
    device,
    quantized: str,
):
    """A network that needs nothing but its configuration."""
    component = find_component(checkpoint, name)
    config = _read(reader, component)
    return _build(component, lambda **how: network(config, **how), ops, dtype, device, quantized)


def _read(reader: Callable, component: Component, *more):
    """A component's configuration. What is wrong with metadata from elsewhere comes out as a sentence, not as a type
    error."""
    try:
        config = reader(component.config, component.shapes, *more)
    except CheckpointError as error:
        raise CheckpointError(f"{component}: {str(error)[:LONGEST_REASON]}") from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError, OverflowError) as error:
        reason = f"{type(error).__name__}: {str(error)[:LONGEST_REASON]}"
        raise CheckpointError(
            f"{component} has a configuration that makes no sense ({reason}): get the file again"
        ) from error
    wrong = next(invalid_fields(config, max(len(component.tensors), LEAST_REPEATS)), None)
    if wrong is not None:
        raise CheckpointError(f"{component} has a configuration with {wrong}, which makes no sense: get the file again")
    return config


def _build(
    component: Component, make: Callable[..., nn.Module], ops: Ops, dtype, device, quantized: str, loras: Loras = ()
):
    def empty(**how) -> nn.Module:
        try:
            return make(device="meta", dtype=dtype, **how)
        except CheckpointError:
            raise
        except (
            TypeError,
            ValueError,
            RuntimeError,
            ZeroDivisionError,
            IndexError,
        ) as error:  # sizes that no layer can have
            if is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0][:LONGEST_REASON]
            raise CheckpointError(
                f"{component} has a configuration that nothing fits ({reason}): get the file again"
            ) from error

    like = None if ops is TORCH_OPS else empty
    return build(
        lambda: empty(ops=ops),
        component,
        dtype=dtype,
        device=device,
        quantized=quantized,
        loras=loras,
        like=like,
    )


def _connector(config, attention) -> Callable[..., Connector]:
    return lambda **how: Connector(config, attention=attention, **how)


def _first_decoder(checkpoint: Checkpoint) -> str:
    for file in checkpoint.files:
        for prefix in ("vae.decoder.", "decoder."):
            if f"{prefix}conv_in_x_t.weight" in file.tensors:
                return "diffusion_decoder"
            if f"{prefix}up_blocks.0.res_blocks.0.conv1.conv.weight" in file.tensors:
                return "video_decoder"
    return "video_decoder"


def _without_gates(component: Component) -> Component:
    """The tensors of early diffusion decoders in the released layout."""
    if not any(name.rpartition(".")[2].startswith("gate_") for name in component.tensors):
        return component
    loaded = fold_gates({name: tensor.load() for name, tensor in component.tensors.items()})
    held = {name: HeldTensor(name, tensor, component.paths[0]) for name, tensor in loaded.items()}
    return replace(component, tensors=MappingProxyType(held))
