"""Checks of the plain fields of a state, strict or as forgiving as the published reader."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ContinuationError, is_out_of_memory
from .format import BLOB_ID, LARGEST_INT, LTX2_CONTINUATION_KIND, LTX2_CONTINUATION_SCHEMA_VERSION
from .limits import StateLimits
from .strict_json import shown


def check_kind(kind: object) -> None:
    """Raises ContinuationError unless the kind is exactly ``ltx2.v1``."""
    if not isinstance(kind, str) or not kind:
        raise ContinuationError(
            f"kind is {shown(kind)}, expected a non-empty string, {LTX2_CONTINUATION_KIND!r} for a state of LTX-2"
        )
    if kind != LTX2_CONTINUATION_KIND:
        # the words in brackets are those of the published reader, which clients look for
        raise ContinuationError(
            f"kind is {shown(kind)}, expected {LTX2_CONTINUATION_KIND!r}: this is the state of another model or version"
            f" (Unknown ContinuationState kind; Expected ContinuationState.kind={LTX2_CONTINUATION_KIND!r})"
        )


@dataclass(frozen=True)
class Validator:
    """How strictly to read, the checks of scalar fields, and what was noted on the way."""

    strict: bool
    limits: StateLimits
    notes: list[str] = field(default_factory=list)

    def wrong(self, message: str) -> None:
        """Something the published reader lets pass: an error when strict, else a note."""
        if self.strict:
            raise ContinuationError(message)
        self.note(message)

    def note(self, message: str) -> None:
        """Keep a sentence for the reader's caller."""
        self.notes.append(message)

    def version(self, payload: Mapping) -> None:
        """Look at the envelope's version. Raises ContinuationError for one that is not known."""
        found = payload.get("schema_version", None)
        if "schema_version" not in payload:
            if payload:
                self.note("payload.schema_version is missing and was read as 1")
            return
        expected = LTX2_CONTINUATION_SCHEMA_VERSION
        try:
            # fastvideo writes an integer; a text of one is harmless, half a version is not
            version = int(found) if isinstance(found, str) and len(found) < 20 else operator.index(found)
        except (TypeError, ValueError) as error:
            raise ContinuationError(f"payload.schema_version is {shown(found)}, expected {expected}") from error
        if version != expected:
            raise ContinuationError(
                f"payload.schema_version is {shown(found)}, expected {expected}: it is of another version"
                f" (Unsupported LTX-2 continuation schema_version={shown(version)})"
            )

    def member(self, value: Any, path: str) -> Mapping:
        """A member that has to be a mapping; empty where it is none and that may pass."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(f"{path} is a {type(value).__name__}, expected an object")
            return {}
        return value

    def blob_id(self, member: Mapping, path: str) -> str | None:
        """The id of a member's blob, or None."""
        value = member.get(BLOB_ID)
        if value is None:
            return None
        if not isinstance(value, str) or not value or len(value) > self.limits.text_bytes:
            self.wrong(f"{path}.{BLOB_ID} is {shown(value)}, expected the id of a blob as text")
            return None
        return value

    def scalar(self, value: Any, path: str, default: int | float, most: int | float) -> int | float:
        """A plain field of the type of its default, from 0 to ``most``."""
        return self.integer(value, path) if isinstance(default, int) else self.number(value, path, most)

    def integer(self, value: Any, path: str, least: int = 0) -> int:
        """A whole number of at least ``least``."""
        try:
            plain = value.item() if hasattr(value, "item") else value
            if isinstance(plain, bool):
                raise TypeError
            number = operator.index(plain)
        except (TypeError, ValueError, RuntimeError) as error:  # the last for a tensor of several elements
            if is_out_of_memory(error):
                raise
            number = self._loose(value, path, int, "a whole number")
        if not least <= number <= LARGEST_INT:
            self.wrong(f"{path} is {shown(number)}, expected {least} to {LARGEST_INT}")
        return number

    def number(self, value: Any, path: str, most: float) -> float:
        """A number from 0 to ``most``."""
        try:
            plain = value.item() if hasattr(value, "item") else value
            if isinstance(plain, (bool, str, bytes, bytearray)):
                raise TypeError
            number = float(plain)
        except OverflowError as error:
            raise ContinuationError(f"{path} is too large a number, expected 0 to {most:g}") from error
        except (TypeError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
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
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise ContinuationError(message) from error
