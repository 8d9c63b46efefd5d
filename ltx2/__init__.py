"""LTX-2 Continuum's engine: long video with sound on LTX-2, in plain PyTorch.

The names below are the surface that programs use; each is imported when it is first asked for.
"""

from importlib import import_module

from .version import __version__

_SURFACE = {
    "stages.models": ("Models", "PipelineConfig", "load_models"),
    "stages.pipeline": ("Segment", "generate"),
    "stages.request": ("Job", "Request", "make_job"),
    "values": (
        "AudioCondition",
        "AVLatent",
        "ClipCondition",
        "ImageCondition",
        "ReferenceCondition",
        "TextContext",
        "VoiceCondition",
        "Waveform",
    ),
    "continuation": ("ContinuationState", "LTX2ContinuationState"),
    "continuation.attachments": ("load_attachment", "save_attachment"),
    "film": (
        "FinishedSegment",
        "Handoff",
        "Overlap",
        "Source",
        "capture_state",
        "condition_next",
        "continue_request",
        "first_segment",
        "join_segments",
        "write_film",
    ),
    "story.script": ("read_script",),
    "story.chain": ("run_story",),
    "errors": ("Ltx2Error", "Ltx2Warning"),
}
_HOMES = {name: room for room, names in _SURFACE.items() for name in names}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
