"""Size, length and start of a clip."""

from fractions import Fraction

from ..ltx2 import clock
from ..ltx2.errors import RequestError
from ..ltx2.film import condition_next, first_segment
from ..ltx2.stages.request import Geometry, Request, size_for
from . import host
from .sockets import Conditions, ConditionsValue, Latent, LatentValue

ASPECTS = {
    "16:9": (16, 9),
    "9:16": (9, 16),
    "3:2": (3, 2),
    "2:3": (2, 3),
    "4:3": (4, 3),
    "3:4": (3, 4),
    "1:1": (1, 1),
    "21:9": (21, 9),
}
SNAPS = {"64 px (any preset)": 64, "32 px (one stage)": 32, "off": 0}
SECONDS, FRAMES = "seconds", "frames"


class SizeHelper(host.io.ComfyNode):
    """Sizes that the models take."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "SizeHelper",
            "LTX-2 Size",
            "latents",
            description="Width and height of a shape and an area, as multiples that the models take.",
            inputs=[
                host.field(
                    io.Combo, "aspect", "Shape of the picture, width to height.", options=list(ASPECTS), default="16:9"
                ),
                host.field(
                    io.Float,
                    "megapixels",
                    "Area of a frame in millions of pixels: 0.4 is 768x512, 0.9 is 1280x704, 2.1 is 1920x1088.",
                    default=0.4,
                    min=0.01,
                    max=8.3,
                    step=0.01,
                ),
                host.field(
                    io.Combo,
                    "multiple",
                    "Sides are multiples of this many pixels: 64 for presets of two stages, 32 for one.",
                    options=["64", "32"],
                    default="64",
                ),
            ],
            outputs=[host.output(io.Int, "width", "Pixels."), host.output(io.Int, "height", "Pixels.")],
        )

    @classmethod
    def execute(cls, aspect, megapixels, multiple):
        return host.io.NodeOutput(*size_for(Fraction(*ASPECTS[aspect]), round(megapixels * 1_000_000), int(multiple)))


class PrepareLatent(host.io.ComfyNode):
    """A clip that is still to be made."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "PrepareLatent",
            "Prepare LTX-2 Clip",
            "latents",
            description="Says how large and long a clip is, and what is known of it: pictures, clips, sound, the state that it continues.",
            inputs=[
                host.field(
                    io.Int,
                    "width",
                    "Width of the finished film in pixels. With two stages the first one works at half of it.",
                    default=768,
                    min=32,
                    max=8192,
                    step=32,
                ),
                host.field(
                    io.Int, "height", "Height of the finished film in pixels.", default=512, min=32, max=8192, step=32
                ),
                host.field(
                    io.Float,
                    "length",
                    "Length of the clip, in the unit below; repeated frames of a continuation count.",
                    default=5.0,
                    min=0.1,
                    max=10000.0,
                    step=0.01,
                ),
                host.field(
                    io.Combo,
                    "unit",
                    "Unit of the length: seconds, or frames (8k+1, such as 97 or 121).",
                    options=[SECONDS, FRAMES],
                    default=SECONDS,
                ),
                host.field(
                    io.Float,
                    "fps",
                    "Frames per second; 0 takes the rate of the state, or 24. 23.976 and 29.97 are exact.",
                    default=24.0,
                    min=0.0,
                    max=120.0,
                    step=0.001,
                ),
                host.field(Conditions, "conditions", "What is known of the clip in advance.", optional=True),
                host.field(
                    io.Combo,
                    "snap",
                    "Take sizes to the nearest multiple, and frames to 8k+1; off refuses others.",
                    options=list(SNAPS),
                    default=list(SNAPS)[0],
                ),
            ],
            outputs=[
                host.output(Latent, "latent", "The empty clip, for Denoise."),
                host.output(io.Int, "frames", "Frames of the clip, repeated ones included."),
                host.output(io.Float, "fps", "Frames per second."),
            ],
        )

    @classmethod
    def execute(cls, width, height, length, unit, fps, conditions=None, snap="64 px (any preset)"):
        rate = rate_of(fps, conditions)
        frames = clock.frames_for_seconds(length, rate) if unit == SECONDS else round(length)
        clip = prepare(
            width,
            height,
            frames,
            rate,
            conditions,
            multiple=SNAPS[snap],
            snap_frames=unit == SECONDS or bool(SNAPS[snap]),
        )
        return host.io.NodeOutput(clip, clip.geometry.frames, float(clip.geometry.fps))


def rate_of(fps: float, conditions: ConditionsValue | None) -> Fraction:
    """Frames per second; 0 means those of the state that the clip continues, or 24."""
    if fps:
        return clock.parse_fps(fps)
    from ..ltx2.film.provenance import read_provenance

    state = None if conditions is None else conditions.state
    producer = None if state is None else read_provenance(state.metadata, state.segment_index)
    return clock.parse_fps(24) if producer is None else producer.timing.fps


def prepare(
    width: int,
    height: int,
    frames: int,
    fps: Fraction,
    conditions: ConditionsValue | None = None,
    *,
    multiple: int = 0,
    snap_frames: bool = True,
) -> LatentValue:
    """An empty clip with its conditions resolved: a state becomes frames and sound at the clip's start, and moves its
    clocks.

    multiple: of the sides to snap to, 0 leaves them. Raises RequestError and ContinuationError.
    """
    given, notes = conditions or ConditionsValue(), []
    if multiple:
        near = clock.snap_size(width, multiple), clock.snap_size(height, multiple)
        if near != (width, height):
            notes.append(f"{width}x{height} became {near[0]}x{near[1]}")
        width, height = near
    if snap_frames and frames != clock.snap_frames(frames):
        notes.append(f"{frames} frames became {clock.snap_frames(frames)}")
        frames = clock.snap_frames(frames)
    clips, audio, offset = given.clips, given.audio, Fraction(0)
    if given.state is None:
        timing = first_segment(frames, fps)
    else:
        # a track of one's own begins with the picture: no sound is carried then
        following = condition_next(
            given.state,
            frames,
            fps,
            size=(width, height),
            strength=given.strength,
            video_overlap=given.video_overlap,
            audio_overlap=0 if audio is not None else given.audio_overlap,
        )
        timing, offset = following.timing, following.video_offset_seconds
        clips = (*((following.clip,) if following.clip is not None else ()), *clips)
        audio = following.audio if audio is None else audio
        notes += following.notes
    request = Request(
        width=width,
        height=height,
        frames=frames,
        fps=fps,
        images=given.images,
        clips=clips,
        audio=audio,
        audio_latents=timing.audio_latents,
        video_offset_seconds=offset,
    )
    geometry = Geometry(width, height, frames, fps, timing.audio_latents, offset)
    for image in given.images:
        if not 0 <= image.frame < frames:
            raise RequestError(f"image condition is at frame {image.frame}, the clip has frames 0 to {frames - 1}")
    return LatentValue(request, timing, geometry, notes=tuple(notes))


NODES = [SizeHelper, PrepareLatent]
