"""Fields of a request as the kinds that they are said to be: numpy's and torch's numbers become Python's own, and what
is none is named."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch

from ...errors import RequestError, is_out_of_memory
from ...text.prompts import check_text
from ...values import (
    AudioCondition,
    ClipCondition,
    ImageCondition,
    LatentCondition,
    LatentDrift,
    ReferenceCondition,
    TextContext,
    Waveform,
)
from ..conditioning.slots import read_slots

Fields = TypeVar("Fields")
_SHOWN = 40  # letters of a value that is refused
_WHOLE = ("preset_version", "width", "height", "frames", "seed", "batch_size", "audio_latents", "double_rate")
_EXPECTED = {
    "width": "a whole number of pixels",
    "height": "a whole number of pixels",
    "seed": "a whole number from 0 to 2^64 - 1",
}
_TEXTS = ("prompt", "negative_prompt", "preset", "audio_rule")
_TRUTHS = ("snap", "draft", "sound_only")
_NUMBERS = ("seconds", "video_offset_seconds")
# of what a request starts from, by field: each is one of these kinds
_LISTS = {"images": ImageCondition, "clips": ClipCondition}
_SINGLE = {
    "audio": (Waveform, AudioCondition),
    "positive": (TextContext,),
    "negative": (TextContext,),
    "overrides": (Mapping,),
    "latent_drift": (LatentDrift,),
}


def whole_number(value: Any, name: str, expected: str = "a whole number") -> int:
    """A whole number as Python's own, numpy's and torch's single ones included. Raises RequestError for anything else,
    also for a truth value and a text of digits."""
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)
        except (TypeError, ValueError):
            pass
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
    raise RequestError(f"{name} is {shown(value)}, expected {expected}")


def finite_number(value: Any, name: str, expected: str = "a finite number") -> float:
    """A finite number as Python's own, of any library's single ones. Raises RequestError for anything else."""
    if not isinstance(value, (str, bytes, bool, np.bool_, type(None))):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            number = math.nan
        if math.isfinite(number):
            return number
    raise RequestError(f"{name} is {shown(value)}, expected {expected}")


def truth_value(value: Any, name: str) -> bool:
    """True or False as Python's own; 0 and 1 count too. Raises RequestError for anything else."""
    if isinstance(value, (bool, np.bool_, int)) and value in (0, 1):
        return bool(value)
    raise RequestError(f"{name} is {shown(value)}, expected True or False")


def shown(value: Any) -> str:
    """A value for a message, a long one cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def read_fields(request: Fields) -> Fields:
    """A request whose fields are of the kinds that they are said to be. Raises RequestError naming the field."""
    asked: Any = request
    found: dict[str, Any] = {name: truth_value(getattr(asked, name), name) for name in _TRUTHS}
    for name in _WHOLE:
        value = getattr(asked, name)
        if value is not None or name == "batch_size":
            found[name] = whole_number(value, name, _EXPECTED.get(name, "a whole number"))
    for name in _NUMBERS:
        value = getattr(asked, name)
        if value is not None and not isinstance(value, (Fraction, str)):
            found[name] = finite_number(value, name, "a number of seconds")
    for name in _TEXTS:
        value = getattr(asked, name)
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name} is {shown(value)}, expected a text")
        if value is not None:
            check_text(value, name.replace("_", " "))
    for name, kinds in _SINGLE.items():
        value = getattr(asked, name)
        if value is not None and not isinstance(value, kinds):
            raise RequestError(f"{name} is {shown(value)}, expected {' or '.join(kind.__name__ for kind in kinds)}")
    found["overrides"] = asked.overrides or {}
    for name, kind in _LISTS.items():
        found[name] = tuple(_condition(one, kind) for one in _listed(getattr(asked, name), kind, name))
    references = _listed(asked.references, ReferenceCondition, "references")
    found["references"] = tuple(_reference(one) for one in references)
    found["latents"] = _latents(asked.latents)
    found["keyframe_slots"] = read_slots(asked.keyframe_slots)
    return replace(asked, **found)


def _listed(values: Any, kind: type, name: str) -> Sequence[Any]:
    if isinstance(values, (list, tuple)) and all(isinstance(one, kind) for one in values):
        return values
    raise RequestError(f"{name} are {shown(values)}, expected a tuple of {kind.__name__}")


def _condition(condition: Any, kind: type) -> Any:
    what = "an image" if kind is ImageCondition else "a clip"
    found: dict[str, Any] = {
        "frame": whole_number(condition.frame, f"frame of {what}"),
        "strength": finite_number(condition.strength, f"strength of {what}"),
        "attention": finite_number(condition.attention, f"attention of {what}"),
    }
    if kind is ClipCondition:
        found["frozen"] = truth_value(condition.frozen, "frozen")
    if kind is ImageCondition and condition.crf is not None:
        found["crf"] = finite_number(condition.crf, "crf of an image")
    if kind is ImageCondition:
        found["guide"] = truth_value(condition.guide, "guide of an image")
    return replace(condition, **found)


def _reference(reference: ReferenceCondition) -> ReferenceCondition:
    frames, mask = reference.frames, reference.mask
    if not isinstance(frames, (np.ndarray, torch.Tensor)) or frames.ndim != 4 or not len(frames):
        found = list(frames.shape) if hasattr(frames, "shape") else shown(frames)
        raise RequestError(f"frames of a reference are {found}, expected [frames, height, width, 3]")
    if mask is not None and (not isinstance(mask, torch.Tensor) or mask.ndim != 3 or not mask.numel()):
        found = list(mask.shape) if hasattr(mask, "shape") else shown(mask)
        raise RequestError(f"mask of a reference is {found}, expected a tensor [frames, height, width]")
    return replace(
        reference,
        strength=finite_number(reference.strength, "strength of a reference"),
        attention=finite_number(reference.attention, "attention of a reference"),
    )


def _latents(latents: Any) -> tuple[LatentCondition, LatentCondition | None] | None:
    if latents is None:
        return None
    fits = isinstance(latents, (list, tuple)) and len(latents) == 2 and isinstance(latents[0], LatentCondition)
    if not fits or not isinstance(latents[1], (LatentCondition, type(None))):
        raise RequestError(f"latents are {shown(latents)}, expected two LatentCondition, the second may be None")
    first, second = (None if one is None else _latent(one) for one in latents)
    assert first is not None  # checked above
    return first, second


def _latent(condition: LatentCondition) -> LatentCondition:
    if not isinstance(condition.latent, torch.Tensor) or not condition.latent.is_floating_point():
        raise RequestError(f"latent of a LatentCondition is {shown(condition.latent)}, expected a float tensor")
    if not torch.isfinite(condition.latent).all():
        raise RequestError("latents to start from hold NaN or infinity: what made them failed, make them anew")
    return replace(
        condition,
        latent_frame=whole_number(condition.latent_frame, "latent_frame"),
        strength=finite_number(condition.strength, "strength of latents"),
    )
