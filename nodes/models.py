"""Model files from ComfyUI's folders to networks in the host's hands."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..ltx2.checkpoint import models as load
from ..ltx2.checkpoint.layout import MissingComponent, model_version
from ..ltx2.checkpoint.lora import Lora
from ..ltx2.checkpoint.lora_report import report_lora
from ..ltx2.checkpoint.quantization.linear import QuantizedLinear
from ..ltx2.checkpoint.reader import Checkpoint, open_checkpoint
from ..ltx2.config.upsampler import UpsamplerConfig, upsampler_config
from ..ltx2.config.video_vae import VideoVaeConfig
from ..ltx2.errors import CheckpointError, RequestError
from ..ltx2.networks.layers.ops import compute_dtype
from ..ltx2.stages.memory import on_device
from ..ltx2.stages.models import read_refine_lora
from ..ltx2.stages.refinement import check_temporal_upsampler, check_upsampler
from . import host
from .releases import check_video_vae
from .sockets import (
    AudioVae,
    AudioVaeValue,
    Bundle,
    Model,
    ModelsValue,
    ModelValue,
    TextEncoder,
    Upsampler,
    UpsamplerValue,
    VideoVae,
    VideoVaeValue,
)
from .text_networks import load_text

NONE = "none"
TRANSFORMERS = ("diffusion_models", "unet_gguf", "checkpoints")
VAES = ("vae", "checkpoints")
TEXT_ENCODERS = ("text_encoders", "clip_gguf")
UPSAMPLERS = ("latent_upscale_models",)
LORAS = ("loras",)
# what the host's latent upsampler says of itself, under the names of the checkpoints' config
NATIVE_UPSAMPLER = (
    "in_channels",
    "mid_channels",
    "num_blocks_per_stage",
    "dims",
    "spatial_upsample",
    "temporal_upsample",
    "spatial_scale",
    "rational_resampler",
)


def distilled_lora_input():
    return host.field(
        host.io.Combo,
        "distilled_lora",
        "The release's distilled LoRA, for dev models: stages of few steps (refine, HQ presets) run with it at the strength that the "
        "preset says. Other stages never see it. A distilled model needs none.",
        options=[NONE, *host.model_names(*LORAS)],
        default=NONE,
    )


def more_inputs() -> list:
    """What a loader adds to its models, so that one wire carries them all."""
    return [
        host.field(
            host.io.Combo,
            "text_encoder",
            "Gemma, in models/text_encoders, for the models output; mini belongs to the demonstration model. none: a node of its own loads it.",
            options=[NONE, *host.model_names(*TEXT_ENCODERS), *host.model_folders("text_encoders")],
            default=NONE,
            optional=True,
        ),
        host.field(
            host.io.Combo,
            "upsampler",
            "The spatial x2 upscaler, in models/latent_upscale_models, for the models output; presets of two stages need it.",
            options=[NONE, *host.model_names(*UPSAMPLERS)],
            default=NONE,
            optional=True,
        ),
    ]


class LoadCheckpoint(host.io.ComfyNode):
    """One file with transformer, video VAE and audio VAE."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadCheckpoint",
            "Load LTX-2 Checkpoint",
            "models",
            description="Loads an LTX-2 or LTX-2.3 checkpoint that holds everything but the text encoder. For LTX-2.5 use Load LTX-2 Split Files.",
            inputs=[
                host.field(
                    host.io.Combo,
                    "checkpoint",
                    "A file in models/checkpoints. fp8 and fp4 files stay small in memory. mini is the demonstration model that comes with the pack.",
                    options=host.model_names("checkpoints"),
                ),
                distilled_lora_input(),
                *more_inputs(),
            ],
            outputs=_model_outputs(),
            search_aliases=["ltx2", "ltx-2", "ltxv"],
        )

    @classmethod
    def execute(cls, checkpoint, distilled_lora=NONE, text_encoder=NONE, upsampler=NONE):
        file = open_checkpoint(host.model_path(checkpoint, "checkpoints"))
        model = load_model(file, _lora_path(distilled_lora))
        return _loaded(model, load_video_vae(file), load_audio_vae(file), text_encoder, upsampler)


class LoadSplitFiles(host.io.ComfyNode):
    """Transformer, video VAE and audio VAE from files of their own."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadSplitFiles",
            "Load LTX-2 Split Files",
            "models",
            description="Loads LTX-2 models that come as separate files, as LTX-2.5 does, or parts of different files.",
            inputs=[
                host.field(
                    host.io.Combo,
                    "transformer",
                    "The transformer, in models/diffusion_models.",
                    options=host.model_names(*TRANSFORMERS),
                ),
                host.field(
                    host.io.Combo, "video_vae", "The video VAE, in models/vae.", options=host.model_names(*VAES)
                ),
                host.field(
                    host.io.Combo,
                    "audio_vae",
                    "The audio VAE with its vocoder, in models/vae.",
                    options=host.model_names(*VAES),
                ),
                distilled_lora_input(),
                *more_inputs(),
            ],
            outputs=_model_outputs(),
            search_aliases=["ltx2", "ltx-2.5"],
        )

    @classmethod
    def execute(cls, transformer, video_vae, audio_vae, distilled_lora=NONE, text_encoder=NONE, upsampler=NONE):
        pictures = load_video_vae(open_checkpoint(host.model_path(video_vae, *VAES)))
        sounds = load_audio_vae(open_checkpoint(host.model_path(audio_vae, *VAES)))
        for value, kind in ((pictures, "video"), (sounds, "audio")):
            if not value.get_models():
                raise CheckpointError(
                    f"{value.name} holds no {kind} VAE: choose the release's {kind} VAE as {kind}_vae"
                )
        model = load_model(open_checkpoint(host.model_path(transformer, *TRANSFORMERS)), _lora_path(distilled_lora))
        check_video_vae(pictures, model.version)
        return _loaded(model, pictures, sounds, text_encoder, upsampler)


class LoadTextEncoder(host.io.ComfyNode):
    """Gemma, and the projection and connectors that belong to a model."""

    @classmethod
    def define_schema(cls):
        names = [*host.model_names(*TEXT_ENCODERS), *host.model_folders("text_encoders")]
        return host.schema(
            "LoadTextEncoder",
            "Load LTX-2 Text Encoder",
            "models",
            description="Loads Gemma for a model: Gemma 3 12B for LTX-2 and 2.3, Gemma 4 for 2.5. What joins the two is taken from "
            "whichever file holds it.",
            inputs=[
                host.field(
                    host.io.Combo,
                    "text_encoder",
                    "A Gemma file or folder in models/text_encoders; mini belongs to the demonstration model.",
                    options=names,
                ),
                host.field(Model, "model", "The model that the prompts are for."),
            ],
            outputs=[host.output(TextEncoder, "text_encoder", "For Encode Prompt, Generate and Story.")],
            search_aliases=["gemma", "clip"],
        )

    @classmethod
    def execute(cls, text_encoder, model):
        return host.io.NodeOutput(load_text(host.model_path(text_encoder, *TEXT_ENCODERS, folders=True), model))


class LoadUpsampler(host.io.ComfyNode):
    """The network between two stages."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            "LoadUpsampler",
            "Load LTX-2 Upsampler",
            "models",
            description="Loads a latent upsampler: the spatial x2 one, which doubles width and height between the two stages, or the temporal x2 "
            "one, which doubles the frame rate. ComfyUI's own latent upscale model loader fits the same inputs.",
            inputs=[
                host.field(
                    host.io.Combo,
                    "upsampler",
                    "A spatial or temporal x2 upscaler in models/latent_upscale_models.",
                    options=host.model_names(*UPSAMPLERS),
                )
            ],
            outputs=[
                host.output(
                    Upsampler,
                    "upsampler",
                    "For Upsample, Generate and Story; a temporal one for Double LTX-2 Frame Rate or LTX-2 Models.",
                )
            ],
        )

    @classmethod
    def execute(cls, upsampler):
        return host.io.NodeOutput(load_upsampler(host.model_path(upsampler, *UPSAMPLERS), any_kind=True))


# ---------------------------------------------------------------------------------------------------------------


def load_model(file: Checkpoint, distilled_lora: Path | None = None) -> ModelValue:
    """The transformer of a checkpoint. Quantised weights stay small; plain ones are mapped from the file in their own
    type."""
    network = transformer_of(file)
    if distilled_lora is not None:
        refining = read_refine_lora(distilled_lora, network)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    stored = compute_dtype(network)
    return ModelValue(
        host.patcher(network),
        dtype=host.transformer_dtype(stored, parameters),
        version=model_version(file),
        files=tuple(file.paths),
        name=file.paths[0].stem,
        distilled_lora=distilled_lora,
        notes=() if distilled_lora is None else report_lora(refining, {"transformer": network}).notes(),
    )


def load_video_vae(file: Checkpoint) -> VideoVaeValue:
    """Encoder and decoder; one that the file lacks is None, and ``missing`` says so."""
    missing: dict[str, str] = {}
    encoder = _part(missing, "video_encoder", load.load_video_encoder, file, host.vae_dtype())
    decoder = _part(missing, "video_decoder", load.load_video_decoder, file, host.vae_dtype())
    configs = [
        part.model.config
        for part in (encoder, decoder)
        if part is not None and isinstance(part.model.config, VideoVaeConfig)
    ]
    # a diffusion decoder came after the change
    first = configs[0].first_latent_space if configs else None if decoder is None else False
    return VideoVaeValue(encoder, decoder, file.paths[0].stem, first, missing)


def load_audio_vae(file: Checkpoint) -> AudioVaeValue:
    """Encoder, decoder and vocoder, in single precision: sound is heard."""
    missing: dict[str, str] = {}
    encoder, decoder, vocoder = (
        _part(missing, name, loader, file, torch.float32)
        for name, loader in (
            ("audio_encoder", load.load_audio_encoder),
            ("audio_decoder", load.load_audio_decoder),
            ("vocoder", load.load_vocoder),
        )
    )
    rate = None if vocoder is None else vocoder.model.sample_rate
    return AudioVaeValue(encoder, decoder, vocoder, sample_rate=rate, name=file.paths[0].stem, missing=missing)


def load_upsampler(path: Path, *, any_kind: bool = False) -> UpsamplerValue:
    """A latent upsampler, a temporal one too where any kind will do. Raises CheckpointError for another file,
    RequestError for one of another kind."""
    file = open_checkpoint(path)
    network = load.load_upsampler(file, dtype=host.vae_dtype(), ops=host.OPS)
    (check_temporal_upsampler if any_kind and network.config.temporal else check_upsampler)(network.config)
    return UpsamplerValue(host.patcher(network), file.paths[0].stem)


def _loaded(model: ModelValue, pictures: VideoVaeValue, sounds: AudioVaeValue, text_encoder: str, upsampler: str):
    """The outputs of a loader: each model by itself, and all of them on one wire."""
    text = None if text_encoder == NONE else host.model_path(text_encoder, *TEXT_ENCODERS, folders=True)
    larger = None if upsampler == NONE else host.model_path(upsampler, *UPSAMPLERS)
    models = ModelsValue(
        model,
        None if text is None else load_text(text, model),
        pictures,
        sounds,
        None if larger is None else load_upsampler(larger),
    )
    return host.io.NodeOutput(model, pictures, sounds, models)


def upsampler_of(value) -> UpsamplerValue:
    """What the upsampler input was given: our own value, or ComfyUI's latent upscale model (a module, or a patcher of
    one).

    Raises RequestError for an upscale model of another family.
    """
    if isinstance(value, UpsamplerValue):
        return value
    network = value if isinstance(value, torch.nn.Module) else getattr(value, "model", None)
    first = getattr(network, "initial_conv", None)
    settings = {name: getattr(network, name) for name in NATIVE_UPSAMPLER if hasattr(network, name)}
    if first is None or settings.get("in_channels") != 128 or not hasattr(network, "post_upsample_res_blocks"):
        found = type(value if network is None else network).__name__
        raise RequestError(
            f"the upscale model is a {found}, expected an LTX-2 latent upsampler: load the release's spatial-upscaler-x2"
        )
    return UpsamplerValue(host.patcher(_Adapted(network, upsampler_config(settings, {}))), type(network).__name__)


class _Adapted(torch.nn.Module):
    """The host's latent upsampler, called as the engine calls its own."""

    def __init__(self, network: torch.nn.Module, config: UpsamplerConfig):
        super().__init__()
        self.network, self.config = network, config

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        if host.can_stream(self.network):
            return self.network(latent)
        with on_device(
            self.network, latent.device
        ) as network:  # hosts up to 0.28 make it of layers that do not follow their input
            return network(latent)


def transformer_of(file: Checkpoint, loras: Sequence[tuple[Lora, float]] = ()):
    """The transformer of a checkpoint in the host's hands, with LoRAs at strengths."""
    return host.adopt(
        load.load_transformer(file, ops=host.OPS, attention=host.attention, loras=loras, quantized="on_use")
    )


def keeps_quantized(network: torch.nn.Module) -> bool:
    """Whether some of its weights stay packed until they are used."""
    return any(isinstance(layer, QuantizedLinear) for layer in network.modules())


def _part(missing: dict[str, str], name: str, loader: Callable, file: Checkpoint, dtype: torch.dtype):
    try:
        return host.patcher(loader(file, dtype=dtype, ops=host.OPS), "vae")
    except MissingComponent as error:
        missing[name] = str(error)
        return None


def _lora_path(name: str) -> Path | None:
    return None if name == NONE else host.model_path(name, *LORAS)


def _model_outputs() -> list:
    return [
        host.output(Model, "model", "The transformer."),
        host.output(VideoVae, "video_vae", "Pictures to latents and back."),
        host.output(AudioVae, "audio_vae", "Sound to latents and back."),
        host.output(Bundle, "models", "All of them on one wire, with the text encoder and upsampler chosen here."),
    ]


NODES = [LoadCheckpoint, LoadSplitFiles, LoadTextEncoder, LoadUpsampler]
