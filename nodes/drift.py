"""What is done against drift from segment to segment, as one value for the nodes that make segments."""

from dataclasses import replace

from ..ltx2.errors import RequestError
from ..ltx2.film.drift import DriftControl, RelaxingStrength
from . import host
from .sockets import Drift

_SHARE = {"min": 0.0, "max": 1.0, "step": 0.05}


class HoldLook(host.io.ComfyNode):
    """Settings against drift."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "HoldLook",
            "Hold Look",
            "story",
            description="Holds the segments of a scene to its first one, so that colours, contrast, loudness and details do not drift over a long film. "
            "Connect it to Generate, Extend Video, Story, or Continue From State. The state carries what the scene is held to; at a cut it begins anew.",
            inputs=[
                host.field(
                    io.Float,
                    "colour",
                    "How much of the difference in colour to the scene's beginning is taken back in the frames that a segment starts from: 0 none, 1 all.",
                    default=0.5,
                    **_SHARE,
                ),
                host.field(io.Float, "contrast", "The same for contrast.", default=0.5, **_SHARE),
                host.field(
                    io.Float,
                    "loudness",
                    "The same for the loudness of the sound that a segment starts from. Not with a sound of your own.",
                    default=0.0,
                    **_SHARE,
                ),
                host.field(
                    io.Float,
                    "latent",
                    "How much of the difference in each latent channel's mean and deviation is taken back in what a segment makes anew, after the first "
                    "stage; 0.4 is usual.",
                    default=0.0,
                    **_SHARE,
                ),
                host.field(
                    io.Float,
                    "anchor",
                    "How firmly the end of the scene's first segment is shown as a guide, from the third segment on: 0 not at all.",
                    default=0.0,
                    **_SHARE,
                ),
                host.field(
                    io.Float,
                    "strength",
                    "How firmly a segment starts from the one before: 1 exactly; a little less lets the model repair what it is given, such as 0.95.",
                    default=1.0,
                    **_SHARE,
                ),
                host.field(
                    io.Float,
                    "settles",
                    "What the strength comes down to in a long scene, half of the way after every five segments, such as 0.9; no more than strength.",
                    default=1.0,
                    **_SHARE,
                ),
            ],
            outputs=[host.output(Drift, "drift", "For Generate, Extend Video, Story or Continue From State.")],
            search_aliases=["drift", "hold look", "ltx2 drift", "color drift", "consistency", "adain", "anchor"],
        )

    @classmethod
    def execute(cls, colour, contrast, loudness, latent, anchor, strength, settles):
        relaxing = None if strength == settles == 1 else RelaxingStrength(strength, min(strength, settles))
        return host.io.NodeOutput(DriftControl(relaxing, colour, contrast, loudness, latent, anchor))


def drift_input():
    """Where it is connected."""
    return host.field(
        Drift, "drift", "Against drift over many segments, from Hold Look; nothing is done without.", optional=True
    )


def one_drift(given: DriftControl | None, drift: DriftControl | None) -> DriftControl | None:
    """That of the conditions or of an input. Raises RequestError where there are both."""
    if given is not None and drift is not None:
        raise RequestError("Hold Look is connected here and to Continue From State: leave one of them out")
    return given if drift is None else drift


def with_drift(story, drift: DriftControl | None):
    """A story with what is connected. Raises RequestError where the script says something too."""
    if drift is None:
        return story
    if story.drift is not None:
        raise RequestError("the script says drift, and Hold Look is connected: keep one of them")
    return replace(story, drift=drift)


NODES = [HoldLook]
