"""All models on one wire: put together, changed in part, and taken apart again."""

from dataclasses import replace

from ..ltx2.errors import RequestError
from . import host
from .models import upsampler_of
from .placement import models_of, with_temporal_upsampler
from .sockets import (
    AnyAudioVae,
    AnyModel,
    AnyTextEncoder,
    AnyUpsampler,
    AnyVideoVae,
    AudioVae,
    AudioVaeValue,
    Bundle,
    Model,
    ModelsValue,
    ModelValue,
    TextEncoder,
    TextEncoderValue,
    Upsampler,
    VideoVae,
    VideoVaeValue,
)

# input → the value that the pack's own loaders give
OWN = {
    "model": ModelValue,
    "text_encoder": TextEncoderValue,
    "video_vae": VideoVaeValue,
    "audio_vae": AudioVaeValue,
}


def pipeline_inputs(*names: str) -> list:
    """What a node takes that goes through all stages by itself, one wire each; or see ``bundle_input``. names: of those
    that it needs, all unless given."""
    return [
        host.field(kind, name, tooltip, optional=True)
        for kind, name, tooltip in (
            (AnyModel, "model", "The transformer, in place of the one in models."),
            (AnyTextEncoder, "text_encoder", "Gemma, loaded for this model, in place of the one in models."),
            (AnyVideoVae, "video_vae", "The model's video VAE, in place of the one in models."),
            (AnyAudioVae, "audio_vae", "The model's audio VAE, in place of the one in models."),
            (AnyUpsampler, "upsampler", "The spatial x2 latent upsampler, for presets of two stages."),
        )
        if not names or name in names
    ]


def bundle_input():
    return host.field(
        Bundle,
        "models",
        "All models on one wire, from a loader. What is connected by itself comes before.",
        optional=True,
    )


class ModelsNode(host.io.ComfyNode):
    """Models from several wires to one, and back."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            "Models",
            "LTX-2 Models",
            "models",
            description="Puts models on one wire, changes single ones of it, such as a model with a LoRA, and gives them one by one.",
            inputs=[
                *pipeline_inputs(),
                bundle_input(),
                host.field(
                    AnyUpsampler,
                    "temporal_upsampler",
                    "The temporal x2 latent upsampler, for double_rate of Generate and of scripts.",
                    optional=True,
                ),
            ],
            outputs=[
                host.output(Bundle, "models", "All models on one wire, for Generate and Story."),
                host.output(Model, "model", "The transformer."),
                host.output(TextEncoder, "text_encoder", "Gemma, loaded for this model."),
                host.output(VideoVae, "video_vae", "Pictures to latents and back."),
                host.output(AudioVae, "audio_vae", "Sound to latents and back."),
                host.output(Upsampler, "upsampler", "The spatial x2 latent upsampler."),
                host.output(Upsampler, "temporal_upsampler", "The temporal x2 latent upsampler."),
            ],
            search_aliases=["model pipe", "bundle", "pipe", "unpack models"],
        )

    @classmethod
    def execute(cls, models=None, **single):
        found = gathered(models, **single)
        return host.io.NodeOutput(
            found,
            found.model,
            found.text_encoder,
            found.video_vae,
            found.audio_vae,
            found.upsampler,
            found.temporal_upsampler,
        )


def gathered(models: ModelsValue | None = None, **single) -> ModelsValue:
    """Models on one wire with those that are connected by themselves in their place. Raises RequestError for the
    host's own, which the pack's engine cannot run, saying what to connect instead."""
    given = {name: value for name, value in single.items() if value is not None}
    for name, kind in OWN.items():
        if name in given and not isinstance(given[name], kind):
            raise RequestError(
                f"{name} is ComfyUI's own, which Continuum's engine cannot run: connect models of Load LTX-2 Checkpoint, or keep "
                "ComfyUI's model and samplers and put Continuation → AV Latent before each of them"
            )
    for name in ("upsampler", "temporal_upsampler"):
        if name in given:
            given[name] = upsampler_of(given[name])
    return replace(models or ModelsValue(), **given)


def everything(models: ModelsValue):
    """The engine's view of all models that go through the stages together. Raises RequestError where one that every
    stage needs is not there."""
    if models.model is None:
        raise RequestError("there is no model: connect models of a loader, or model and the others one by one")
    if models.text_encoder is None:
        raise RequestError(
            "there is no text encoder: choose it in the loader whose models are connected, or connect text_encoder"
        )
    parts = dict(models.parts)
    temporal = parts.pop("temporal_upsampler", None)
    found = models_of(**parts)
    return found if temporal is None else with_temporal_upsampler(found, temporal)


NODES = [ModelsNode]
