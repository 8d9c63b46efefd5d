"""Checks of the plain fields of a state, strict or as forgiving as the published reader."""

import math
import operator
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ContinuationError, Ltx2Warning
from .limits import StateLimits

SCHEMA_VERSION = 1
LARGEST_INT = 2**31 - 1
LONGEST_SECONDS = 1e6


def shown(value) -> str:
    """A value for a message: short, and safe for integers too long to print."""
    return (
        f"an integer of {value.bit_length()} bits"
        if isinstance(value, int) and value.bit_length() > 128
        else repr(value)[:60]
    )


def warn(message: str) -> None:
    warnings.warn(message, Ltx2Warning, stacklevel=4)


@dataclass(frozen=True)
class Validator:
    """How strictly to read, and the checks of scalar fields."""

    strict: bool
    limits: StateLimits

    def wrong(self, message: str) -> None:
        """Something the published reader lets pass: an error when strict, else a warning."""
        if self.strict:
            raise ContinuationError(message)
        warn(message)

    def note(self, message: str) -> None:
        warn(message)

    def version(self, payload: Mapping) -> None:
        found = payload.get("schema_version", None)
        if "schema_version" not in payload:
            if payload:
                self.note("payload.schema_version is missing and was read as 1")
            return
        try:
            # fastvideo writes an integer; a text of one is harmless, half a version is not
            version = int(found) if isinstance(found, str) and len(found) < 20 else operator.index(found)
        except (TypeError, ValueError) as error:
            raise ContinuationError(f"payload.schema_version is {shown(found)}, expected {SCHEMA_VERSION}") from error
        if version != SCHEMA_VERSION:
            raise ContinuationError(
                f"payload.schema_version is {shown(found)}, expected {SCHEMA_VERSION}: it is of another version"
            )

    def member(self, value, path: str) -> Mapping:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(f"{path} is a {type(value).__name__}, expected an object")
            return {}
        return value

    def blob_id(self, member: Mapping, path: str) -> str | None:
        value = member.get("blob_id")
        if value is None:
            return None
        if not isinstance(value, str) or not value or len(value) > self.limits.text_bytes:
            self.wrong(f"{path}.blob_id is {shown(value)}, expected the id of a blob as text")
            return None
        return value

    def scalar(self, value, path: str, default: int | float, most: float | None) -> int | float:
        """A plain field of the type of its default, from 0 to ``most``."""
        if isinstance(default, int):
            return self.integer(value, path)
        return self.number(value, path, LONGEST_SECONDS if most is None else most)

    def integer(self, value, path: str, least: int = 0) -> int:
        try:
            number = operator.index(value.item() if hasattr(value, "item") else value)
            if isinstance(value, bool):
                raise TypeError
        except (TypeError, ValueError):
            number = self._loose(value, path, int, "a whole number")
        if not least <= number <= LARGEST_INT:
            self.wrong(f"{path} is {shown(number)}, expected {least} to {LARGEST_INT}")
        return number

    def number(self, value, path: str, most: float = LONGEST_SECONDS) -> float:
        try:
            if isinstance(value, (bool, str)):
                raise TypeError
            number = float(value)
        except OverflowError as error:
            raise ContinuationError(f"{path} is too large a number, expected 0 to {most:g}") from error
        except (TypeError, ValueError):
            number = self._loose(value, path, float, "a number")
        if not (math.isfinite(number) and 0 <= number <= most):
            self.wrong(f"{path} is {number!r}, expected 0 to {most:g}")
        return number

    def _loose(self, value, path: str, kind, expected: str):
        """The value as the published reader takes it: text and fractions are converted."""
        message = f"{path} is {shown(value)}, expected {expected}"
        self.wrong(message)
        try:
            return kind(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ContinuationError(message) from error
