"""One segment in one node."""

from dataclasses import replace

from ..ltx2.clock import exact_seconds
from ..ltx2.errors import RequestError
from ..ltx2.film import Overlap
from ..ltx2.film.handoff import fps_after
from ..ltx2.media.frames import last_frames_of
from ..ltx2.stages.doubling.tiles import MOST_ROUNDS
from ..ltx2.stages.geometry import LARGEST_SIDE
from ..ltx2.stages.given import sound_from, unused_conditions
from ..ltx2.stages.pipeline import generate
from ..ltx2.stages.request import Request
from ..ltx2.stages.video_decoding import pictures
from ..ltx2.story.segment_job import segment_job, state_after
from ..ltx2.values import LAST, ImageCondition, Waveform
from . import host, reporting, sockets
from .bundle import bundle_input, everything, gathered, pipeline_inputs
from .continuation import card, carried_inputs
from .decode import images_of
from .denoise import BY_NAME, PRESET_TOOLTIP, preset_names, seed_input, with_preset
from .drift import drift_input, one_drift
from .shown import new_video, playable
from .sockets import (
    ConditionsValue,
    PresetValue,
    Segment,
    SegmentValue,
    State,
    audio_value,
    overlap_error,
    picture_of,
    waveform_of,
)
from .text import NEGATIVE_TOOLTIP, asked_negative, enhance_input, with_enhanced_prompt

STAGES = ("text encoding", "video encoding", "denoising", "upsampling", "refining", "audio decoding", "video decoding")
DOUBLED_STAGES = (*STAGES[:5], "doubling", *STAGES[5:])

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
            "Width in pixels, taken to a multiple of 64, or of 32 with a preset of one stage. 0 for width and height: as the state, else as the preset.",
            default=768,
            min=0,
            max=LARGEST_SIDE,
            step=32,
        ),
        host.field(
            io.Int,
            "height",
            "Height in pixels, taken to a multiple of 64, or of 32 with a preset of one stage. 0 for width and height: as the state, else as the preset.",
            default=512,
            min=0,
            max=LARGEST_SIDE,
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
    """The host's AUDIO from where the film begins. Raises MediaError, and RequestError for a start of no sound too."""
    sound = waveform_of(audio)
    if sound is None and start:
        raise RequestError(
            f"audio_start is {start:g}, and no sound is connected here that it would be in: connect audio, or set it to 0"
        )
    return None if sound is None else sound_from(sound, exact_seconds(start))


def one_audio(given: ConditionsValue, audio: Waveform | None) -> Waveform | None:
    """The sound of the conditions or of an input. Raises RequestError where there are both."""
    if given.audio is not None and audio is not None:
        raise RequestError("audio is connected and the conditions hold a sound too: leave one of them out")
    return given.audio if audio is None else audio


def picture_inputs() -> list:
    """What is seen at known places, beside the prompt."""
    io = host.io
    return [
        host.field(io.Image, "first_image", "The picture that it starts from.", optional=True),
        host.field(io.Image, "last_image", "The picture that it comes to at its end.", optional=True),
        host.field(
            sockets.Conditions,
            "conditions",
            "Pictures at any places, clips, references and a voice, from a chain of nodes such as Add Image.",
            optional=True,
        ),
    ]


def conditions_of(given: ConditionsValue | None, state, **pictures) -> ConditionsValue:
    """All that a segment starts from. pictures: of the inputs image, first_image and last_image, None where nothing is
    connected. Raises RequestError where two things stand in one place."""
    given = given or ConditionsValue()
    if state is not None and given.state is not None:
        raise RequestError("a state is connected and the conditions hold one too: leave one of them out")
    before = given.state if state is None else state
    places = {"first_image": 0, "image": 0 if before is None else LAST, "last_image": LAST}
    taken = {one.frame: "a picture of the conditions" for one in given.images}
    images = list(given.images)
    for name, picture in pictures.items():
        if picture is None:
            continue
        if name == "first_image" and before is not None:
            raise RequestError(
                "first_image and a state are connected: a continuation starts from the state's frames, connect the picture to last_image"
            )
        if places[name] in taken:
            raise RequestError(f"{taken[places[name]]} and {name} stand at the same frame: connect one of them")
        taken[places[name]] = name
        images.append(ImageCondition(picture_of(picture), places[name]))
    return replace(given, images=tuple(images), state=before)


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
                *carried_inputs(),
                *audio_inputs(),
                bundle_input(),
                *picture_inputs(),
                enhance_input(),
                host.field(
                    io.Int,
                    "double_rate",
                    "How often the frame rate is doubled in the end: 1 makes 48 frames per second of 24. Takes the temporal upsampler on the models "
                    "wire, see LTX-2 Models; the state stays of the rate before. Experimental.",
                    default=0,
                    min=0,
                    max=MOST_ROUNDS,
                    optional=True,
                    advanced=True,
                ),
                drift_input(),
            ],
            outputs=[
                host.output(io.Image, "images", "All frames of the segment, repeated ones included."),
                host.output(io.Audio, "audio", "Its sound."),
                host.output(State, "state", "What the next segment goes on from."),
                host.output(Segment, "segment", "This segment, for Join Segments."),
                host.output(io.String, "info", "What was made, and what was adjusted."),
                host.output(io.Float, "fps", "Frames per second."),
                host.output(io.Video, "video", "What is new in the segment, with its sound, for saving."),
            ],
            search_aliases=SEARCHES,
        )

    @classmethod
    def validate_inputs(cls, video_overlap=None):
        return overlap_error(video_overlap) or True

    @classmethod
    def execute(
        cls,
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
        models=None,
        image=None,
        first_image=None,
        last_image=None,
        conditions=None,
        state=None,
        settings=None,
        audio=None,
        audio_start=0.0,
        enhance=False,
        double_rate=0,
        drift=None,
        **single,
    ):
        models = everything(gathered(models, **single))
        given = conditions_of(conditions, state, image=image, first_image=first_image, last_image=last_image)
        request = Request(
            prompt=prompt,
            negative_prompt=asked_negative(negative_prompt),
            seconds=seconds,
            width=width or None,
            height=height or None,
            fps=fps_after(given.state, fps),
            seed=seed if given.state is None else None,
            snap=True,
            images=given.images,
            clips=given.clips,
            audio=one_audio(given, own_audio(audio, audio_start)),
            double_rate=double_rate,
            references=given.references,
            voice=given.voice,
            keyframe_slots=given.slots,
        )
        request = with_preset(request, settings or PresetValue(None if preset == BY_NAME else preset))
        request, written = with_enhanced_prompt(models, request, enhance, seed, going_on=given.state is not None)
        if settings is not None and preset not in (BY_NAME, settings.name):
            written.append(f"preset {preset} has no effect: settings are connected")
        overlap = Overlap(video_overlap, audio_overlap)
        handoff = replace(given.handoff, seed=seed, drift=one_drift(given.handoff.drift, drift))
        made = segment_job(models, request, given.state, handoff, overlap=overlap)
        written += unused_conditions(request, made.job.settings, anchored=bool(handoff.drift and handoff.drift.anchor))
        return carried_out(models, made, written)


def carried_out(models, made, written: list[str]):
    """The node's outputs: a segment sampled and decoded, and what it leaves. written: what to tell before the rest."""
    stages = DOUBLED_STAGES if made.job.settings.rounds else STAGES
    report = reporting.reporter(*stages, names=models.names)
    segment = generate(models, made.job, progress=report)
    images = images_of(frames_of(segment, report), segment.latent)
    carried = state_after(
        made, segment, images if segment.base is None else frames_before_doubling(segment.base, made.overlap)
    )
    timing = made.timing.doubled(segment.rounds)
    lines = [f"{segment.geometry}, seed {segment.seed}", *written, *made.notes, *segment.notes]
    info = "\n".join((str(made.timing), *lines))
    return host.io.NodeOutput(
        images,
        audio_value(segment.sound),
        carried,
        SegmentValue(images, segment.sound, timing),
        info,
        float(segment.geometry.fps),
        new_video(images, segment.sound, timing),
        ui={"states": [card(carried)], "text": lines, **playable(images, segment.sound, timing)},
    )


def frames_of(segment, report):
    """Pieces [n, H, W, 3] float32 in 0…1 of a finished segment, in order of time."""
    for pixels in segment.pixels(progress=report):
        host.check_interrupted()
        yield pictures(pixels)


def frames_before_doubling(segment, overlap: Overlap):
    """Frames [n, H, W, 3] uint8 that a state takes from a clip whose frame rate was doubled: of before."""
    return last_frames_of(frames_of(segment, None), overlap.video_frames)


NODES = [Generate]
