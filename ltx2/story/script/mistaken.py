"""Lines that would become a prompt, or a part of one, and can only have been meant as a setting."""

import re

from ...errors import StoryError

# Entries whose name alone says that a line is one; of all others the value has to look like a setting's.
_ALWAYS = ("segments", "defaults", "prompt", "negative", "title", "preset", "seed", "fps")
_QUOTES = "\"'“”‘’„«»`"
_LINE = re.compile(
    rf"\s*(?:[-*•]\s+)?\**[{_QUOTES}]?(?P<key>[A-Za-z_]+)[{_QUOTES}]?\**(?P<sign>\s*[:：=])\**(?P<gap>\s*)(?P<value>.*)$"
)
_VALUE = re.compile(
    r"(?:[-+]?\d[\d.,_/:]*\s*(?:s|sec|secs|seconds?|frames?|fps|px|p|%)?|\d+\s*[x×*]\s*\d+\s*(?:px)?|\.?nan|\.?inf"
    r"|true|false|yes|no|on|off|null|none)?$",
    re.IGNORECASE,
)
_TABLE = re.compile(r"\s*[A-Za-z_]+(?:\s*[,;|\t]\s*[A-Za-z_]+)+\s*$")
_HEADS = {"scenes", "shots", "prompts", "clips", "parts", "scene", "segment"}


def is_setting(key: str, value: str | None, known: tuple[str, ...]) -> bool:
    """Whether ``key: value`` is a setting in whatever case it is written, and not the beginning of a sentence."""
    name = key.lower()
    return name in known and (name in _ALWAYS or bool(_VALUE.match(_bare(value or ""))))


def refuse_setting(line: str, number: int, name: str, keys: tuple[str, ...], *, first_of_all: bool = False) -> None:
    """Raise StoryError for a line (of this number, from 1) that is about to become a prompt and is none.

    name: what errors call the script. keys: all entries that there are. first_of_all: the line is the script's first.
    """
    if line.lstrip().startswith("```"):
        raise _error(name, number, line, "a line of ``` stands among the prompts: leave it out")
    if first_of_all and _TABLE.match(line):
        columns = [word.lower() for word in re.findall(r"\w+", line)]
        if any(word in keys for word in columns):
            raise _error(name, number, line, "this is the head of a table: write one `- prompt: …` a segment instead")
    found = _LINE.match(line)
    if found is None:
        return
    key, value = found["key"].lower(), found["value"]
    if first_of_all and key in _HEADS and not value.strip():
        raise _error(name, number, line, f"the list of a story is called segments, not {key}: write `segments:`")
    if key not in keys:
        return
    if _is_odd(found):
        message = f"{key} is no setting as it is written: expected `{key}: …` with a colon and a space"
        raise _error(name, number, line, message)
    if is_setting(key, value, keys):
        where = "`- prompt: …`" if key == "prompt" else f"`{key}: …` above all prompts, or below a `- prompt: …`"
        raise _error(name, number, line, f"{key} would be read as a prompt here: write {where}")


def refuse_deeper(line: str, number: int, name: str, own: tuple[str, ...], others: tuple[str, ...], above: str) -> None:
    """Raise StoryError for a setting that goes on a text, because it is indented deeper than that.

    own: entries that may stand beside the text; others: those of the story. above: the entry whose text it is.
    """
    found = _LINE.match(line)
    if found is None or found["key"].lower() not in own + others:
        return
    key = found["key"]
    if _is_odd(found) or (found["gap"] and key in own) or is_setting(key, found["value"], own + others):
        message = f"{key} would be read as part of {above}: indent it as far as {above}, or put both in quotes"
        raise _error(name, number, line, message)


def _is_odd(found: re.Match) -> bool:
    """Whether a name stands before a sign that no sentence has there: = or a colon without a gap (but an address)."""
    sign, value = found["sign"], found["value"]
    return "=" in sign or "：" in sign or bool(not found["gap"] and value and not value.startswith("//"))


def _bare(value: str) -> str:
    """A value without a comment, quotes and a comma behind it."""
    return re.sub(r"\s#\s.*$", "", value).strip().rstrip(",").strip(f" {_QUOTES}*")


def _error(name: str, number: int, line: str, message: str) -> StoryError:
    column = len(line) - len(line.lstrip()) + 1
    return StoryError(f"{name}, line {number}, column {column}: {message}")
