"""YAML text as a small tree with lines and columns, in time and memory that grow with the text and nothing else.

The parser's events are put together here, because the usual composer follows aliases without limit, recurses as deep as
the text says, and turns scalars into objects of many kinds.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from ...errors import StoryError

MAX_BYTES = 2**20
MAX_TEXT = 64 * 2**10
MAX_NESTING = 16
MAX_ALIASES = 1_000
# values of a script, repeated ones counted as often as they are used; longer scripts may have one in five bytes
MAX_NODES = 20_000
_BYTES_PER_NODE = 5

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAG = "tag:yaml.org,2002:"


class ScriptPlace(NamedTuple):
    """Where something stands in the text a person wrote, from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class Scalar(NamedTuple):
    """One value as text; plain: not in quotes, so it may mean a number."""

    place: ScriptPlace
    text: str
    plain: bool
    size: int = 1


class Sequence(NamedTuple):
    """A list. size: values in it and itself."""

    place: ScriptPlace
    items: list[Any]
    size: int


class Mapping(NamedTuple):
    """Keys and values as they stand. size: values in it and itself."""

    place: ScriptPlace
    entries: list[tuple[Any, Any]]
    size: int


Node = Scalar | Sequence | Mapping


class ScriptText(NamedTuple):
    """Text for the parser, and where each of its lines came from: (line from 1, columns it was moved by)."""

    text: str
    lines: list[tuple[int, int]]

    def place(self, mark: Any) -> ScriptPlace:
        """Where a mark of the parser stands in what a person wrote."""
        if mark is None or not self.lines:
            return ScriptPlace(1, 1)
        line, moved = self.lines[min(mark.line, len(self.lines) - 1)]
        return ScriptPlace(line, max(mark.column - moved, 0) + 1)


class NotYaml(Exception):
    """What is wrong and where; the caller names the script."""

    def __init__(self, place: ScriptPlace, message: str) -> None:
        super().__init__(message)
        self.place = place


def compose(source: ScriptText) -> Node | None:
    """The tree of a YAML text, None when it is empty. Raises NotYaml."""
    composer = _Composer(source, max(MAX_NODES, len(source.text) // _BYTES_PER_NODE))
    try:
        return composer.document()
    except yaml.MarkedYAMLError as error:
        place = source.place(error.problem_mark or error.context_mark)
        raise NotYaml(place, f"not YAML, {_advice(error.problem or error.context or 'it cannot be read')}") from error
    except yaml.YAMLError as error:
        raise NotYaml(ScriptPlace(1, 1), f"not YAML, {' '.join(str(error).split())[:120]}") from error


def _advice(problem: str) -> str:
    """The parser's words, with what to do where that is plain."""
    if "mapping values are not allowed" in problem:
        return "a colon stands where none can: put the text in quotes"
    if "escape character" in problem:
        return "in double quotes \\ must stand twice: write / in paths, or use single quotes"
    if "found character" in problem and "cannot start any token" in problem:
        return "a character stands where none can: put the text in quotes"
    if "escape" in problem or "hexdecimal" in problem:  # both as the parsers spell it
        return "a backslash in double quotes is read as part of another letter: write / in paths, or use single quotes"
    if "nesting" in problem:
        return "it is nested deeper than a script can be: put the text in quotes"
    return f"{' '.join(problem.split())[:120]}: indent with spaces, and put text with special characters in quotes"


class _Composer:
    def __init__(self, source: ScriptText, most_nodes: int) -> None:
        self._source, self._most = source, most_nodes
        self._events: Iterator[Any] = yaml.parse(source.text, Loader=_LOADER)
        self._anchors: dict[str, Node] = {}
        self._nodes = self._aliases = self._depth = 0

    def document(self) -> Node | None:
        found: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found is not None:
                    raise NotYaml(self._at(event), "a second document begins: a script is one, remove the ---")
            elif isinstance(event, yaml.NodeEvent):
                found = self._node(event)
        return found

    def _at(self, event) -> ScriptPlace:
        return self._source.place(event.start_mark)

    def _count(self, nodes: int, event) -> None:
        self._nodes += nodes
        if self._nodes > self._most:
            raise NotYaml(self._at(event), f"the script has more than {self._most} values: split the story")

    def _node(self, event) -> Node:
        place = self._at(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        self._count(1, event)
        anchor = event.anchor
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_TEXT:
                raise NotYaml(place, f"a text has {len(event.value)} characters, expected at most {MAX_TEXT}")
            node: Node = Scalar(place, event.value, self._is_plain(event, place))
        else:
            self._depth += 1
            if self._depth > MAX_NESTING:
                raise NotYaml(place, f"not YAML for a story, it is nested deeper than {MAX_NESTING} levels")
            node = self._collection(event, place)
            self._depth -= 1
        if anchor:
            # known only from here on, so that nothing can hold itself
            self._anchors[anchor] = node
        return node

    def _alias(self, event, place: ScriptPlace) -> Node:
        self._aliases += 1
        node = self._anchors.get(event.anchor)
        if node is None:
            raise NotYaml(place, f"not YAML, nothing before it is marked &{event.anchor[:40]}: put the text in quotes")
        if self._aliases > MAX_ALIASES:
            raise NotYaml(place, f"the script has more than {MAX_ALIASES} aliases: write the values out")
        self._count(node.size, event)
        return node

    def _collection(self, event, place: ScriptPlace) -> Node:
        sequence = isinstance(event, yaml.SequenceStartEvent)
        kind = "list" if sequence else "mapping"
        if event.tag not in (None, "!", f"{_CORE_TAG}{'seq' if sequence else 'map'}"):
            raise NotYaml(place, f"it is marked {event.tag[:40]!r}, expected a plain {kind}: remove the mark")
        items: list[Node] = []
        end = yaml.SequenceEndEvent if sequence else yaml.MappingEndEvent
        for inner in self._events:
            if isinstance(inner, end):
                break
            items.append(self._node(inner))
        size = 1 + sum(item.size for item in items)
        if sequence:
            return Sequence(place, items, size)
        return Mapping(place, list(zip(items[::2], items[1::2], strict=True)), size)

    def _is_plain(self, event, place: ScriptPlace) -> bool:
        tag = event.tag
        if tag in (None, "!"):
            return event.implicit[0]
        if tag == f"{_CORE_TAG}str":
            return False
        if tag in (f"{_CORE_TAG}int", f"{_CORE_TAG}float", f"{_CORE_TAG}bool", f"{_CORE_TAG}null"):
            return True
        raise NotYaml(place, f"it is marked {tag[:40]!r}, expected plain text or a number: remove the mark")


# --- what a value means ----------------------------------------------------------------------------------------------

_WORDS: dict[str, Any] = {"": None, "~": None, "null": None}
_WORDS |= dict.fromkeys(("true", "yes", "on"), True) | dict.fromkeys(("false", "no", "off"), False)
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]{0,20}")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,3})?|[-+]?\.inf|\.nan")


def meaning(scalar: Scalar) -> str | int | float | bool | None:
    """A scalar as number, truth value, nothing or text."""
    if not scalar.plain:
        return scalar.text
    word = scalar.text.lower()
    if word in _WORDS:
        return _WORDS[word]
    if _WHOLE.fullmatch(scalar.text):
        return int(scalar.text.replace("_", ""))
    if _NUMBER.fullmatch(word):
        return float(word.replace(".inf", "inf").replace(".nan", "nan"))
    return scalar.text


def checked_text(text: str, name: str) -> str:
    """The text with one kind of line end. Raises StoryError for what no script can hold."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise StoryError(f"{name} has more than {MAX_BYTES} bytes, expected a shorter script: split the story")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    found = _UNUSABLE.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - (text.rfind("\n", 0, found.start()) + 1) + 1
        code = f"U+{ord(found[0]):04X}"
        raise StoryError(f"{name}, line {line}, column {column}: the character {code} cannot be read: remove it")
    return text


_UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
