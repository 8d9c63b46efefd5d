"""What can be known of a join before its segments are made: by what the prompt connects, and by the film before."""

import warnings
from collections.abc import Mapping
from typing import Any

from ..ltx2.continuation.attachments import load_attachment
from ..ltx2.errors import Ltx2Error, Ltx2Warning, RequestError
from ..ltx2.film.join import begins_anew
from ..ltx2.film.provenance import read_provenance
from . import host

LOADER, MAKER = f"{host.PREFIX}LoadState", f"{host.PREFIX}Generate"


def check_links(hidden, state) -> None:
    """Raises RequestError for a segment that is connected twice, unless it may be a scene that is to be seen again, and
    for a state that is not the one which the first segment goes on from, where both are loaded from files. hidden:
    prompt and own id, as the host gives them."""
    prompt = getattr(hidden, "prompt", None) or {}
    own = _inputs(prompt, getattr(hidden, "unique_id", None))
    seen: dict[tuple, str] = {}
    again = ""
    for name in sorted(name for name, link in own.items() if name.startswith("segment_") and _is_link(link)):
        goes_on = _goes_on(prompt, own[name])
        before = seen.setdefault(tuple(own[name]), name)
        if before != name and goes_on:
            raise _twice(name, before)
        if again and goes_on:  # not from a scene that is seen again
            raise _twice(again, seen[tuple(own[again])])
        again = name if before != name else ""
    file = _file_before(prompt, own.get("segment_1"))
    if state is not None and file is not None:
        _check_same(state, file)


def check_values(segments: Mapping[str, Any]) -> None:
    """Raises RequestError for an input that gave no segment, and for a segment that two inputs have: it cannot go on
    from two places. One with nothing before it can be seen again, which is told."""
    seen: dict[int, str] = {}
    for name, value in segments.items():
        if value is None:
            raise RequestError(f"{name} gave no segment: connect the segment output of a node that makes one")
        before = seen.setdefault(id(value.frames), name)
        if before == name:
            continue
        if not begins_anew(value.timing):
            raise _twice(name, before)
        warnings.warn(f"{name} is the same segment as {before}: it is seen again", Ltx2Warning, stacklevel=2)


def _twice(name: str, before: str) -> RequestError:
    return RequestError(
        f"{name} is the same segment as {before}: connect the one that goes on from it, or leave {name} out"
    )


def _check_same(state, file: str) -> None:
    try:
        other = load_attachment(host.user_file(file)).state
    except Ltx2Error:
        return  # its own node says why
    ends = [read_provenance(one.metadata, one.segment_index) for one in (state, other)]
    if None in ends or len({(end.timing.fps, end.timing.picture_end) for end in ends if end is not None}) == 1:
        return
    here, there = (f"{float(end.timing.picture_end):.2f} s" for end in ends if end is not None)
    raise RequestError(
        f"state ends at {here} of its film, segment_1 goes on from {file}, which ends at {there}: connect the state that "
        "segment_1 goes on from"
    )


def _file_before(prompt: Mapping[str, Any], link: Any) -> str | None:
    """The file of the state that a linked segment goes on from; None where that is not known."""
    for kind, name in ((MAKER, "state"), (LOADER, "file")):
        node = prompt.get(str(link[0])) if _is_link(link) else None
        if not isinstance(node, dict) or node.get("class_type") != kind:
            return None
        link = _inputs(prompt, link[0]).get(name)
    return link if isinstance(link, str) else None


def _goes_on(prompt: Mapping[str, Any], link: Any) -> bool:
    """Whether a linked segment is known to go on from a state."""
    return _is_link(_inputs(prompt, link[0]).get("state"))


def _inputs(prompt: Mapping[str, Any], node_id: Any) -> dict[str, Any]:
    node = prompt.get(str(node_id))
    found = node.get("inputs") if isinstance(node, dict) else None
    return found if isinstance(found, dict) else {}


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2
