"""``lora:`` of a script: LoRAs that the whole film is made with, in both stages or in one of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...stages.given import STRENGTH_LIMIT, LoraChoice, lora_choice
from . import values
from .nodes import Node, Scalar, Sequence
from .values import Reader

MOST = 32  # LoRAs of a film


def read_loras(reader: Reader, node: Node | None, find: Callable[[Node, str, str], Path]) -> tuple[LoraChoice, ...]:
    """The LoRAs that a script names. find: the file of a name, by the node that says it and what it is called in
    errors."""
    if node is None:
        return ()
    items = node.items if isinstance(node, Sequence) else [node]
    if len(items) > MOST:
        raise reader.error(node, f"{len(items)} LoRAs, expected at most {MOST}")
    return tuple(_lora(reader, item, find) for item in items)


def _lora(reader: Reader, node: Node, find: Callable[[Node, str, str], Path]) -> LoraChoice:
    """``FILE:STRENGTH@STAGE``, or a mapping of the same."""
    if isinstance(node, Sequence):
        raise reader.error(node, "the LoRA is a list in a list: write one list of files")
    if isinstance(node, Scalar):
        asked = reader.checked(node, "lora", lambda text: lora_choice(values.file_name(text)), node.text)
        return replace(asked, path=find(node, str(asked.path), "LoRA"))
    found: dict[str, Any] = reader.mapping(node, "lora", ("file", "strength", "stage"))
    if "file" not in found:
        raise reader.error(node, "the LoRA has no file: add `file:`")
    path = find(found["file"], reader.text(found, "file", "", values.file_name), "LoRA")
    strength = reader.value(found, "strength", 1.0, _strength)
    return LoraChoice(path, strength, reader.value(found, "stage", None, values.stage_number))


def _strength(value: Any) -> float:
    """A number that a LoRA can be taken at."""
    if abs(values.number(value)) > STRENGTH_LIMIT:
        raise ValueError(f"expected {-STRENGTH_LIMIT:g} to {STRENGTH_LIMIT:g}")
    return value
