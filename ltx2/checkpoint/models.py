"""Every network of the family from a checkpoint: the configuration is read, the network built, its weights assigned.

All functions take the options of :class:`.build.LoadOptions` as keywords: ``dtype`` (of the weights; None as stored),
``device``, ``ops`` (the layer set), ``quantized`` (``dequantize`` at load, or ``on_use``) and ``loras`` (with their
strengths; what they say of other networks is passed over). They raise MissingComponent (a CheckpointError) when no file
holds the component, CheckpointError when what the files hold does not fit together, RequestError for options that are
none.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

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
from ..errors import CheckpointError
from ..networks.audio.vae import AudioDecoder, AudioEncoder
from ..networks.audio.vocoder import make_vocoder
from ..networks.layers import attention as networks_attention
from ..networks.layers.ops import TORCH_OPS
from ..networks.transformer.connectors import Connector, TextProjection
from ..networks.transformer.duration_head import DurationHead
from ..networks.transformer.model import Transformer
from ..networks.transformer.sound_half import sound_half
from ..networks.video_vae.diffusion_decoder import DiffusionDecoder, fold_gates
from ..networks.video_vae.latent_upsampler import LatentUpsampler
from ..networks.video_vae.model import VideoDecoder, VideoEncoder
from ..networks.video_vae.tiny_decoder import PREFIX as TINY_DECODER
from ..networks.video_vae.tiny_decoder import TinyDecoder, build_tiny_decoder, check_tiny_decoder
from .build import LONGEST_REASON, LoadOptions, build
from .layout import CONNECTORS, Component, find_component
from .lazy_tensor import HeldTensor
from .lora import match_lora
from .lora_report import network_of
from .quantization.packed import FileTensor
from .reader import Checkpoint
from .recognition.damage import check_loaded

LEAST_REPEATS = 64  # that a configuration may ask for, however few tensors there are


def load_transformer(
    checkpoint: Checkpoint,
    *,
    attention: networks_attention.AttentionFunction = networks_attention.attention,
    av_timestep_mode: str = "hybrid",
    sound_only: bool = False,
    **options: Any,
) -> Transformer:
    """The audio-video transformer, with LoRAs merged in at their strengths. sound_only: the half that makes sound from
    text and sound; the weights of the other half are not read.

    Errors: also CheckpointError for a model version that this package does not know and for LoRAs of another model.
    """
    component = find_component(checkpoint, "transformer")
    release(component.version, str(component))
    config = _read(transformer_config, component)
    how = LoadOptions(**options)
    for lora, _ in how.loras:
        if all(network_of(name) == "transformer" for name in lora.differences):
            match_lora(lora, component.shapes)
    extra: dict[str, Any] = {"attention": attention, "av_timestep_mode": av_timestep_mode}

    def whole(ops):
        return Transformer(config, ops=ops, device="meta", dtype=how.dtype, **extra)

    if not sound_only:
        return build(whole, component, how)
    of_picture = set(whole(TORCH_OPS).state_dict()) - set(sound_half(whole(TORCH_OPS)).state_dict())
    tensors = {name: tensor for name, tensor in component.tensors.items() if name not in of_picture}
    return build(lambda ops: sound_half(whole(ops)), replace(component, tensors=tensors), how)


def transformer_heads(checkpoint: Checkpoint) -> tuple[int, int]:
    """Attention heads of video and audio, read from a checkpoint's header alone. Raises CheckpointError."""
    config = _read(transformer_config, find_component(checkpoint, "transformer"))
    return config.heads, config.audio_heads


def load_connectors(
    checkpoint: Checkpoint,
    *,
    attention: networks_attention.AttentionFunction = networks_attention.attention,
    **options: Any,
) -> tuple[Connector, Connector]:
    """The video and the audio connector."""
    how = LoadOptions(**options)
    video, audio = (_load_connector(checkpoint, prefix, attention, how) for prefix in CONNECTORS)
    return video, audio


def _load_connector(checkpoint: Checkpoint, prefix: str, attention, how: LoadOptions) -> Connector:
    stream = prefix.partition("_")[0]
    component = find_component(checkpoint, f"{stream}_connector")
    config = _read(connector_config, component, stream)
    how = replace(how, loras=[(lora.part(prefix), strength) for lora, strength in how.loras])

    def make(ops):
        return Connector(config, ops=ops, attention=attention, device="meta", dtype=how.dtype)

    return build(make, component, how)


def load_text_projection(checkpoint: Checkpoint, **options: Any) -> TextProjection:
    """The projection of the text encoder's hidden states. Where no configuration says how wide these are, a text
    encoder in the files does."""
    component = find_component(checkpoint, "text_projection")
    config, width = component.config or {}, _encoder_width(checkpoint)
    if width is not None and not config.get("caption_channels"):
        component = replace(component, config={**config, "caption_channels": width})
    return _build(component, text_projection_config, TextProjection, options)


def _encoder_width(checkpoint: Checkpoint) -> int | None:
    """The width of the hidden states, by the table of a text encoder under its official or llama.cpp's name."""
    tables = (
        tensor.shape
        for name, tensor in checkpoint.tensors.items()
        if name == "token_embd.weight" or name.endswith("embed_tokens.weight")
    )
    return next((shape[1] for shape in tables if len(shape) == 2), None)


def load_video_encoder(checkpoint: Checkpoint, **options: Any) -> VideoEncoder:
    """The video VAE's encoder."""
    return _load(checkpoint, "video_encoder", video_vae_config, VideoEncoder, options)


def load_video_decoder(
    checkpoint: Checkpoint, *, kind: str | None = None, **options: Any
) -> VideoDecoder | DiffusionDecoder:
    """The video decoder. kind: ``conv``, ``diffusion``, or None for the one in the first file that holds any."""
    name = {"conv": "video_decoder", "diffusion": "diffusion_decoder"}.get(kind) or _first_decoder(checkpoint)
    if name == "video_decoder":
        return _load(checkpoint, name, video_vae_config, VideoDecoder, options)
    component = _without_gates(find_component(checkpoint, name))
    return _build(component, diffusion_decoder_config, DiffusionDecoder, options)


def load_audio_encoder(checkpoint: Checkpoint, **options: Any) -> AudioEncoder:
    """The audio VAE's encoder."""
    return _load(checkpoint, "audio_encoder", audio_vae_config, AudioEncoder, options)


def load_audio_decoder(checkpoint: Checkpoint, **options: Any) -> AudioDecoder:
    """The audio VAE's decoder."""
    return _load(checkpoint, "audio_decoder", audio_vae_config, AudioDecoder, options)


def load_vocoder(checkpoint: Checkpoint, **options: Any) -> nn.Module:
    """The vocoder: a Vocoder (2.0) or a BandwidthExtensionVocoder (2.3 on)."""
    return _load(checkpoint, "vocoder", vocoder_config, make_vocoder, options)


def load_upsampler(checkpoint: Checkpoint, **options: Any) -> LatentUpsampler:
    """A latent upsampler, spatial or temporal."""
    return _load(checkpoint, "upsampler", upsampler_config, LatentUpsampler, options)


def load_tiny_decoder(
    checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> TinyDecoder:
    """The decoder of a tiny autoencoder, which draws drafts and previews."""
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith(TINY_DECODER)}
    try:
        check_tiny_decoder({name: tensor.shape for name, tensor in tensors.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    return build_tiny_decoder(_whole(tensors), device=device, dtype=dtype)


def load_duration_head(checkpoint: Checkpoint, **options: Any) -> DurationHead:
    """The network that guesses how long a prompt's clip should be."""
    return _load(checkpoint, "duration_head", duration_config, DurationHead, options)


def _load(
    checkpoint: Checkpoint, name: str, reader: Callable, network: Callable[..., nn.Module], options: Mapping[str, Any]
) -> Any:
    """A network that needs nothing but its configuration."""
    return _build(find_component(checkpoint, name), reader, network, options)


def _build(
    component: Component, reader: Callable, network: Callable[..., nn.Module], options: Mapping[str, Any]
) -> Any:
    config, how = _read(reader, component), LoadOptions(**options)
    return build(lambda ops: network(config, ops=ops, device="meta", dtype=how.dtype), component, how)


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


def _first_decoder(checkpoint: Checkpoint) -> str:
    for file in checkpoint.files:
        for prefix in ("vae.decoder.", "decoder."):
            if f"{prefix}conv_in_x_t.weight" in file.tensors:
                return "diffusion_decoder"
            if f"{prefix}up_blocks.0.res_blocks.0.conv1.conv.weight" in file.tensors:
                return "video_decoder"
    return "video_decoder"


def _whole(tensors: Mapping[str, FileTensor]) -> dict[str, torch.Tensor]:
    """Tensors as they are stored. Raises CheckpointError for one that is damaged."""
    for tensor in tensors.values():
        check_loaded(tensor)
    return {name: tensor.load() for name, tensor in tensors.items()}


def _without_gates(component: Component) -> Component:
    """The tensors of early diffusion decoders in the released layout."""
    if not any(name.rpartition(".")[2].startswith("gate_") for name in component.tensors):
        return component
    loaded = fold_gates(_whole(component.tensors))
    held = {name: HeldTensor(name, tensor, component.paths[0]) for name, tensor in loaded.items()}
    return replace(component, tensors=MappingProxyType(held))
