"""JSON as the state format allows it: UTF-8, finite numbers, bounded nesting and text."""

import json
import math
from typing import Any

from ..errors import ContinuationError
from .limits import DEFAULT_LIMITS, StateLimits

# Members that hold base64 data; their size has a bound of its own.
INLINE_MEMBERS = ("frames_b64", "safetensors_b64")


def parse_json(text: str | bytes, what: str, *, strict: bool = True) -> Any:
    """Read one JSON document. ``strict=False`` lets NaN and Infinity through. Raises ContinuationError naming
    ``what``."""

    def refuse(token: str):
        raise ContinuationError(f"{what} holds the number {token}, expected finite numbers only")

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, parse_constant=refuse if strict else None)
    except UnicodeDecodeError as error:
        raise ContinuationError(f"{what} is not UTF-8 text (byte {error.start}), expected a JSON document") from error
    except ContinuationError:
        raise
    except RecursionError as error:
        raise ContinuationError(f"{what} is nested too deeply to read") from error
    except ValueError as error:
        raise ContinuationError(f"{what} is not JSON: {error}") from error


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

    Walks without recursion, so that hostile nesting cannot exhaust the stack. Raises ContinuationError.
    """
    stack = [(value, path, depth)]
    while stack:
        value, path, depth = stack.pop()
        if value is None or isinstance(value, bool):
            continue
        if isinstance(value, str):
            if len(value) > limits.text_bytes:
                raise ContinuationError(
                    f"{path} is a text of {len(value)} characters, expected up to {limits.text_bytes}"
                )
        elif isinstance(value, int):
            if value.bit_length() > 1024:
                raise ContinuationError(f"{path} is an integer of {value.bit_length()} bits, expected up to 1024")
        elif isinstance(value, float):
            if finite and not math.isfinite(value):
                raise ContinuationError(f"{path} is {value!r}, expected a finite number")
        elif isinstance(value, (dict, list, tuple)):
            if depth >= limits.nesting:
                raise ContinuationError(f"{path} is nested deeper than {limits.nesting} levels")
            if isinstance(value, dict):
                for key, item in value.items():
                    if not isinstance(key, str) or len(key) > limits.text_bytes:
                        raise ContinuationError(
                            f"{path} has the key {str(key)[:40]!r}, expected text up to {limits.text_bytes} long"
                        )
                    stack.append((item, f"{path}.{key}", depth + 1))
            else:
                stack.extend((item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
        else:
            raise ContinuationError(
                f"{path} is a {type(value).__name__}, expected plain JSON data (text, numbers, lists, objects)"
            )
