"""One segment in one node."""

from dataclasses import replace

from ..ltx2.clock import exact_seconds
from ..ltx2.film import Handoff, Overlap
from ..ltx2.film.handoff import fps_after
from ..ltx2.stages.given import sound_from
from ..ltx2.stages.pipeline import generate
from ..ltx2.stages.request import Request, resolve_geometry
from ..ltx2.stages.video_decoding import pictures
from ..ltx2.story.segment_job import segment_job, state_after
from ..ltx2.values import ImageCondition, Waveform
from . import host, sockets
from .continuation import card
from .decode import images_of
from .denoise import BY_NAME, PRESET_TOOLTIP, preset_names, seed_input, with_preset
from .models import pipeline_inputs, upsampler_of
from .placement import models_of
from .shown import playable
from .sockets import PresetValue, Segment, SegmentValue, State, audio_value, overlap_error, picture_of, waveform_of
from .text import NEGATIVE_TOOLTIP

STAGES = ("text encoding", "video encoding", "denoising", "upsampling", "refining", "audio decoding", "video decoding")

# what people type who look for it
SEARCHES = [
    "ltx2",
    "ltx-2",
    "ltx2 extend",
    "extend",
    "extend video",
    "continue video",
    "text to video",
    "t2v",
    "image to video",
    "i2v",
    "first frame",
    "last frame",
    "first last frame",
    "long video",
    "video with sound",
]  # fmt: skip


def clip_inputs() -> list:
    """Length, size and rate of a segment."""
    io = host.io
    return [
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
            "Width in pixels, taken to a multiple of 64, or of 32 with a preset of one stage.",
            default=768,
            min=64,
            max=8192,
            step=32,
        ),
        host.field(
            io.Int,
            "height",
            "Height in pixels, taken to a multiple of 64, or of 32 with a preset of one stage.",
            default=512,
            min=64,
            max=8192,
            step=32,
        ),
        host.field(
            io.Float,
            "fps",
            "Frames per second; 0 takes the rate of the state, or 24.",
            default=0.0,
            min=0.0,
            max=120.0,
            step=0.001,
        ),
    ]


def audio_inputs() -> list:
    """A track of one's own over the whole film."""
    io = host.io
    return [
        host.field(
            io.Audio,
            "audio",
            "The film's own sound, of any length: it is kept, the picture goes with it, and each segment hears its piece of it, on the film's "
            "clock.",
            optional=True,
        ),
        host.field(
            io.Float,
            "audio_start",
            "Seconds into that sound at which the film begins.",
            default=0.0,
            min=0.0,
            max=86400.0,
            step=0.01,
            optional=True,
        ),
    ]


def own_audio(audio: dict | None, start: float) -> Waveform | None:
    """The host's AUDIO from where the film begins. Raises MediaError and RequestError."""
    sound = waveform_of(audio)
    return None if sound is None else sound_from(sound, exact_seconds(start))


def kept_inputs() -> list:
    """What the state after a segment carries."""
    io = host.io
    return [
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
    ]


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
                *clip_inputs(),
                host.field(io.Combo, "preset", PRESET_TOOLTIP, options=preset_names(), default=BY_NAME),
                seed_input(),
                host.field(
                    sockets.Preset, "settings", "A preset with changes, in place of the one named here.", optional=True
                ),
                *kept_inputs(),
                *audio_inputs(),
            ],
            outputs=[
                host.output(io.Image, "images", "All frames of the segment, repeated ones included."),
                host.output(io.Audio, "audio", "Its sound."),
                host.output(State, "state", "What the next segment goes on from."),
                host.output(Segment, "segment", "This segment, for Join Segments."),
                host.output(io.String, "info", "What was made, and what was adjusted."),
                host.output(io.Float, "fps", "Frames per second."),
            ],
            search_aliases=SEARCHES,
        )

    @classmethod
    def validate_inputs(cls, video_overlap=None):
        return overlap_error(video_overlap) or True

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
        audio=None,
        audio_start=0.0,
    ):
        models = models_of(
            model,
            text_encoder=text_encoder,
            video_vae=video_vae,
            audio_vae=audio_vae,
            upsampler=None if upsampler is None else upsampler_of(upsampler),
        )
        request = Request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            seconds=seconds,
            width=width,
            height=height,
            fps=fps_after(state, fps),
            seed=seed if state is None else None,
            snap=True,
            audio=own_audio(audio, audio_start),
        )
        request = with_picture(request, image, state)
        request = with_preset(request, settings or PresetValue(None if preset == BY_NAME else preset))
        overlap = Overlap(video_overlap, audio_overlap)
        made = segment_job(models, request, state, Handoff(seed=seed), overlap=overlap)
        report = host.progress_reporter(*STAGES)
        segment = generate(models, made.job, progress=report)
        images = images_of(frames_of(segment, report), segment.latent)
        carried = state_after(made, segment, images)
        told = [f"{segment.geometry}, seed {segment.seed}", *made.notes, *segment.notes]
        info = "\n".join((str(made.timing), *told))
        return host.io.NodeOutput(
            images,
            audio_value(segment.sound),
            carried,
            SegmentValue(images, segment.sound, made.timing),
            info,
            float(segment.geometry.fps),
            ui={"states": [card(carried)], "text": told, **playable(images, segment.sound, made.timing)},
        )


def with_picture(request: Request, image, state) -> Request:
    """A request with a picture at its start; a continuation, which starts from what it carries, comes to it at its
    end."""
    if image is None:
        return request
    place = 0 if state is None else resolve_geometry(request)[0].frames - 1
    return replace(request, images=(ImageCondition(picture_of(image), place),))


def frames_of(segment, report):
    """Pieces [n, H, W, 3] float32 in 0…1 of a finished segment, in order of time."""
    for pixels in segment.pixels(progress=report):
        host.check_interrupted()
        yield pictures(pixels)


NODES = [Generate]
