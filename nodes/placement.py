"""Networks in the host's hands: what the engine's steps ask for is loaded, streamed and unloaded by the host."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..ltx2.checkpoint.lora import Lora, read_lora
from ..ltx2.config.versions import release
from ..ltx2.stages import memory
from ..ltx2.stages.models import Models, PipelineConfig
from ..ltx2.text.cache import ContextCache
from ..ltx2.text.source import TextSource
from . import host
from .loras import lora_patcher, stage_loras_of
from .releases import check_text_encoder, check_video_vae, text_lora_notes
from .sockets import AudioVaeValue, ContextValue, ModelValue, TextEncoderValue, UpsamplerValue, VideoVaeValue
from .text_networks import contexts_folder


@dataclass(frozen=True, eq=False)
class HostPlacement:
    """The engine's placement (ltx2.stages.placement) over the host's patchers.

    patchers: by id of the network they wrap; with_loras: a patcher of the transformer with more LoRAs at strengths.
    """

    patchers: Mapping[int, Any]
    with_loras: Callable[[Sequence[tuple[Lora, float]]], Any]

    def device_of(self, module: torch.nn.Module | None) -> torch.device:
        patcher = self.patchers.get(id(module))
        return host.compute_device() if patcher is None else patcher.load_device

    @contextmanager
    def on(self, *modules: torch.nn.Module, activation_bytes: int = 0) -> Iterator[tuple[torch.nn.Module, ...]]:
        known = [self.patchers[id(module)] for module in modules if id(module) in self.patchers]
        if known:
            host.load(*known, activation_bytes=activation_bytes)
        with ExitStack() as held:
            yield tuple(
                module
                if id(module) in self.patchers
                else held.enter_context(memory.on_device(module, host.compute_device()))
                for module in modules
            )

    @contextmanager
    def transformer(
        self, module: torch.nn.Module, loras: Sequence[tuple[Lora, float]], *, activation_bytes: int = 0
    ) -> Iterator[torch.nn.Module]:
        patcher = self.with_loras(loras) if loras else self.patchers[id(module)]
        (network,) = host.load(patcher, activation_bytes=activation_bytes)
        yield network

    def free_bytes(self, module: torch.nn.Module | None = None) -> int:
        return host.free_memory_bytes(self.device_of(module))


NOT_CONNECTED = {
    "video_encoder": "pictures are to be encoded: connect video_vae",
    "video_decoder": "there is no video VAE: connect video_vae",
    "audio_encoder": "a sound track is to be encoded: connect audio_vae",
    "audio_decoder": "there is no audio VAE: connect audio_vae",
    "vocoder": "there is no audio VAE: connect audio_vae",
    "upsampler": "two stages need the latent upsampler: connect upsampler, or choose a preset of one stage",
    "temporal_upsampler": "double_rate needs the temporal upsampler: connect it to temporal_upsampler of LTX-2 Models",
    "text_encoder": "a prompt is to be encoded: connect text_encoder",
}


class _Connected:
    """What is connected to a node, part by part. found: the engine's fields; missing: what to say of those that are
    not there; patchers: the host's, by their network."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.missing = dict(NOT_CONNECTED)
        self.patchers: dict[int, Any] = {}

    def network(self, patcher: Any) -> Any:
        if patcher is None:
            return None
        self.patchers[id(patcher.model)] = patcher
        return patcher.model

    def add_vaes(self, video: VideoVaeValue | None, audio: AudioVaeValue | None) -> None:
        for kind, value, names in (
            ("video", video, ("encoder", "decoder")),
            ("audio", audio, ("encoder", "decoder", "vocoder")),
        ):
            if value is None:
                continue
            for name in names:
                self.found[name if name == "vocoder" else f"{kind}_{name}"] = self.network(getattr(value, name))
            self.missing |= value.missing

    def add_text(self, text_encoder: TextEncoderValue) -> None:
        self.found["context_identity"] = text_encoder.contexts
        self.found["contexts"] = ContextCache(folder=contexts_folder())
        if text_encoder.source.is_loaded:
            self.found |= self.text_networks(text_encoder)
        else:
            self.found["text_source"] = TextSource(lambda: self.text_networks(text_encoder))

    def text_networks(self, text_encoder: TextEncoderValue) -> dict[str, Any]:
        encoder = text_encoder.encoder  # loads them
        self.patchers[id(encoder.model)] = text_encoder.patcher
        return {
            "text_encoder": encoder,
            "text_projection": self.network(text_encoder.projection),
            "connectors": tuple(self.network(one) for one in text_encoder.connectors),
        }


def models_of(
    model: ModelValue | None = None,
    *,
    text_encoder: TextEncoderValue | None = None,
    video_vae: VideoVaeValue | None = None,
    audio_vae: AudioVaeValue | None = None,
    upsampler: UpsamplerValue | None = None,
    video_decoding: str = "auto",
    made_with: tuple[int, ...] = (),
    prompt: ContextValue | None = None,
) -> Models:
    """The engine's view of what is connected to a node; what is not connected is missing with a sentence that names the
    input.

    prompt: the encoded one that is worked with, where there is no text encoder. made_with: version of the model that made the latents which are worked on, where there is no model.
    Raises RequestError for parts of releases that do not go together.
    """
    if model is not None and text_encoder is not None:
        check_text_encoder(model, text_encoder)
    if video_vae is not None:
        check_video_vae(video_vae, made_with if model is None else model.version)
    connected = _Connected()
    connected.add_vaes(video_vae, audio_vae)
    if text_encoder is not None:
        connected.add_text(text_encoder)
    if upsampler is not None:
        connected.found["upsampler"] = connected.network(upsampler.patcher)
    dtype = torch.float32 if model is None else model.dtype
    distilled = None if model is None or model.distilled_lora is None else read_lora(model.distilled_lora)
    return Models(
        config=PipelineConfig(
            device=str(host.compute_device()),
            transformer=dtype,
            text_encoder=host.text_dtype(),
            video_vae=host.vae_dtype(),
            upsampler=host.vae_dtype(),
            latents=dtype,
            video_decoding=video_decoding,
        ),
        release=None if model is None else release(model.version),
        names=() if model is None else model.names,
        transformer=None if model is None else connected.network(model.patcher),
        distilled_lora=distilled,
        stage_loras=() if model is None else stage_loras_of(model),
        reference_loras=() if model is None else _reference_loras(model),
        missing=connected.missing,
        notes=() if model is None else (*model.notes, *text_lora_notes(model, text_encoder or prompt)),
        host_placement=HostPlacement(connected.patchers, lambda loras: lora_patcher(model, loras)),
        **connected.found,
    )


def with_temporal_upsampler(models: Models, value: UpsamplerValue) -> Models:
    """The same models with the network that doubles the frame rate."""
    held = models.host_placement
    assert isinstance(held, HostPlacement)  # of ``models_of``
    network = value.patcher.model
    patchers = {**held.patchers, id(network): value.patcher}
    return replace(models, temporal_upsampler=network, host_placement=replace(held, patchers=patchers))


def _reference_loras(model: ModelValue) -> tuple[Lora, ...]:
    loras = (read_lora(path) for path in model.lora_files)
    return tuple(lora for lora in loras if lora.reference is not None or lora.takes_voice)
