"""Values out of a script's tree, each checked, with line, column and fix for errors."""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from ...clock import is_valid_frame_count, parse_fps, snap_frames
from ...errors import Ltx2Error, StoryError
from ...stages.conditioning.slots import MOST_SLOTS
from ...stages.doubling.tiles import MOST_ROUNDS
from ...values import LAST
from .nodes import Mapping, Node, Scalar, ScriptPlace, Sequence, meaning

MOST_TAKES = 100
_MOST_LIST = 1_000
_SECONDS = re.compile(r"(\S+?)\s*(?:s|sec|secs|seconds?)", re.IGNORECASE)
T = TypeVar("T")


@dataclass(frozen=True)
class Reader:
    """Reads the nodes of one script. name: what errors call it."""

    name: str

    def error(self, node: Node, message: str) -> StoryError:
        """An error with the script's name and the node's place."""
        return StoryError(f"{self.name}, {node.place}: {message}")

    def mapping(self, node: Node, what: str, known: tuple[str, ...]) -> dict[str, Any]:
        """The nodes of a mapping by key; every key must be known and occur once."""
        if not isinstance(node, Mapping):
            raise self.error(node, f"{what} is no mapping, expected lines such as {known[0]}: …")
        found: dict[str, Any] = {}
        for key, value in node.entries:
            name = key.text if isinstance(key, Scalar) else ""
            if name not in known:
                near = difflib.get_close_matches(name[:40].lower(), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                raise self.error(key, f"{what} has the unknown entry {name[:40]!r}: {hint}")
            if name in found:
                raise self.error(key, f"{what} has {name} twice: keep one")
            found[name] = value
        return found

    def plain(self, node: Node, what: str) -> Any:
        """A scalar as number, truth value or text, or a short list of them."""
        if isinstance(node, Sequence):
            if len(node.items) > _MOST_LIST:
                raise self.error(node, f"{what} is a list of {len(node.items)}, expected at most {_MOST_LIST} values")
            return [self.scalar(item, what) for item in node.items]
        return self.scalar(node, what)

    def scalar(self, node: Node, what: str) -> Any:
        """One value as number, truth value or text."""
        if not isinstance(node, Scalar):
            kind = "list" if isinstance(node, Sequence) else "mapping"
            raise self.error(node, f"{what} is a {kind}, expected one value")
        return meaning(node)

    def value(self, nodes: dict[str, Any], name: str, default: T, check: Callable[[Any], T]) -> T:
        """The checked value of an entry, or the default."""
        node = nodes.get(name)
        return default if node is None else self.checked(node, name, check, self.plain(node, name))

    def text(self, nodes: dict[str, Any], name: str, default: T, check: Callable[[Any], T]) -> T:
        """As ``value``, but a number or a truth value is the text that stands there."""
        node = nodes.get(name)
        if node is None:
            return default
        self.scalar(node, name)
        return self.checked(node, name, check, node.text)

    def checked(self, node: Node, name: str, check: Callable[[Any], T], found: Any) -> T:
        """What a check makes of a value; its ValueError as an error with the place."""
        try:
            return check(found)
        except (Ltx2Error, TypeError, ValueError, OverflowError) as error:
            expected = error if str(error) else "of a wrong kind"
            said = "empty" if found is None else repr(str(found)[:40])
            raise self.error(node, f"{name} is {said}, {expected}") from error


def _unquoted(value: Any) -> Any:
    """A number or truth value that stands in quotes, as programs write them, as itself."""
    if isinstance(value, str):
        found = meaning(Scalar(ScriptPlace(1, 1), value.strip(), True))
        return value if found is None else found
    return value


def number(value: Any) -> float:
    """A finite number. As all checks here, raises ValueError with what was expected."""
    value = _unquoted(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("expected a number")
    return value


def whole(value: Any) -> int:
    """A whole number from 0 to 2^63 - 1."""
    value = _unquoted(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("expected a whole number from 0 to 2^63 - 1")
    return value


def take_number(value: Any) -> int:
    """A take's number, or a number of takes."""
    if not 1 <= whole(value) <= MOST_TAKES:
        raise ValueError(f"expected a whole number from 1 to {MOST_TAKES}")
    return whole(value)


def rounds(value: Any) -> int:
    """How often a frame rate is doubled."""
    if whole(value) > MOST_ROUNDS:
        raise ValueError(f"expected 0 (off) to {MOST_ROUNDS} rounds")
    return whole(value)


def stage_number(value: Any) -> int:
    """The first or the second stage."""
    if whole(value) not in (1, 2):
        raise ValueError("expected 1 or 2")
    return whole(value)


def slots(value: Any) -> int:
    """A number of keyframe slots."""
    if whole(value) > MOST_SLOTS:
        raise ValueError(f"expected 0 (off) to {MOST_SLOTS} keyframes")
    return whole(value)


def overlap(value: Any) -> int:
    """Frames of picture to repeat."""
    if not is_valid_frame_count(whole(value)):
        raise ValueError("expected 8k+1 frames such as 9 or 17")
    return whole(value)


def whole_clip(value: Any) -> int:
    """Frames of a clip."""
    if not is_valid_frame_count(whole(value)):
        below = snap_frames(max(whole(value), 1), "down")
        raise ValueError(f"expected 8k+1 frames: use {below} or {below + 8}")
    return whole(value)


def seconds(value: Any) -> Fraction:
    """A length in seconds, exact; ``5s`` is one too."""
    value = _without_unit(value)
    if not 0 < number(value) <= 3600:
        raise ValueError("expected a length in seconds above 0, at most 3600")
    return Fraction(str(number(value)))


def moment(value: Any) -> Fraction:
    """A time in seconds, exact; ``5s`` is one too."""
    value = _without_unit(value)
    if not 0 <= number(value) <= 86_400:
        raise ValueError("expected a time in seconds from 0")
    return Fraction(str(number(value)))


def _without_unit(value: Any) -> Any:
    found = _SECONDS.fullmatch(value.strip()) if isinstance(value, str) else None
    return found[1] if found else value


def share(value: Any) -> float:
    """A part of 1."""
    if not 0 <= number(value) <= 1:
        raise ValueError("expected 0 to 1")
    return float(value)


def shares(value: Any) -> tuple[float | None, float | None]:
    """A part of 1 for both stages, or one for each."""
    found = value if isinstance(value, list) else [value]
    if not 1 <= len(found) <= 2:
        raise ValueError("expected one number, or one for each of two stages")
    return share(found[0]), share(found[-1])


def flag(value: Any) -> bool:
    """Yes or no."""
    value = _unquoted(value)
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def text(value: Any) -> str | None:
    """Text, or nothing."""
    if value is not None and not isinstance(value, str):
        raise ValueError("expected text: put it in quotes")
    return value


def prompt(value: Any) -> str:
    """Text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text: write what is seen and heard")
    return value.strip()


def file_name(value: Any) -> str:
    """A name that a file may have."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a file name")
    return value.strip()


def frame_place(value: Any) -> int | None:
    """A frame number, None for the last one, which may be said as -1 too, as nodes do."""
    if value == "last" or (value == LAST and not isinstance(value, (bool, float))):
        return None
    try:
        return whole(value)
    except ValueError:
        raise ValueError("expected a frame number from 0, or last") from None


def fps(value: Any) -> Fraction:
    """Frames per second, exact."""
    try:
        return parse_fps(value)
    except (Ltx2Error, ValueError, TypeError, ArithmeticError) as error:
        raise ValueError("expected a positive number such as 24, 23.976 or 24000/1001") from error


def size(value: Any) -> tuple[int, int]:
    """Width and height in pixels."""
    if isinstance(value, list) and len(value) == 2:
        value = f"{value[0]}x{value[1]}"
    sides = str(value).lower().replace("×", "x").replace("*", "x").split("x")
    if len(sides) != 2 or not all(side.strip().isdecimal() and 0 < int(side[:9]) <= 16384 for side in sides):
        raise ValueError("expected WIDTHxHEIGHT such as 768x512")
    return int(sides[0]), int(sides[1])
