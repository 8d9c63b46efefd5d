"""Scripts as people type them: prose without marks, prompts with colons, quotes, # and emoji.

What is plainly YAML stays as it is; a prompt that YAML would read as something else is put in quotes, and prose without
any structure becomes a list of segments. Each line is looked at once.
"""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...errors import StoryError
from .mistaken import is_setting, refuse_deeper, refuse_setting
from .nodes import ScriptText

MAX_SEGMENTS = 2_000  # nearly three hours; more of them cost a server more than a moment to read
# Entries whose value is text that people write without quotes.
_FREE_TEXT = ("prompt", "negative", "title")
_KEY = re.compile(r"(?P<lead>\s*(?:-\s+)?)(?P<key>\w+)(?P<colon>\s*:)(?:(?P<gap>\s+)(?P<value>\S.*))?\s*$")
_DASH = re.compile(r"(?P<lead>\s*-(?:\s+|$))(?P<rest>.*)$")
_MARK = re.compile(r"\s*(?:[-*•–—]|\d{1,4}[.):])\s+(?P<rest>\S.*)$")
_COMMENT_LINE = re.compile(r"\s*#+(?:\s|$|!)")  # headings of Markdown among them
_BLOCK = re.compile(r"[|>][-+0-9]{0,2}\s*(?:#.*)?$")
_QUOTED = re.compile(r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*')\s*(?:#.*)?$")
_FLOW_MAPPING = re.compile(r"\{\s*[\"']?(?:\w+|<<)[\"']?\s*:|\{\s*(?:\}|$)")
_YAML_MARK = re.compile(r"!!?\w\S*(?:\s|$)|!<")
_ANCHOR = re.compile(r"[&*]([\w-]+)(?:\s|$)")
# comparing words costs more than all else
_MOST_COMPARED = 200
_NEW_SCENE = re.compile(r"-{3,}\s*$|\*{3,}\s*$")
_SEGMENTS = re.compile(r"segments\s*:(?:\s|$)", re.IGNORECASE)
# what stands in front of a text, where a web page's or a table's blanks may have come along
_LEAD = re.compile(r"\s*(?:-\s+)?(?:[\"']?\w+[\"']?\s*:\s+)?")
_ODD_BLANK = re.compile(r"(?<=\S)\t|[^\S\n\t ]")
_HALVES = re.compile(r"((?<!\\)(?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})")
_FENCE = re.compile(r"\s*```\s*\w*\s*$")


@dataclass
class _Writer:
    """The YAML that is made, with the line and the shift of columns that each of its lines came from."""

    text: list[str] = field(default_factory=list)
    lines: list[tuple[int, int]] = field(default_factory=list)

    def add(self, text: str, line: int, moved: int = 0) -> None:
        self.text.append(text)
        self.lines.append((line, moved))


def too_many(segments: int) -> str:
    """What is wrong with a story of so many segments."""
    return f"the script has {segments} segments, expected at most {MAX_SEGMENTS}: split the story"


def as_source(text: str, name: str, story_keys: tuple[str, ...], segment_keys: tuple[str, ...]) -> ScriptText:
    """YAML of a script's text. Raises StoryError where a line can only be a mistake."""
    typed = _Typed(_plain_lines(text.split("\n")), name, story_keys, segment_keys)
    typed.write()
    return ScriptText("\n".join(typed.out.text), typed.out.lines)


@dataclass
class _Typed:
    """One script on its way to YAML. ``at``: the line that is looked at next, from 0."""

    source: list[str]
    name: str
    story_keys: tuple[str, ...]
    segment_keys: tuple[str, ...]
    out: _Writer = field(default_factory=_Writer)
    at: int = 0
    _compared: int = 0

    def write(self) -> None:
        self._anchors = {name for line in self.source if "&" in line for name in re.findall(r"&([\w-]+)", line)}
        begins = next((i for i, line in enumerate(self.source) if _SEGMENTS.match(line)), None)
        if begins is None and self._is_flow():
            self.source = [_from_json(line.replace("\t", " ")) for line in self.source]
            self._copy(len(self.source))
            return
        if begins is None and _is_json_list(self.source):
            self.source = [_from_json(line.replace("\t", " ")) for line in self.source]
            self.out.add(f"segments: {self.source[0]}", 1, len("segments: "))
            self.at = 1
            self._copy(len(self.source))
            return
        head = self._head_end() if begins is None else begins
        self._structure(head)
        if begins is not None:
            self._segments_block()
            self._structure(len(self.source))
        elif any(line.strip() for line in self.source[head:]):
            self.out.add("segments:", head + 1)
            self._body(head, len(self.source))

    # --- what kind of thing a line is

    def _is_flow(self) -> bool:
        """Whether the whole text is one mapping or list in brackets, or carries a mark of its own."""
        first = next((line for line in self.source if line.strip() and not _COMMENT_LINE.match(line)), "")
        return bool(_FLOW_MAPPING.match(first) or _YAML_MARK.match(first))

    def _near(self, word: str, keys: tuple[str, ...]) -> bool:
        """Whether a word is one of these, or one mistyped."""
        if word in keys:
            return True
        alike = [key for key in keys if key[0] == word[0] and abs(len(key) - len(word)) <= 2]
        if not alike or not word.islower() or self._compared >= _MOST_COMPARED:
            return False
        self._compared += 1
        return bool(difflib.get_close_matches(word, alike, 1, 0.75))

    def _head_end(self) -> int:
        """Where the settings end in a script without ``segments:``; what follows them is prose."""
        end, inside = 0, False
        for number, line in enumerate(self.source):
            found = _KEY.match(line)
            if not line.strip() or _COMMENT_LINE.match(line) or (number == 0 and _NEW_SCENE.match(line)):
                continue
            if inside and line[:1].isspace():
                end = number + 1
            elif found and not found["lead"] and self._is_head(found):
                inside, end = True, number + 1
            else:
                break
        return end

    def _is_head(self, found: re.Match) -> bool:
        """Whether a line ``key: value`` is a setting of the story, or one of a segment that stands too high."""
        every = self.story_keys + self.segment_keys
        return self._near(found["key"], self.story_keys) or is_setting(found["key"], found["value"], every)

    def _refuse_setting(self, number: int, first: bool = False) -> None:
        keys = self.story_keys + self.segment_keys
        refuse_setting(self.source[number], number + 1, self.name, keys, first_of_all=first)

    def _refuse_deeper(self, number: int, above: str) -> None:
        refuse_deeper(self.source[number], number + 1, self.name, self.segment_keys, self.story_keys, above)

    def _is_yaml_value(self, value: str) -> bool:
        """Whether a value after a dash or a colon is written as YAML means it, and not as prose."""
        if value[0] in "\"'":
            return bool(_QUOTED.match(value)) or value[0] not in value[1:]
        mark = _ANCHOR.match(value)
        known = bool(mark) and mark[1] in self._anchors
        return bool(_BLOCK.match(value) or known or re.match(r"!!\w", value))

    def _is_entry(self, value: str) -> bool:
        """Whether what follows a dash is a mapping rather than a prompt."""
        found = _KEY.match(value)
        quoted = re.match(r"([\"'])(\w+)\1\s*:(\s|$)", value)
        word = found["key"] if found else quoted[2] if quoted else ""
        if found and is_setting(word, found["value"], self.segment_keys):
            return True
        return bool(word and self._near(word, self.segment_keys)) or bool(_FLOW_MAPPING.match(value))

    # --- copying and quoting

    def _copy(self, until: int) -> None:
        while self.at < until:
            self._check_indent()
            self.out.add(self.source[self.at], self.at + 1)
            self.at += 1

    def _check_indent(self) -> None:
        line = self.source[self.at]
        lead = line[: len(line) - len(line.lstrip())]
        if "\t" in lead and line.strip():
            column = lead.index("\t") + 1
            raise StoryError(
                f"{self.name}, line {self.at + 1}, column {column}: the line is indented with a tab: use spaces"
            )

    def _structure(self, until: int) -> None:
        """Lines of YAML as they are, but free text behind known entries in quotes."""
        while self.at < until:
            line = self.source[self.at]
            found = _KEY.match(line)
            if found and found["value"] and not _COMMENT_LINE.match(line):
                self._entry(found, until)
            else:
                if not found and line[:1].isalpha():
                    self._refuse_setting(self.at)
                self._copy(self.at + 1)

    def _entry(self, found: re.Match, until: int) -> None:
        """One line ``key: value``, with the lines that belong to its value."""
        value, column = found["value"], found.start("key")
        if _BLOCK.match(value):
            self._copy(self._deeper(self.at + 1, column, until))
        elif found["key"] in _FREE_TEXT and not self._is_yaml_value(value):
            for number in range(self.at + 1, self._deeper(self.at + 1, column, until)):
                self._refuse_deeper(number, found["key"])
            self._quoted(found.start("value"), self._deeper(self.at + 1, column, until))
        elif value[0] in "[{":
            self._flow(until)
        elif found["key"] in _FREE_TEXT:
            self._copy(self._deeper(self.at + 1, column, until))
        else:
            self._copy(self.at + 1)

    def _deeper(self, number: int, column: int, until: int) -> int:
        """The first line from ``number`` on that is not indented deeper than ``column``; blank ones at the end stay
        outside."""
        end = number
        while number < until:
            line = self.source[number]
            if line.strip():
                if len(line) - len(line.lstrip()) <= column:
                    break
                end = number + 1
            number += 1
        return end

    def _flow(self, until: int) -> None:
        """A value in brackets, which may go over several lines."""
        depth, quote = 0, ""
        while self.at < until:
            for sign in self.source[self.at]:
                if quote:
                    quote = "" if sign == quote else quote
                elif sign in "\"'":
                    quote = sign
                else:
                    depth += (sign in "[{") - (sign in "]}")
            self._copy(self.at + 1)
            if depth <= 0:
                return

    def _quoted(self, column: int, until: int, before: str = "", after: str = "") -> None:
        """The text from ``column`` of this line on, with the lines up to ``until``, as one value in quotes."""
        line = self.source[self.at]
        parts = [_without_comment(line[column:])]
        for more in self.source[self.at + 1 : until]:
            if not _COMMENT_LINE.match(more):
                parts.append(_without_comment(more))
        self.out.add(f"{line[:column]}{before}{_in_quotes(_joined(parts))}{after}", self.at + 1, len(before))
        for number in range(self.at + 1, until):
            self.out.add("", number + 1)
        self.at = until

    # --- segments

    def _segments_block(self) -> None:
        """The block of ``segments:``, whether a list or prose."""
        line = self.source[self.at]
        value = _without_comment(line.partition(":")[2])
        if value and not re.fullmatch(r"[|>][-+0-9]{0,2}", value):
            found = _KEY.match(line)
            if found and value[0] in "[{":
                self._flow(len(self.source))
            else:
                self._copy(self.at + 1)
            return
        end = self._block_end(self.at + 1)
        first = next((i for i in range(self.at + 1, end) if self._is_text(self.source[i])), None)
        if first is None:
            self._copy(end)
        elif not value and (_DASH.match(self.source[first]) or self._is_entry(self.source[first].strip())):
            self._copy(self.at + 1)
            self._items(end)
        else:
            self.out.add("segments:", self.at + 1)
            self._body(self.at + 1, end)

    def _block_end(self, number: int) -> int:
        """The first line behind ``number`` that begins another entry of the script."""
        while number < len(self.source):
            found = _KEY.match(self.source[number])
            if found and not found["lead"] and self._near(found["key"], self.story_keys):
                return number
            number += 1
        return number

    def _is_text(self, line: str) -> bool:
        return bool(line.strip()) and not _COMMENT_LINE.match(line)

    def _items(self, until: int) -> None:
        """A list with a dash before each segment."""
        self._check_count(until)
        while self.at < until:
            self._check_indent()
            line = self.source[self.at]
            found = _DASH.match(line)
            if not found or _COMMENT_LINE.match(line):
                self._structure(self.at + 1)
                continue
            dash = line.index("-")
            end = self._deeper(self.at + 1, dash, until)
            rest = found["rest"].strip()
            if not rest or re.match(r"-\s|#(?:\s|$)", rest) or self._is_entry(rest):
                self._mapping_item(found, rest, end)
            elif self._is_yaml_value(rest) and self._closes(rest, end):
                self._copy(end)
            else:
                self._refuse_setting(self.at)
                self._prompt_item(found, end)

    def _closes(self, value: str, until: int) -> bool:
        """Whether a quote at the beginning of a text, if there is one, has its other end."""
        sign = value[0]
        return sign not in "\"'" or any(sign in line for line in (value[1:], *self.source[self.at + 1 : until]))

    def _check_count(self, until: int) -> None:
        """A list that is too long is refused before any of it is looked at."""
        lines = self.source[self.at : until]
        lead = next((found["lead"] for found in map(_DASH.match, lines) if found), None)
        if lead is not None:
            dash = lead[: lead.index("-") + 1]
            count = sum(line.startswith(f"{dash} ") or line == dash for line in lines)
            if count > MAX_SEGMENTS:
                raise StoryError(f"{self.name}, line {self.at + 1}, column 1: {too_many(count)}")

    def _mapping_item(self, found: re.Match, rest: str, until: int) -> None:
        if rest[:1] == "{":
            self._flow(until)
        self._structure(until)

    def _prompt_item(self, found: re.Match, until: int) -> None:
        """A prompt behind a dash; settings below it can only be a mistake, which is told."""
        for number in range(self.at + 1, until):
            entry = _KEY.match(self.source[number])
            if entry and (
                entry["key"] in self.segment_keys or is_setting(entry["key"], entry["value"], self.segment_keys)
            ):
                column = entry.start("key") + 1
                raise StoryError(
                    f"{self.name}, line {number + 1}, column {column}: {entry['key']} stands below a prompt without a "
                    f"name: write `- prompt: …` on line {self.at + 1}"
                )
        self._quoted(len(found["lead"]), until)

    def _body(self, start: int, end: int) -> None:
        """Prose: one segment a paragraph where blank lines part them and one has several lines, else one a line."""
        self.at = start
        first = next((line for line in self.source[start:end] if self._is_text(line)), "")
        if _DASH.match(first) and not _NEW_SCENE.match(first):
            self._items(end)
            return
        cut, groups = False, list(self._groups(start, end))
        if len(groups) > MAX_SEGMENTS:  # before each is looked at
            raise StoryError(f"{self.name}, line {start + 1}, column 1: {too_many(len(groups))}")
        for lines in groups:
            if _NEW_SCENE.match(self.source[lines[0]].strip()):
                cut = True
                continue
            for number in lines:
                self._refuse_setting(number, first=number == start)
            line = self.source[lines[0]]
            marked = _MARK.match(line)
            column = marked.start("rest") if marked else len(line) - len(line.lstrip())
            parts = [line[column:], *(self.source[number] for number in lines[1:])]
            quoted = _in_quotes(_joined([part.strip() for part in parts]))
            # the columns of a text that got a dash and a name in front
            lead = "- {prompt: " if cut else "- "
            self.out.add(f"{lead}{quoted}{', cut: true}' if cut else ''}", lines[0] + 1, len(lead) - column)
            cut = False
        self.at = end

    def _groups(self, start: int, end: int) -> Iterator[list[int]]:
        """The numbers of the lines of each segment, and of lines that mark a new scene."""
        paragraphs: list[list[int]] = [[]]
        seen = blank = parted = False
        for number in range(start, end):
            line = self.source[number]
            if not line.strip():
                paragraphs.append([])
                blank = seen
            elif _NEW_SCENE.match(line.strip()):
                paragraphs += [[number], []]
            elif not _COMMENT_LINE.match(line):
                paragraphs[-1].append(number)
                seen, parted = True, parted or blank
        paragraphs = [lines for lines in paragraphs if lines]
        texts = [lines for lines in paragraphs if not _NEW_SCENE.match(self.source[lines[0]].strip())]
        if any(_MARK.match(self.source[number]) for lines in texts for number in lines[:1]):
            yield from self._marked(paragraphs)
        elif parted and any(len(lines) > 1 for lines in texts):
            yield from paragraphs
        else:
            yield from ([number] for lines in paragraphs for number in lines)

    def _marked(self, paragraphs: list[list[int]]) -> Iterator[list[int]]:
        """Segments that begin with a bullet or a number."""
        for lines in paragraphs:
            found: list[int] = []
            for number in lines:
                if found and _MARK.match(self.source[number]):
                    yield found
                    found = []
                found.append(number)
            yield found


def _plain_lines(lines: list[str]) -> list[str]:
    """The lines without a fence of Markdown around them, and with plain blanks in front of their texts."""
    written = [number for number, line in enumerate(lines) if line.strip()]
    if len(written) > 1 and all(_FENCE.match(lines[number]) for number in (written[0], written[-1])):
        for number in (written[0], written[-1]):
            lines[number] = ""
    if not any(map(_ODD_BLANK.search, lines)):
        return lines
    return [_ODD_BLANK.sub(" ", lead := _LEAD.match(line)[0]) + line[len(lead) :] for line in lines]


def _is_json_list(lines: list[str]) -> bool:
    """Whether the whole text is a list as programs write it."""
    if lines[0][:1] != "[":
        return False
    try:
        return isinstance(json.loads("\n".join(lines)), list)
    except (ValueError, RecursionError):
        return False


def _from_json(line: str) -> str:
    """A line of JSON whose escaped halves of characters, which YAML does not know, are whole characters."""
    return _HALVES.sub(lambda found: found[1] + json.loads(f'"{found[2]}"'), line)


def _without_comment(text: str) -> str:
    """The text up to a comment: a # with a space on both sides, outside double quotes."""
    at = quotes = 0
    for found in re.finditer(r"(?:^|\s)#(?=\s|$)", text):
        quotes += text.count('"', at, found.start())
        at = found.start()
        if quotes % 2 == 0:
            return text[:at].strip()
    return text.strip()


def _joined(parts: list[str]) -> str:
    """Lines as one text; a blank line stays a new paragraph."""
    text = ""
    for part in parts:
        text += "\n" if not part else (" " if text and not text.endswith("\n") else "") + part
    return text.strip()


def _in_quotes(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub("[\u0085\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", quoted)
