"""LoRAs of one stage alone: how they are asked for, what they do in which stage, and what is to be told of them."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..atomic_files import is_there
from ..errors import RequestError
from .lora import Lora, check_lora, match_lora, read_lora
from .lora_report import LoraReport, report_lora

STRENGTH_LIMIT = 100.0  # far beyond any use; more of a LoRA leaves nothing of the model
STAGE_NUMBERS = {"denoising": 1, "refining": 2}
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
# FILE:STRENGTH@STAGE, and FILE@STAGE:STRENGTH as pictures are placed
_SPELLED = re.compile(rf"(.+?)(?:(?::({_NUMBER}))?(?:@([0-9]+))?|@([0-9]+):({_NUMBER}))")


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA file as it is asked for. stage: 1 or 2, the one that runs with it; None: both."""

    path: str | Path
    strength: float = 1.0
    stage: int | None = None

    def __post_init__(self) -> None:
        if self.stage not in (None, 1, 2):
            raise RequestError(f"the LoRA {self.path} is for stage {self.stage}, expected 1 or 2, or none for both")
        if not (math.isfinite(self.strength) and abs(self.strength) <= STRENGTH_LIMIT):
            raise RequestError(
                f"the LoRA {self.path} has strength {self.strength:g}, expected a number from {-STRENGTH_LIMIT:g} to "
                f"{STRENGTH_LIMIT:g}: 1 is as it was trained"
            )


@dataclass(frozen=True, eq=False)
class StageLora:
    """A LoRA that one stage's copy of the transformer runs with. stage: 1 or 2."""

    lora: Lora
    strength: float
    stage: int


def lora_choice(text: str) -> LoraChoice:
    """``FILE[:STRENGTH][@STAGE]``, or FILE@STAGE:STRENGTH. Raises RequestError for a stage or strength that there is
    not."""
    found = None if is_there(text) else _SPELLED.fullmatch(text)
    if not found:
        return LoraChoice(text)
    file, strength, stage = found[1], found[2] or found[5], found[3] or found[4]
    if not is_there(file):
        _check_spelling(file)
    return LoraChoice(file, 1.0 if strength is None else float(strength), None if stage is None else int(stage))


def _check_spelling(text: str) -> None:
    """Raise RequestError where a file is there and what was written behind it is neither a strength nor a stage."""
    ends = sorted((at for at, letter in enumerate(text) if letter in ":@"), reverse=True)
    at = next((at for at in ends if at and is_there(text[:at])), None)
    if at is not None:
        raise RequestError(
            f"the LoRA {text[:at]} is followed by {text[at:]!r}, expected a strength such as :0.8, a stage, @1 or @2, "
            "or both"
        )


def repeated_notes(given: Sequence[tuple[str | Path, float]]) -> tuple[str, ...]:
    """What is to be told of LoRA files that act several times where they act at all: their strengths add up."""
    strengths: dict[Path, list[float]] = {}
    for path, strength in given:
        strengths.setdefault(Path(os.path.realpath(path)), []).append(strength)
    return tuple(
        f"LoRA {path.name} was given {len(found)} times, which together is strength {sum(found):g}"
        for path, found in strengths.items()
        if len(found) > 1
    )


def lora_text(choice: LoraChoice) -> str:
    """A LoRA as ``lora_choice`` reads it."""
    return f"{choice.path}:{choice.strength!r}" + ("" if choice.stage is None else f"@{choice.stage}")


def read_stage_lora(choice: LoraChoice, transformer: Mapping[str, tuple[int, ...]] | nn.Module) -> StageLora:
    """A LoRA of one stage, checked before any of them runs. Raises CheckpointError when it does not fit the transformer
    or holds numbers that are none."""
    lora = read_lora(choice.path)
    report = report_lora(lora, {"transformer": transformer})
    if not report.fitted:
        match_lora(lora, {} if isinstance(transformer, nn.Module) else transformer)  # says what does not fit
    check_lora(lora)
    assert choice.stage is not None
    return StageLora(lora, choice.strength, choice.stage)


def report_notes(report: LoraReport) -> tuple[str, ...]:
    """What is to be told of the file of a stage's LoRA: one that acts on prompts, which both stages share, cannot."""
    name, notes = report.lora.path.name, report.notes()
    if not report.for_text:
        return notes
    left_out = (
        f"LoRA {name}: {report.for_text} of its weights act where prompts are read, once for both stages, and are left "
        "out: name no stage to use them"
    )
    return (*notes, left_out)


def loras_of(loras: Sequence[StageLora], stage: str) -> list[tuple[Lora, float]]:
    """What a stage, ``denoising`` or ``refining``, runs with; others have none."""
    return [(one.lora, one.strength) for one in loras if one.stage == STAGE_NUMBERS.get(stage) and one.strength]
