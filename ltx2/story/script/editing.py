"""A script's text, changed segment by segment: what a person wrote elsewhere in it stays as it is, comments too.

A list of segments is taken apart into lines, of which only those of the segment that changes are written anew. Scripts
in other forms (prose, lists in brackets) become such a list with the first change. Every change is read again by the
script's own reader, and refused if anything else became different.
"""

import json
import re
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import StoryError
from .nodes import Mapping, Node, Scalar, ScriptPlace, Sequence, checked_text, meaning
from .reading import SEGMENT_ENTRIES, SegmentScript, StoryScript, parse_script, read_tree
from .values import Reader

NAME = "script"
_DASH = re.compile(r"(?P<lead>\s*)-(\s|$)")
_COMMENT = re.compile(r"\s*#(\s|$|!)")
_SEGMENTS = re.compile(r"segments\s*:\s*(#.*)?$")
_PLAIN = re.compile(r"[\w][\w .,/+-]*")
_TRAILING = re.compile(r"\s(#\s.*)$")
_NAMES = tuple(name for name in SEGMENT_ENTRIES if name != "frames")


@dataclass(frozen=True)
class SegmentEntry:
    """A segment as it stands in a script: its lines with the comments before it, and its entries by name."""

    lines: tuple[str, ...]
    values: MappingOf[str, Node]


@dataclass(frozen=True)
class ScriptLines:
    """A script taken apart: what it means, the lines up to ``segments:``, the segments, and the lines behind them."""

    means: StoryScript
    head: tuple[str, ...]
    items: tuple[SegmentEntry, ...]
    tail: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole script."""
        lines = (*self.head, *(line for item in self.items for line in item.lines), *self.tail)
        return "\n".join(lines).rstrip("\n") + "\n"


def set_entries(text: str, index: int, values: MappingOf[str, Any]) -> str:
    """The script with entries of a segment (from 0) as given; None removes one. A length replaces the other kind of
    length. Raises StoryError."""
    script = _taken_apart(text)
    item = _item(script, index)
    changed = dict(item.values)
    for name, value in _checked(values).items():
        for other in {"seconds", "frames"} - {name} if name in ("seconds", "frames") else ():
            changed.pop(other, None)
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = _node(value)
    items = [*script.items]
    items[index] = SegmentEntry((*_comments(item.lines), *_written(changed)), changed)
    return _checked_text(script, items, [*range(index), None, *range(index + 1, len(items))])


def add_segment(text: str, index: int, values: MappingOf[str, Any]) -> str:
    """The script with another segment before the one at ``index``, or at the end. Raises StoryError."""
    script = _taken_apart(text)
    index = min(max(index, 0), len(script.items))
    given = {name: _node(value) for name, value in _checked(values).items() if value is not None}
    order = list(range(len(script.items)))
    items = [*script.items[:index], SegmentEntry(tuple(_written(given)), given), *script.items[index:]]
    return _checked_text(script, items, [*order[:index], None, *order[index:]])


def remove_segment_entry(text: str, index: int) -> str:
    """The script without a segment and the comments before it. Raises StoryError for the last one that is left."""
    script = _taken_apart(text)
    _item(script, index)
    if len(script.items) == 1:
        raise StoryError("the script has one segment, which cannot be removed: change its prompt")
    order = [i for i in range(len(script.items)) if i != index]
    return _checked_text(script, [script.items[i] for i in order], order)


def move_segment(text: str, index: int, to: int) -> str:
    """The script with a segment at another place; the ones between move up. Raises StoryError."""
    script = _taken_apart(text)
    _item(script, index), _item(script, to)
    order = [i for i in range(len(script.items)) if i != index]
    order.insert(to, index)
    return _checked_text(script, [script.items[i] for i in order], order)


def entries_as_written(text: str) -> list[dict[str, Any]]:
    """The entries of every segment as plain values, without the defaults. Raises StoryError."""
    return [{name: _plain(node) for name, node in item.values.items()} for item in _taken_apart(text).items]


# --- taking apart ----------------------------------------------------------------------------------------------------


def _parsed(text: str) -> StoryScript:
    return parse_script(text, NAME, find_image=Path, look=False)


def _taken_apart(text: str) -> ScriptLines:
    text = checked_text(text, NAME)
    means = _parsed(text)
    tree = read_tree(text, Reader(NAME))
    nodes = tree["segments"].items
    values = [_values(node) for node in nodes]
    lines = text.split("\n")
    places = _list_places(lines, nodes)
    if places is None:
        return ScriptLines(means, *_as_list(lines, tree, values))
    starts, end = places
    bounds = [*starts, end]
    items = tuple(SegmentEntry(tuple(lines[bounds[i] : bounds[i + 1]]), found) for i, found in enumerate(values))
    return ScriptLines(means, tuple(lines[: starts[0]]), items, tuple(lines[end:]))


def _list_places(lines: list[str], nodes: list[Node]) -> tuple[list[int], int] | None:
    """The line that each segment of a list begins on, comments before it counted in, and the line behind the last; None
    for a script in another form."""
    begins = next((i for i, line in enumerate(lines) if _SEGMENTS.match(line)), None)
    if begins is None:
        return None
    dashes = []
    for node in nodes:
        at = node.place.line - 1
        while at > begins and not _DASH.match(lines[at]):
            at -= 1
        dashes.append(at)
    leads = {found["lead"] for at in dashes if (found := _DASH.match(lines[at]))}
    if len(leads) != 1 or len(set(dashes)) != len(dashes) or dashes[0] <= begins:
        return None
    column = len(leads.pop())
    end = dashes[-1] + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > column):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    starts: list[int] = []
    for at in dashes:
        while at - 1 > max(begins, starts[-1] if starts else 0) and _COMMENT.match(lines[at - 1]):
            at -= 1
        starts.append(at)
    return starts, end


def _as_list(
    lines: list[str], tree: MappingOf[str, Node], values: list[dict[str, Node]]
) -> tuple[tuple[str, ...], tuple[SegmentEntry, ...], tuple[str, ...]]:
    """Head, segments and tail of a script in another form as a list, all its comments at the top."""
    comments = [line.strip() for line in lines if _COMMENT.match(line)]
    head = [f"{name}: {_flow(node)}" for name, node in tree.items() if name != "segments"]
    items = tuple(SegmentEntry(tuple(_written(found)), found) for found in values)
    return (*comments, *head, "segments:"), items, ()


def _values(node: Node) -> dict[str, Node]:
    if isinstance(node, Mapping):
        return {key.text: value for key, value in node.entries}
    return {"prompt": node}


def _item(script: ScriptLines, index: int) -> SegmentEntry:
    if not 0 <= index < len(script.items):
        raise StoryError(f"segment {index + 1} is not there: the script has segments 1 to {len(script.items)}")
    return script.items[index]


def _comments(lines: tuple[str, ...]) -> list[str]:
    """All comments of a segment's lines, those behind a value too, as lines of their own."""
    found = []
    for line in lines:
        trailing = _TRAILING.search(line)
        if _COMMENT.match(line):
            found.append(line)
        elif trailing and line.count('"', 0, trailing.start()) % 2 == 0:
            found.append(f"  {trailing[1]}")
    return found


# --- writing ---------------------------------------------------------------------------------------------------------


def _checked(values: MappingOf[str, Any]) -> MappingOf[str, Any]:
    unknown = sorted(set(values) - set(SEGMENT_ENTRIES))
    if unknown:
        raise StoryError(f"a segment has no entry {unknown[0][:40]!r}: use one of {', '.join(SEGMENT_ENTRIES)}")
    return values


def _node(value: Any) -> Node:
    """A plain value as the reader would have read it."""
    place = ScriptPlace(1, 1)
    if isinstance(value, MappingOf):
        return Mapping(place, [(Scalar(place, str(key), True), _node(one)) for key, one in value.items()], 1)
    if isinstance(value, (list, tuple)):
        return Sequence(place, [_node(one) for one in value], 1)
    if isinstance(value, str):
        return Scalar(place, value, False)
    return Scalar(place, json.dumps(value), True)


def _plain(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key.text: _plain(value) for key, value in node.entries}
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    return meaning(node)


def _flow(node: Node) -> str:
    """A value on one line."""
    if isinstance(node, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(value)}" for key, value in node.entries) + "}"
    if isinstance(node, Sequence):
        return "[" + ", ".join(map(_flow, node.items)) + "]"
    if node.plain and (_PLAIN.fullmatch(node.text) or not isinstance(meaning(node), str)):
        return node.text
    quoted = json.dumps(node.text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _written(values: MappingOf[str, Node]) -> list[str]:
    """A segment as lines of a list, its prompt first."""
    if not values:
        raise StoryError("a segment has no prompt: write what is seen and heard")
    prompt = f"prompt: {_flow(values['prompt'])}" if "prompt" in values else None
    others = [f"{name}: {_flow(node)}" for name, node in values.items() if name != "prompt"]
    first, *more = [*filter(None, [prompt]), *others]
    return [f"  - {first}", *(f"    {line}" for line in more)]


def _checked_text(script: ScriptLines, items: list[SegmentEntry], order: list[int | None]) -> str:
    """The text of the changed script, all items indented alike. order: which segment of before stands where; None: one
    that was changed."""
    leads = {found["lead"] for item in script.items for line in item.lines if (found := _DASH.match(line))}
    kept = [item for item in items if any(item is one for one in script.items)]
    shift = min(map(len, leads), default=2) - 2 if kept else 0
    moved = [item if any(item is one for one in script.items) else _indented(item, shift) for item in items]
    text = replace(script, items=tuple(moved)).text
    old, new = script.means, _parsed(text)
    for place, index in enumerate(order):
        if index is not None and _content(old.segments[index]) != _content(new.segments[place]):
            raise StoryError(f"segment {index + 1} would become another by this change: change the script's text")
    if len(new.segments) != len(order) or replace(old, segments=()) != replace(new, segments=()):
        raise StoryError("the script's settings would become others by this change: change the script's text")
    return text


def _indented(item: SegmentEntry, shift: int) -> SegmentEntry:
    lines = (" " * shift + line if shift > 0 else line[min(-shift, 2) :] for line in item.lines)
    return replace(item, lines=tuple(lines))


def _content(segment: SegmentScript) -> SegmentScript:
    return replace(segment, line=0)
