"""JSON as the state format allows it: UTF-8, finite numbers, bounded nesting, text and count of values."""

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..errors import ContinuationError
from .limits import DEFAULT_LIMITS, StateLimits

# Up to this size a document cannot hold more values than memory takes without a thought.
_SMALL_BYTES = 2**20
# What begins a value or follows one, and whole texts, so that what stands in them does not count.
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{,]', re.DOTALL)
_SHOWN_LEVELS = 2
_SHOWN_ITEMS = 3
_SHOWN_LETTERS = 60
_LARGEST_INT_BITS = 1024
_SMALL_INT = 2**63


def shown(value: object) -> str:
    """A value for a message: short whatever its size, and safe for what cannot be printed."""
    return _shown(value, _SHOWN_LEVELS)[:_SHOWN_LETTERS]


def _shown(value: object, levels: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (str, bytes)):
        return repr(value[:_SHOWN_LETTERS])
    if isinstance(value, (list, tuple, dict)) and not levels:
        return "…"
    if isinstance(value, (list, tuple)):
        more = ["…"] * (len(value) > _SHOWN_ITEMS)
        return f"[{', '.join([*(_shown(item, levels - 1) for item in value[:_SHOWN_ITEMS]), *more])}]"
    if isinstance(value, dict):
        more = ["…"] * (len(value) > _SHOWN_ITEMS)
        items = [f"{_shown(k, 0)}: {_shown(v, levels - 1)}" for k, v in islice(value.items(), _SHOWN_ITEMS)]
        return f"{{{', '.join([*items, *more])}}}"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return f"a {type(value).__name__}"


def parse_json(text: str | bytes, what: str, *, strict: bool = True, limits: StateLimits = DEFAULT_LIMITS) -> Any:
    """Read one JSON document. ``strict=False`` lets NaN and Infinity through. Raises ContinuationError naming
    ``what``."""

    def refuse(token: str):
        raise ContinuationError(f"{what} holds the number {token}, expected finite numbers only")

    try:
        if isinstance(text, (bytes, bytearray, memoryview)):
            text = str(text, "utf-8")
        check_values(text, what, limits)
        return json.loads(text, parse_constant=refuse if strict else None)
    except UnicodeDecodeError as error:
        raise ContinuationError(f"{what} is not UTF-8 text (byte {error.start}), expected a JSON document") from error
    except ContinuationError:
        raise
    except RecursionError as error:
        raise ContinuationError(f"{what} is nested too deeply to read") from error
    except ValueError as error:
        raise ContinuationError(f"{what} is not JSON: {error}") from error


def check_values(text: str, what: str, limits: StateLimits = DEFAULT_LIMITS) -> None:
    """Raises ContinuationError for a document of more values than ``limits.nodes``, before any of them takes
    memory."""
    if len(text) <= _SMALL_BYTES:
        return
    marks = (token for token in _TOKENS.finditer(text) if token[0][0] != '"')
    if next(islice(marks, limits.nodes, None), None) is not None:
        raise ContinuationError(f"{what} is JSON of more than {limits.nodes} values, expected a state or its header")


def write_json(value: Any, what: str) -> str:
    """One line of JSON; only finite numbers. Raises ContinuationError naming ``what`` for anything JSON cannot say."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContinuationError(f"{what} cannot be written as JSON: {error}") from error


def check_plain(
    value: Any, path: str, limits: StateLimits = DEFAULT_LIMITS, *, depth: int = 0, finite: bool = True
) -> None:
    """Check that a value is plain JSON data within the limits; ``path`` names it in the message.

    Walks without recursion, so that hostile nesting cannot exhaust the stack, and makes the name of a place only when
    something is wrong there. Raises ContinuationError.
    """
    stack: list[tuple[Any, tuple, int]] = [(value, (None, path), depth)]
    left = limits.nodes
    while stack:
        value, place, depth = stack.pop()
        wrong = _wrong_value(value, depth, limits, finite)
        if wrong:
            raise ContinuationError(f"{_name(place)} {wrong}")
        if isinstance(value, (dict, list, tuple)):
            left -= len(value)
            if left < 0:
                raise ContinuationError(f"{_name(place)} holds more than {limits.nodes} values")
            stack.extend(
                (item, (place, key), depth + 1)
                for key, item in _items(value)
                if not _is_harmless(item, limits) or depth + 1 >= limits.nesting
            )


def _is_harmless(value: Any, limits: StateLimits) -> bool:
    """Whether a value needs no closer look: the common ones, told at a glance."""
    kind = type(value)
    if kind is str:
        return len(value) <= limits.text_bytes
    if kind is int:
        return -_SMALL_INT < value < _SMALL_INT
    return value is None or kind is bool or ((kind is dict or kind is list) and not value)


def _items(value: dict | list | tuple) -> Iterator[tuple[str | int, Any]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _wrong_value(value: Any, depth: int, limits: StateLimits, finite: bool) -> str:
    """What is wrong with one value itself, empty when nothing is."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        too_long = len(value) > limits.text_bytes
        return f"is a text of {len(value)} characters, expected up to {limits.text_bytes}" if too_long else ""
    if isinstance(value, int):
        bits = value.bit_length()
        return f"is an integer of {bits} bits, expected up to {_LARGEST_INT_BITS}" if bits > _LARGEST_INT_BITS else ""
    if isinstance(value, float):
        return f"is {value!r}, expected a finite number" if finite and not math.isfinite(value) else ""
    if not isinstance(value, (dict, list, tuple)):
        return f"is a {type(value).__name__}, expected plain JSON data (text, numbers, lists, objects)"
    if depth >= limits.nesting:
        return f"is nested deeper than {limits.nesting} levels"
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str) or len(key) > limits.text_bytes:
            return f"has the key {shown(key)}, expected text up to {limits.text_bytes} long"
    return ""


def _name(place: tuple) -> str:
    """The name of a place: ``metadata.x[3]``, each part short."""
    parts: list[str] = []
    while place is not None:
        place, key = place
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key[:40]}")
    return "".join(reversed(parts))[1:]
