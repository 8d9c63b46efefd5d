"""Size, length and start of a clip."""

from dataclasses import replace
from fractions import Fraction

from ..ltx2.film import Source, continue_request, first_segment
from ..ltx2.film.handoff import fps_after, source_of_state
from ..ltx2.film.timeline import warn_beyond_window
from ..ltx2.stages.conditioning import check_places
from ..ltx2.stages.geometry import LARGEST_SIDE, Multiple, size_for
from ..ltx2.stages.request import Request, resolve_geometry
from ..ltx2.values import placed
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


def _side(name: str, default: int, more: str = ""):
    tooltip = f"{name.title()} of the finished film in pixels.{more}"
    return host.field(host.io.Int, name, tooltip, default=default, min=32, max=LARGEST_SIDE, step=32)


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
                _side("width", 768, " With two stages the first one works at half of it."),
                _side("height", 512),
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
                    default=0.0,
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
        asked = {"seconds": length} if unit == SECONDS else {"frames": round(length)}
        size = {"width": width, "height": height, "snap": bool(SNAPS[snap])}
        clip = prepare(Request(fps=fps or None, **asked, **size), conditions, multiple=SNAPS[snap] or 32)
        return host.io.NodeOutput(
            clip, clip.geometry.frames, float(clip.geometry.fps), ui=host.tell(clip.notes) if clip.notes else None
        )


def prepare(request: Request, conditions: ConditionsValue | None = None, *, multiple: int) -> LatentValue:
    """An empty clip with its conditions resolved: a state becomes frames and sound at the clip's start, and moves its
    clocks.

    request: with size, length and rate (None: the state's, or the usual one); multiple: of its sides. Raises
    RequestError and ContinuationError.
    """
    given = conditions or ConditionsValue()
    request = replace(request, fps=fps_after(given.state, request.fps), images=given.images, audio=given.audio)
    request = replace(request, references=given.references, voice=given.voice, keyframe_slots=given.slots)
    geometry, notes = resolve_geometry(
        replace(request, clips=given.clips), multiple=Multiple(multiple, "two stages" if multiple > 32 else "")
    )
    request = replace(
        request,
        width=geometry.width,
        height=geometry.height,
        frames=geometry.frames,
        seconds=None,
        snap=False,
        images=placed(given.images, geometry.frames),
        clips=given.clips,
    )
    before, held_to = Source(), None
    if given.state is None:
        timing = first_segment(geometry.frames, geometry.fps)
        request = replace(request, audio_latents=timing.audio_latents)
    else:
        request, following = continue_request(request, given.state, given.handoff)
        timing, notes, before = following.timing, (*notes, *following.notes), source_of_state(given.state)
        held_to = following.drift_reference
        # the seed is the node's that denoises
        request = replace(request, seed=None)
    warn_beyond_window(timing)
    check_places(request.images, request.clips, geometry.frames)
    geometry = replace(geometry, audio_latents=request.audio_latents, video_offset_seconds=timing.video_offset_seconds)
    drift = given.handoff.drift
    return LatentValue(
        request, timing, geometry, before=before, notes=tuple(notes), drift=drift, drift_reference=held_to
    )


NODES = [SizeHelper, PrepareLatent]
