"""Names that people give to what is saved: the tokens of the host's save nodes, and characters that every system
takes."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..ltx2.atomic_files import is_portable

_FORBIDDEN = re.compile(r'[<>:"|?*]')
_LONGEST_VALUE = 100  # letters of another node's input
_DATE = re.compile(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|y{2,4}")
_CLOCK = {"year": "yyyy", "month": "MM", "day": "dd", "hour": "hh", "minute": "mm", "second": "ss"}


def resolve_name(
    text: str, hidden: Any = None, size: tuple[int, int] = (0, 0), now: datetime | None = None
) -> tuple[str, tuple[str, ...]]:
    """A name with its tokens filled in and every character one that all systems take, and what was left as it is or
    changed, one sentence each.

    Tokens: %width% and %height% (size, in pixels), %year% … %second%, %date:yyyy-MM-dd%, %batch_num%, and %Node.input%
    with the input of another node of the workflow, which is named by its type, its name for search and replace, or its
    title. hidden: a node's hidden values, which hold the workflow.
    """
    moment = datetime.now() if now is None else now
    notes: list[str] = []

    def value(match: re.Match) -> str:
        found = _value(match[1], hidden, size, moment)
        if found is None:
            notes.append(f"{match[0][:60]} in the file name stands for nothing here and stays as it is")
            return match[0]
        return found

    named = re.sub(r"%([^%]+)%", value, text.replace("\\", "/"))
    # a drive stays where it is one, to be refused
    drive = named[:2] if re.match(r"[A-Za-z]:", named) else ""
    safe = drive + "/".join(_portable(part) for part in named.removeprefix(drive).split("/"))
    if safe != named:
        notes.append(f"the file name {named[:60]!r} became {safe[:60]!r}, since not every system takes it")
    return safe, tuple(notes)


def _value(token: str, hidden: Any, size: tuple[int, int], now: datetime) -> str | None:
    if token in ("width", "height"):
        return str(size[token == "height"])
    if token == "batch_num":
        return "0"
    if token in _CLOCK:
        return _date(_CLOCK[token], now)
    if token.startswith("date:"):
        return _in_a_name(_date(token.removeprefix("date:"), now))
    node, dot, name = token.rpartition(".")
    if not dot:
        return None
    for inputs in _nodes_named(node, hidden):
        found = inputs.get(name)
        # a connected input is a list of a node and its output
        return None if found is None or isinstance(found, (list, dict)) else _in_a_name(str(found))[:_LONGEST_VALUE]
    return None


def _date(pattern: str, now: datetime) -> str:
    """A moment in the letters of the page: d M h m s, and yy or yyyy."""
    numbers = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match) -> str:
        letters = match[0]
        if letters[0] == "y":
            return {"yy": f"{now.year % 100:02}", "yyyy": f"{now.year:04}"}.get(letters, letters)
        return str(numbers[letters[0]]).zfill(len(letters))

    return _DATE.sub(part, pattern)


def _nodes_named(name: str, hidden: Any) -> Iterator[Mapping[str, Any]]:
    """Inputs of the workflow's nodes of this name: first by the name for search and replace or the type, then by the
    title."""
    prompt = getattr(hidden, "prompt", None)
    prompt = prompt if isinstance(prompt, Mapping) else {}
    extra = getattr(hidden, "extra_pnginfo", None)
    workflow = extra.get("workflow") if isinstance(extra, Mapping) else None
    shown = workflow.get("nodes") if isinstance(workflow, Mapping) else None
    pages = {str(one.get("id")): one for one in shown or () if isinstance(one, Mapping)}

    def names(number: str, node: Mapping[str, Any]) -> tuple[list, list]:
        page = pages.get(str(number), {})
        properties = page.get("properties") or {}
        title = (node.get("_meta") or {}).get("title")
        return [properties.get("Node name for S&R"), node.get("class_type")], [page.get("title"), title]

    nodes = [(number, node) for number, node in prompt.items() if isinstance(node, Mapping)]
    for kind in (0, 1):
        for number, node in nodes:
            if name in names(number, node)[kind]:
                yield node.get("inputs") or {}


def _in_a_name(text: str) -> str:
    """A value as a part of a name: no slash, and one line."""
    return re.sub(r'[\0-\x1f\x7f/\\<>:"|?*]', "_", text)


def _portable(part: str) -> str:
    """A part of a name as every system takes it; what no system takes stays, to be refused."""
    part = part.strip()
    if part in ("", ".", "..") or part.startswith("~"):
        return part
    safe = _FORBIDDEN.sub("_", part).rstrip(" .")
    if not safe:
        return part
    return safe if is_portable(safe) or not is_portable(f"_{safe}") else f"_{safe}"
