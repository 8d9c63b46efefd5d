"""Requests of which only the sound is made: with a picture that is known from start to end, or with none."""

from dataclasses import replace
from typing import Any

from ...errors import RequestError
from ..presets import Settings


def is_pictureless(request: Any) -> bool:
    """Whether neither a picture is made nor one is known."""
    return bool(request.sound_only and not request.clips)


def check_sound_only(request: Any, frames: int) -> None:
    """Raises RequestError for a request for sound alone that asks for something of the picture."""
    if not request.sound_only:
        return
    if request.images or request.references or request.latents is not None:
        raise RequestError("only the sound is to be made, but pictures are given to start from: leave them out")
    whole = len(request.clips) == 1 and request.clips[0].frozen and len(request.clips[0].frames) == frames
    if request.clips and not whole:
        raise RequestError(f"only the sound is to be made: give the picture as one frozen clip of all {frames} frames")
    if request.audio_latents == 0 or (request.audio is not None and getattr(request.audio, "frozen", True)):
        raise RequestError("only the sound is to be made, but it is silent or given already: leave that out")


def one_stage(settings: Settings) -> Settings:
    """Settings for sound alone, which no second stage changes."""
    return replace(settings, refine=None, half_size=False)
