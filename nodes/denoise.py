"""Denoising: how, the first stage, twice the size, the second stage."""

from dataclasses import replace
from typing import Any

import torch

from ..ltx2.errors import RequestError
from ..ltx2.film.handoff import check_source
from ..ltx2.sampling.samplers import SAMPLERS
from ..ltx2.sampling.tokens import AVTokens
from ..ltx2.stages import steps
from ..ltx2.stages.conditioning import Conditioning
from ..ltx2.stages.given import unused_conditions
from ..ltx2.stages.latent_preparation import noise_from_latents
from ..ltx2.stages.models import Models
from ..ltx2.stages.pipeline import NoiseSource, held_first_pass, inputs_of, second_pass
from ..ltx2.stages.presets import PRESETS, parse_override, setting_overrides
from ..ltx2.stages.request import FIRST_PASS, SECOND_PASS, make_job
from ..ltx2.story.segment_job import source_of
from ..ltx2.values import AVLatent
from . import host, reporting, sockets
from .models import upsampler_of
from .placement import models_of
from .releases import check_same_release, context_for
from .setting_inputs import eta_input, image_strength_inputs, nag_input, nag_inputs
from .sockets import AnyUpsampler, AudioVae, Context, GuidanceValue, LatentValue, Model, PresetValue, VideoVae

BY_NAME = "by the checkpoint's name"
AS_PRESET = "as the preset says"
# settings that an input gives to one stage alone
_OF_ONE = ("num_inference_steps", "sampler", "enabled", "image_strength")
PRESET_TOOLTIP = (
    "Named settings for both stages. ltx2_fast, two_stage and quality: distilled models, half size and then full size; template: as the official ones; "
    "ltx2_distilled: full size in one stage; base: dev models; hq: dev models with the distilled LoRA."
)
SEED_TOOLTIP = "Number that all chance comes from: segment 1 of a film runs with it, each later one with one more."


def preset_names() -> list[str]:
    return [BY_NAME, *(preset.name for preset in PRESETS)]


def seed_input():
    """The seed of a film, which stays from run to run unless the user asks for another."""
    limits = {"default": 10, "min": 0, "max": 2**64 - 1}
    return host.field(host.io.Int, "seed", SEED_TOOLTIP, control_after_generate=host.FIXED, **limits)


class PresetNode(host.io.ComfyNode):
    """Settings by name, and what is to differ."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "Preset",
            "LTX-2 Preset",
            "denoise",
            description="Chooses a preset and changes single settings of it. Connect it to settings of Generate, or to Denoise; Refine uses what Denoise was given.",
            inputs=[
                host.field(io.Combo, "preset", PRESET_TOOLTIP, options=preset_names(), default=BY_NAME),
                host.field(
                    io.Int,
                    "steps",
                    "Steps of the first stage; 0 as the preset says. Distilled models take 1 to 8.",
                    default=0,
                    min=0,
                    max=200,
                ),
                host.field(
                    io.Int,
                    "refine_steps",
                    "Steps of the second stage, 2 or 3; 0 as the preset says.",
                    default=0,
                    min=0,
                    max=3,
                ),
                host.field(
                    io.Combo,
                    "sampler",
                    "How the first stage steps. res_2s takes two model calls a step.",
                    options=[AS_PRESET, *SAMPLERS],
                    default=AS_PRESET,
                ),
                host.field(
                    io.Combo,
                    "two_stages",
                    "Whether a second stage at twice the size follows.",
                    options=[AS_PRESET, "on", "off"],
                    default=AS_PRESET,
                ),
                host.field(
                    io.String,
                    "overrides",
                    "Any other setting, one a line: denoise.stg_scale=0.5 or refine.add_noise=false.",
                    multiline=True,
                    default="",
                    advanced=True,
                ),
                nag_input("nag", "0 is off, and then the preset's."),
                eta_input(),
                *image_strength_inputs(),
            ],
            outputs=[host.output(sockets.Preset, "preset", "For Denoise.")],
        )

    @classmethod
    def execute(
        cls,
        preset,
        steps,
        refine_steps,
        sampler,
        two_stages,
        overrides="",
        nag=0.0,
        eta=-1.0,
        image_strength=-1.0,
        refine_image_strength=-1.0,
    ):
        said, *firm = (None if value < 0 else value for value in (eta, image_strength, refine_image_strength))
        given = setting_overrides(nag=(nag or None,), eta=said, image_strength=tuple(firm))
        given = {"denoise": {}, "refine": {}, **given}
        if steps:
            given["denoise"]["num_inference_steps"] = steps
        if refine_steps:
            given["refine"]["num_inference_steps"] = refine_steps
        if sampler != AS_PRESET:
            given["denoise"]["sampler"] = sampler
        if two_stages != AS_PRESET:
            given["refine"]["enabled"] = two_stages == "on"
        _add_lines(given, overrides)
        return host.io.NodeOutput(
            PresetValue(None if preset == BY_NAME else preset, {s: v for s, v in given.items() if v})
        )


def _add_lines(given: dict[str, dict[str, Any]], lines: str) -> None:
    """Lines of STAGE.NAME=VALUE into overrides. Raises RequestError for two values of one setting; what an input says
    of all stages may be said again of one of them."""
    firm = {(stage, name): value for stage, held in given.items() for name, value in held.items() if name in _OF_ONE}
    for line in filter(str.strip, lines.splitlines()):
        stage, name, value = parse_override(line)
        before = firm.setdefault((stage, name), value)
        if before != value:
            raise RequestError(f"{stage}.{name} is given as {before} and in overrides as {value}: keep one")
        given.setdefault(stage, {})[name] = value


class GuidanceNode(host.io.ComfyNode):
    """How firmly picture and sound follow the prompt and each other."""

    @classmethod
    def define_schema(cls):
        io = host.io

        def number(name, tooltip, default, low=0.0, high=30.0):
            return host.field(io.Float, name, tooltip, default=default, min=low, max=high, step=0.05)

        return host.schema(
            "Guidance",
            "LTX-2 Guidance",
            "denoise",
            description="Guidance for dev models, for picture and sound by themselves. Each kind that is on costs one more model call a "
            "step, but for nag. Distilled models need none.",
            inputs=[
                number("cfg_video", "How firmly the picture follows the prompt; 1 is off.", 3.0),
                number("cfg_audio", "How firmly the sound follows the prompt; 1 is off.", 7.0),
                number("modality_video", "How firmly the picture goes with the sound; 1 is off.", 3.0),
                number("modality_audio", "How firmly the sound goes with the picture; 1 is off.", 3.0),
                number(
                    "stg_video",
                    "Spatio-temporal guidance of the picture, against blur and broken shapes; 0 is off.",
                    1.0,
                ),
                number("stg_audio", "Spatio-temporal guidance of the sound; 0 is off.", 1.0),
                number(
                    "rescale_video",
                    "How much of the contrast that guidance adds to the picture is taken back: 0 none, 1 all.",
                    0.7,
                    high=1.0,
                ),
                number(
                    "rescale_audio",
                    "How much of the loudness that guidance adds is taken back: 0 none, 1 all.",
                    0.7,
                    high=1.0,
                ),
                host.field(
                    io.String,
                    "stg_blocks",
                    "Transformer blocks that spatio-temporal guidance leaves out, such as 28 or 14, 19; empty as the model's release says.",
                    default="",
                    advanced=True,
                ),
                host.field(
                    io.Int,
                    "skip_step",
                    "Between two guided steps this many reuse the last prediction; 0 runs every step.",
                    default=0,
                    min=0,
                    max=10,
                    advanced=True,
                ),
                *nag_inputs(),
            ],
            outputs=[host.output(sockets.Guidance, "guidance", "For Denoise or Refine.")],
        )

    @classmethod
    def execute(cls, stg_blocks="", skip_step=0, nag_scale=0.0, nag_alpha=0.25, nag_tau=2.5, **scales):
        names = {"cfg": "cfg_scale", "modality": "modality_scale", "stg": "stg_scale", "rescale": "rescale_scale"}
        settings = {}
        for name, value in scales.items():
            kind, _, stream = name.rpartition("_")
            settings[f"{names[kind]}_{stream}"] = value
        settings["skip_step"] = skip_step
        settings |= {"nag_scale": nag_scale, "nag_alpha": nag_alpha, "nag_tau": nag_tau}
        if stg_blocks.strip():
            settings["stg_blocks"] = stg_blocks
        return host.io.NodeOutput(GuidanceValue(settings))


class Denoise(host.io.ComfyNode):
    """The first stage, or the only one."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "Denoise",
            "Denoise LTX-2 Clip",
            "denoise",
            description="Makes picture and sound of a clip together. With a preset of two stages the result has half the size: "
            "Upsample and Refine finish it.",
            inputs=[
                host.field(Model, "model", "The transformer."),
                host.field(Context, "positive", "The encoded prompt."),
                host.field(sockets.Latent, "latent", "The empty clip from Prepare LTX-2 Clip."),
                seed_input(),
                host.field(
                    Context,
                    "negative",
                    "The encoded negative prompt; presets with guidance (dev models) need it.",
                    optional=True,
                ),
                host.field(
                    VideoVae, "video_vae", "Needed when the clip starts from pictures or a state.", optional=True
                ),
                host.field(
                    AudioVae,
                    "audio_vae",
                    "Needed when the clip has a sound track of its own, or a voice.",
                    optional=True,
                ),
                host.field(
                    sockets.Preset,
                    "preset",
                    "Settings of both stages. Without it the file's name chooses: distilled or dev, one stage.",
                    optional=True,
                ),
                host.field(sockets.Guidance, "guidance", "Guidance other than the preset's.", optional=True),
                host.field(
                    io.Sigmas, "sigmas", "Noise levels other than the preset's, falling, the last one 0.", optional=True
                ),
                host.field(io.Noise, "noise", "Starting noise other than the seed's.", optional=True),
            ],
            outputs=[host.output(sockets.Latent, "latent", "For decoding, or Upsample with a preset of two stages.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        latent,
        seed,
        negative=None,
        video_vae=None,
        audio_vae=None,
        preset=None,
        guidance=None,
        sigmas=None,
        noise=None,
    ):
        if latent.stage != sockets.EMPTY:
            raise RequestError(
                f"the clip is {latent.stage} already: connect the latent of Prepare LTX-2 Clip, and Refine for a second stage"
            )
        models = models_of(model, video_vae=video_vae, audio_vae=audio_vae, prompt=positive)
        request = with_preset(latent.request, preset)
        request = with_settings(request, "denoise", guidance, sigmas)
        request = replace(request, seed=seed + latent.timing.index)
        source = source_of(models)
        cut = () if positive is None else positive.notes
        notes = (*latent.notes, *check_source(latent.before, source), *cut)
        positive, negative = context_for(model, positive), context_for(model, negative)
        clip = replace(latent, request=request, source=source, version=model.version, notes=notes)
        made = first_stage(models, clip, positive, negative, noise)
        new = made.notes[len(latent.notes) :]
        return host.io.NodeOutput(made, ui=host.tell(new) if new else None)


class UpsampleNode(host.io.ComfyNode):
    """Twice the size, between the stages."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            "Upsample",
            "Upsample LTX-2 Clip",
            "denoise",
            description="Doubles width and height of a clip that was denoised at half size. Refine follows.",
            inputs=[
                host.field(sockets.Latent, "latent", "The clip from Denoise, with a preset of two stages."),
                host.field(
                    AnyUpsampler,
                    "upsampler",
                    "The spatial x2 latent upsampler; ComfyUI's own latent upscale model fits too.",
                ),
                host.field(VideoVae, "video_vae", "The model's video VAE, which knows the scale of its latents."),
            ],
            outputs=[host.output(sockets.Latent, "latent", "For Refine.")],
        )

    @classmethod
    def execute(cls, latent, upsampler, video_vae):
        if latent.stage != sockets.HALF:
            raise RequestError(
                f"the clip is {latent.stage}, expected one that was denoised at half size: choose a preset of two stages, or leave out Upsample and Refine"
            )
        models = models_of(video_vae=video_vae, upsampler=upsampler_of(upsampler), made_with=latent.version)
        larger = steps.upsample_latent(models, latent.latent, progress=reporting.reporter("upsampling"))
        before, larger = latent.latent.video, larger.to(host.result_device())
        return host.io.NodeOutput(replace(latent, latent=larger, stage=sockets.UPSAMPLED, half=before))


class Refine(host.io.ComfyNode):
    """The second stage."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "Refine",
            "Refine LTX-2 Clip",
            "denoise",
            description="Denoises an upsampled clip in a few steps at full size. Pictures and states are put in again at this size.",
            inputs=[
                host.field(
                    Model, "model", "The transformer; a dev model needs its distilled LoRA chosen in the loader."
                ),
                host.field(Context, "positive", "The encoded prompt."),
                host.field(sockets.Latent, "latent", "The clip from Upsample."),
                host.field(
                    Context,
                    "negative",
                    "The encoded negative prompt, for guidance in this stage; presets have none there.",
                    optional=True,
                ),
                host.field(
                    VideoVae, "video_vae", "Needed when the clip starts from pictures or a state.", optional=True
                ),
                host.field(sockets.Preset, "preset", "Other settings than Denoise was given.", optional=True),
                host.field(sockets.Guidance, "guidance", "Guidance for this stage; presets have none.", optional=True),
                host.field(
                    io.Sigmas, "sigmas", "Noise levels other than the preset's, falling, the last one 0.", optional=True
                ),
                host.field(io.Noise, "noise", "Noise other than what follows from the seed.", optional=True),
                host.field(
                    io.Int,
                    "seed",
                    "-1 goes on with the numbers that Denoise drew, as Generate does; any other starts anew.",
                    default=-1,
                    min=-1,
                    max=2**63 - 1,
                    control_after_generate=False,
                ),
            ],
            outputs=[host.output(sockets.Latent, "latent", "The finished clip, for decoding.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        latent,
        negative=None,
        video_vae=None,
        preset=None,
        guidance=None,
        sigmas=None,
        noise=None,
        seed=-1,
    ):
        if latent.stage != sockets.UPSAMPLED:
            raise RequestError(
                f"the clip is {latent.stage}, expected one that was enlarged: connect the latent of Upsample"
            )
        check_same_release(model, latent.version)
        models = models_of(model, video_vae=video_vae, prompt=positive)
        positive, negative = context_for(model, positive), context_for(model, negative)
        request = with_preset(latent.request, preset)
        request = with_settings(request, "refine", guidance, sigmas)
        request = with_settings(request, "refine", GuidanceValue({"enabled": True}), None)
        made = second_stage(models, replace(latent, request=request), positive, negative, noise, seed)
        new = [note for note in made.notes if note not in latent.notes]
        return host.io.NodeOutput(made, ui=host.tell(new) if new else None)


# ---------------------------------------------------------------------------------------------------------------


def with_preset(request, preset: PresetValue | None):
    return request if preset is None else replace(request, preset=preset.name, overrides=preset.overrides)


def with_settings(request, stage: str, guidance: GuidanceValue | None, sigmas: torch.Tensor | None):
    """A request whose stage has other settings."""
    added = dict(guidance.settings) if guidance is not None else {}
    if sigmas is not None:
        added["sigmas"] = tuple(float(sigma) for sigma in sigmas)
    if not added:
        return request
    return replace(request, overrides={**request.overrides, stage: {**request.overrides.get(stage, {}), **added}})


def first_stage(models: Models, clip: LatentValue, positive, negative=None, noise=None) -> LatentValue:
    """Denoise an empty clip; what it draws afterwards is kept for the next step."""
    request = replace(clip.request, positive=positive, negative=negative)
    job = make_job(models, request, parts=(FIRST_PASS,))
    report = reporting.reporter("video encoding", "denoising", names=models.names)
    inputs = inputs_of(models, job, positive, negative)
    latent, held_to = held_first_pass(models, job, inputs, noise=given_noise(noise, job.seed), progress=report)
    # encoded here once: later stages have no audio VAE
    voice = clip.request.voice
    if voice is not None:
        voice = replace(voice, sound=None, latent=inputs.voice.to(host.result_device()))
    return replace(
        clip,
        request=replace(clip.request, voice=voice),
        geometry=job.geometry,
        latent=latent.to(host.result_device()),
        stage=sockets.FINISHED if job.settings.refine is None else sockets.HALF,
        rng_state=inputs.generators[0].get_state(),
        sound=inputs.audio,
        notes=(
            *clip.notes,
            *job.notes,
            *unused_conditions(request, job.settings, anchored=bool(clip.drift and clip.drift.anchor)),
        ),
        latent_reference=held_to,
    )


def second_stage(models: Models, clip: LatentValue, positive, negative=None, noise=None, seed: int = -1) -> LatentValue:
    """Denoise an enlarged clip again at full size; a seed below 0 goes on with what the first stage drew."""
    request = replace(clip.request, positive=positive, negative=negative)
    job = make_job(models, request, parts=(SECOND_PASS,))
    report = reporting.reporter("video encoding", "refining", names=models.names)
    generators = steps.generators_of(models, job.seed if seed < 0 else seed, 1)
    if seed < 0:
        generators[0].set_state(clip.rng_state)
    voice = steps.encode_voice(models, job.request.voice)
    inputs = steps.Inputs(positive, negative, clip.sound, generators, job.seeds, voice)
    latent = second_pass(
        models, job, inputs, clip.latent, first=clip.half, noise=given_noise(noise, job.seed), progress=report
    )
    return replace(
        clip,
        geometry=job.geometry,
        latent=latent.to(host.result_device()),
        stage=sockets.FINISHED,
        rng_state=generators[0].get_state(),
        notes=tuple(dict.fromkeys((*clip.notes, *job.notes))),
    )


def given_noise(noise, guide_seed: int) -> NoiseSource | None:
    """The host's noise as a pass takes it; None where there is none."""
    if noise is None:
        return None

    def made(start: AVLatent, conditioning: Conditioning) -> AVTokens:
        empty = start.to("cpu", torch.float32).map(torch.zeros_like)
        parts = [part for part in (empty.video, empty.audio) if part is not None]
        video, audio = host.streams(
            noise.generate_noise({"samples": host.nested(*parts) if len(parts) == 2 else parts[0]})
        )
        return noise_from_latents(AVLatent(video, audio), conditioning=conditioning, guide_seed=guide_seed)

    return made


NODES = [PresetNode, GuidanceNode, Denoise, UpsampleNode, Refine]
