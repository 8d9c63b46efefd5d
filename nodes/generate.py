"""One segment in one node."""

from dataclasses import replace

from ..ltx2 import clock
from ..ltx2.stages.pipeline import generate
from ..ltx2.values import ImageCondition
from . import host, sockets
from .continuation import card, make_state
from .decode import frames_of, images_of
from .denoise import BY_NAME, PRESET_TOOLTIP, SEED_TOOLTIP, preset_names, with_preset
from .latents import prepare, rate_of
from .models import pipeline_inputs, upsampler_of
from .placement import models_of
from .sockets import (
    ConditionsValue,
    LatentValue,
    PresetValue,
    Segment,
    SegmentValue,
    State,
    audio_value,
    picture_of,
)
from .text import NEGATIVE_TOOLTIP

STAGES = ("text encoding", "video encoding", "denoising", "upsampling", "refining", "audio decoding", "video decoding")


class Generate(host.io.ComfyNode):
    """From a prompt to frames, sound and the state for the next segment."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "Generate",
            "Generate LTX-2 Segment",
            "story",
            description="Makes one segment of a film with sound, from a prompt alone, from a picture, or going on from a state. Gives the "
            "state for the next segment and this one for Join Segments.",
            has_intermediate_output=True,
            inputs=[
                *pipeline_inputs(),
                host.field(
                    io.Image,
                    "image",
                    "A picture to start from; a continuation comes to it at its last frame.",
                    optional=True,
                ),
                host.field(State, "state", "The state of the segment before, to go on from.", optional=True),
                host.field(
                    io.String,
                    "prompt",
                    "What is seen and heard, as one paragraph: scene, action, camera, voices in quotes, sounds.",
                    multiline=True,
                    default="",
                ),
                host.field(io.String, "negative_prompt", NEGATIVE_TOOLTIP, multiline=True, default="full"),
                host.field(
                    io.Float,
                    "seconds",
                    "Length in seconds, repeated frames of a continuation included. Taken to 8k+1 frames.",
                    default=5.0,
                    min=0.1,
                    max=20.0,
                    step=0.01,
                ),
                host.field(
                    io.Int,
                    "width",
                    "Width in pixels, taken to a multiple of 64.",
                    default=768,
                    min=64,
                    max=8192,
                    step=32,
                ),
                host.field(
                    io.Int,
                    "height",
                    "Height in pixels, taken to a multiple of 64.",
                    default=512,
                    min=64,
                    max=8192,
                    step=32,
                ),
                host.field(
                    io.Float,
                    "fps",
                    "Frames per second; 0 takes the rate of the state, or 24.",
                    default=24.0,
                    min=0.0,
                    max=120.0,
                    step=0.001,
                ),
                host.field(io.Combo, "preset", PRESET_TOOLTIP, options=preset_names(), default=BY_NAME),
                host.field(io.Int, "seed", SEED_TOOLTIP, default=10, min=0, max=2**64 - 1, control_after_generate=True),
                host.field(
                    sockets.Preset, "settings", "A preset with changes, in place of the one named here.", optional=True
                ),
                host.field(
                    io.Int,
                    "video_overlap",
                    "Frames that the state carries to the next segment: 8k+1, such as 9 or 17.",
                    default=9,
                    min=1,
                    max=249,
                    step=8,
                ),
                host.field(
                    io.Int,
                    "audio_overlap",
                    "Sound that the state carries, in video frames; 49 is about two seconds at 24 fps, 0 carries none.",
                    default=49,
                    min=0,
                    max=480,
                ),
            ],
            outputs=[
                host.output(io.Image, "images", "All frames of the segment, repeated ones included."),
                host.output(io.Audio, "audio", "Its sound."),
                host.output(State, "state", "What the next segment goes on from."),
                host.output(Segment, "segment", "This segment, for Join Segments."),
                host.output(io.String, "info", "What was made, and what was adjusted."),
                host.output(io.Float, "fps", "Frames per second."),
            ],
            search_aliases=["ltx2", "text to video", "image to video", "extend video", "video with sound"],
        )

    @classmethod
    def execute(
        cls,
        model,
        text_encoder,
        video_vae,
        audio_vae,
        prompt,
        negative_prompt,
        seconds,
        width,
        height,
        fps,
        preset,
        seed,
        video_overlap,
        audio_overlap,
        upsampler=None,
        image=None,
        state=None,
        settings=None,
    ):
        models = models_of(
            model,
            text_encoder=text_encoder,
            video_vae=video_vae,
            audio_vae=audio_vae,
            upsampler=None if upsampler is None else upsampler_of(upsampler),
        )
        conditions = ConditionsValue(state=state)
        rate = rate_of(fps, conditions)
        frames = clock.snap_frames(clock.frames_for_seconds(seconds, rate))
        if image is not None:
            # a continuation starts from what it carries
            place = 0 if state is None else frames - 1
            conditions = replace(conditions, images=(ImageCondition(picture_of(image), place),))
        empty = prepare(width, height, frames, rate, conditions, multiple=64)
        settings = settings or PresetValue(None if preset == BY_NAME else preset)
        request = replace(
            with_preset(empty.request, settings),
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed + empty.timing.index,
        )
        clip, images, waveform = run(models, replace(empty, request=request, model=model.name, version=model.version))
        carried = make_state(clip, images, waveform, video_overlap, audio_overlap)
        info = "\n".join((str(clip.timing), f"{clip.geometry}, seed {clip.seed}", *clip.notes))
        return host.io.NodeOutput(
            images,
            audio_value(waveform),
            carried,
            SegmentValue(images, waveform, clip.timing),
            info,
            float(clip.geometry.fps),
            ui={"states": [card(carried)]},
        )


def run(models, empty: LatentValue):
    """The whole way of an empty clip: (the finished clip, its images, its sound)."""
    report = host.progress_reporter(*STAGES)
    made = generate(models, empty.request, progress=report)
    clip = replace(
        empty,
        geometry=made.geometry,
        latent=made.latent,
        stage=sockets.FINISHED,
        rng_state=made.rng_state[0],
        notes=(*empty.notes, *made.notes),
    )
    return clip, images_of(frames_of(models, clip, report), clip), made.sound


NODES = [Generate]
