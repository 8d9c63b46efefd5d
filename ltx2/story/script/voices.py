"""``voice:`` of a script: what an ID-LoRA makes people speak with, all along the film or in one segment."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...stages.conditioning.voices import STRONGEST
from ...values import VoiceCondition
from . import values
from .nodes import Node, Scalar
from .values import Reader


def _scale(value: Any) -> float:
    if not 0 <= values.number(value) <= STRONGEST:
        raise ValueError(f"expected 0 (off) to {STRONGEST:g}, such as 3")
    return float(value)


@dataclass(frozen=True)
class StoryVoice:
    """A file with a few seconds of speech, and how strongly it counts (values.VoiceCondition)."""

    path: Path
    identity: float = VoiceCondition.identity


def read_voice(reader: Reader, node: Node | None, find: Callable[[Node, str, str], Path]) -> StoryVoice | None:
    """The voice that a script names; ``no`` or nothing stands for none. find: the file of a name, by the node that
    says it and what it is called in errors."""
    if node is None or (isinstance(node, Scalar) and reader.scalar(node, "the voice") in (False, None)):
        return None
    known = ("file", "identity")
    found: dict[str, Any] = {"file": node} if isinstance(node, Scalar) else reader.mapping(node, "voice", known)
    if "file" not in found:
        raise reader.error(node, "the voice has no file: add `file:`")
    name = reader.text(found, "file", "", values.file_name)
    identity = reader.value(found, "identity", VoiceCondition.identity, _scale)
    return StoryVoice(find(found["file"], name, "voice"), identity)
