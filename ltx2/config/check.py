"""Whether a configuration that was read from metadata can be one at all, before anything is built from it."""

import math
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

LARGEST = 10_000_000  # of a whole number: far above any width, rate or window
COUNTS = ("layers", "blocks", "res_blocks", "depths")  # fields that say how many networks are made one after the other


def invalid_fields(config: Any, tensors: int) -> Iterator[str]:
    """What in a configuration's dataclass has the wrong kind or is out of bounds, as ``name value``.

    tensors: how many there are to fill the network, and so the most that anything can be repeated.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        largest = tensors if field.name in COUNTS else LARGEST
        if not _fits(value, hints[field.name], largest, tensors):
            yield f"{field.name} {repr(value)[:60]}"


def _fits(value: Any, hint: Any, largest: int, tensors: int) -> bool:
    kind = get_origin(hint)
    if kind in (Union, types.UnionType):
        return any(_fits(value, one, largest, tensors) for one in get_args(hint))
    if kind is tuple:
        inner = get_args(hint)
        if not isinstance(value, tuple) or len(value) > tensors:
            return False
        if inner[-1] is Ellipsis:
            return all(_fits(one, inner[0], largest, tensors) for one in value)
        return len(value) == len(inner) and all(_fits(one, of, largest, tensors) for one, of in zip(value, inner))
    if isinstance(hint, type) and is_dataclass(hint):
        return isinstance(value, hint) and not any(invalid_fields(value, tensors))
    if hint is bool:
        return isinstance(value, (bool, int)) and value in (0, 1)
    if hint is int:
        return type(value) is int and 0 <= value <= largest
    if hint is float:
        return type(value) in (int, float) and abs(value) <= 1e12 and math.isfinite(value)
    return isinstance(value, hint)
