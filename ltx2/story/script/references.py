"""``reference:`` of a script: what an IC-LoRA follows, all along the film or in one segment."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...stages.conditioning.references import STAGES
from . import values
from .nodes import Node, Scalar, Sequence
from .values import Reader

MOST = 8  # references of a segment


@dataclass(frozen=True)
class StoryReference:
    """A control film, which runs along with the film, or one picture for all frames. mask: where it counts; the rest as
    in values.ReferenceCondition."""

    path: Path
    strength: float = 1.0
    attention: float = 1.0
    mask: Path | None = None
    stages: str = "first"


def read_references(
    reader: Reader, node: Node | None, find: Callable[[Node, str, str], Path]
) -> tuple[StoryReference, ...]:
    """The references that a script names; ``no`` or nothing stands for none. find: the file of a name, by the node that
    says it and what it is called in errors."""
    if node is None or (isinstance(node, Scalar) and reader.scalar(node, "the reference") in (False, None)):
        return ()
    items = node.items if isinstance(node, Sequence) else [node]
    if len(items) > MOST:
        raise reader.error(node, f"{len(items)} references, expected at most {MOST}")
    return tuple(_reference(reader, item, find) for item in items)


def _reference(reader: Reader, node: Node, find: Callable[[Node, str, str], Path]) -> StoryReference:
    if isinstance(node, Sequence):
        raise reader.error(node, "the reference is a list in a list: write one list of files")
    known = ("file", "strength", "attention", "mask", "stages")
    found: dict[str, Any] = {"file": node} if isinstance(node, Scalar) else reader.mapping(node, "reference", known)
    if "file" not in found:
        raise reader.error(node, "the reference has no file: add `file:`")
    stages = reader.value(found, "stages", "first", values.text)
    if stages not in STAGES:
        raise reader.error(found["stages"], f"stages is {str(stages)[:20]!r}, expected {' or '.join(STAGES)}")
    name = reader.text(found, "file", "", values.file_name)
    mask = reader.text(found, "mask", "", values.file_name) if "mask" in found else None
    return StoryReference(
        find(found["file"], name, "reference"),
        reader.value(found, "strength", 1.0, values.share),
        reader.value(found, "attention", 1.0, values.share),
        None if mask is None else find(found["mask"], mask, "mask"),
        stages,
    )
