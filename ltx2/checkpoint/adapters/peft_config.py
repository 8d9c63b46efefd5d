"""What PEFT's configuration says of scales, wherever it was written: in a file's metadata (by diffusers as one JSON
text or by others key by key, with the component's name in front or without), or in ``adapter_config.json`` beside the
file.

alpha over the rank of the very module; its root with ``use_rslora``; ``alpha_pattern`` says another alpha for modules
whose names match. The patterns are regular expressions of a small, safe part: they come from a file.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .names import without_prefixes
from .stored import ALPHA_LIMIT, Alpha

BESIDE = "adapter_config.json"  # of files that PEFT itself writes
BESIDE_FILES = "adapter_model"
COMPONENTS = ("transformer", "connectors", "text_encoder", "unet")
LIMIT_BYTES = 1_000_000
PATTERN_LIMIT = 300
WILDCARDS_LIMIT = 4
_SCALES = ("r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora")
_OTHERS = ("use_cayley_neumann", "num_cayley_neumann_terms", "coft", "eps", "peft_version")  # of OFT
_KEYS = _SCALES + _OTHERS
# Configurations of other kinds than LoRA call it so.
_OTHER_ALPHA, _OTHER_TYPES = "alpha", ("LOHA", "LOKR")
# What of a regular expression may stand in a pattern, as it is taken over.
_TOKEN = re.compile(
    r"(?P<wild>\.\*|\.\+|\\d\+|\[0-9\]\+|\[\^\.\]\+)|(?P<any>\\\.|\.|\\d|\[0-9\])|(?P<group>\((?:\?:)?[\w.|\\-]+\))"
    r"|(?P<plain>[\w-]+)|(?P<edge>\^|\$)"
)


@dataclass(frozen=True)
class PeftConfig:
    """The scales of one component: for all modules, and for those that a pattern is of. others: what kinds without
    scales go by, as it was written."""

    alpha: float | None = None
    by_root: bool = False
    rank: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)

    def of(self, module: str) -> Alpha:
        """The alpha and rank of a module, by its name in the file without the component."""
        alpha, rank = (
            next((value for pattern, value in patterns.items() if _matches(pattern, module)), general)
            for patterns, general in ((self.alphas, self.alpha), (self.ranks, self.rank))
        )
        return Alpha(alpha, self.by_root, None if rank is None else round(rank))


@dataclass(frozen=True)
class PeftConfigs:
    """Configurations by component ("" for all), and notes on what in them could not be used."""

    by_component: Mapping[str, PeftConfig] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def alpha_of(self, module: str) -> Alpha:
        """The alpha of a module, by its name in the file, whatever stands in front of it."""
        own, rest = self._of(module)
        return Alpha() if own is None else own.of(rest)

    def others_of(self, module: str) -> Mapping[str, Any]:
        """What kinds without scales go by, of a module by its name in the file."""
        own, _ = self._of(module)
        return {} if own is None else own.others

    def _of(self, module: str) -> tuple[PeftConfig | None, str]:
        """The configuration of a module, and its name without the component."""
        module = module.removeprefix("base_model.model.")
        first, _, rest = module.partition(".")
        own = self.by_component.get(first)
        if own is not None:
            return own, rest
        general = self.by_component.get("") or self.by_component.get("transformer")
        return (None if first in COMPONENTS[1:] else general), without_prefixes(module)


def read_peft_config(path: Path, metadata: Mapping[str, str]) -> PeftConfigs:
    """The configurations that go with a LoRA file."""
    found: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for key, text in metadata.items():
        if key.rpartition(".")[2] in _KEYS:
            _take(found, key, text)
        elif "lora_alpha" in text or key == "lora_adapter_metadata":
            _take_all(found, _object(text), f"metadata {key[:40]}", notes)
    beside = path.with_name(BESIDE)
    if beside.is_file() and beside.stat().st_size <= LIMIT_BYTES and _is_of(path):
        _take_all(found, _object(beside.read_text("utf-8", "replace")), BESIDE, notes)
    configs = {component: _config(values, notes) for component, values in found.items()}
    return PeftConfigs(configs, tuple(dict.fromkeys(notes)))


def _is_of(path: Path) -> bool:
    """Whether the configuration beside a file is its own: by PEFT's name of the file, or since there is no other."""
    return path.stem.startswith(BESIDE_FILES) or sum(1 for _ in path.parent.glob("*.safetensors")) == 1


def _take(found: dict[str, dict[str, Any]], key: str, value: Any) -> None:
    component, _, name = key.rpartition(".")
    if name in _KEYS:
        found.setdefault(component.rpartition(".")[2] if component else "", {}).setdefault(name, value)


def _take_all(found: dict[str, dict[str, Any]], values: dict | None, where: str, notes: list[str]) -> None:
    if values is None:
        notes.append(f"{where} is not JSON, so that an alpha in it does not count")
        return
    if str(values.get("peft_type", "")).upper().endswith(_OTHER_TYPES):
        values = {**values, "lora_alpha": values.get(_OTHER_ALPHA)}
    for key, value in values.items():
        if isinstance(value, dict) and key in COMPONENTS:  # one object a component
            for name, inner in value.items():
                _take(found, f"{key}.{name}", inner)
        else:
            _take(found, key, value)


def _object(text: str) -> dict | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _config(values: Mapping[str, Any], notes: list[str]) -> PeftConfig:
    alpha, rank = (
        _number(values[key], key, notes) if values.get(key) is not None else None for key in ("lora_alpha", "r")
    )
    by_root = str(values.get("use_rslora", "")).strip().lower() in ("true", "1")
    alphas, ranks = (_patterns(values.get(key), key, notes) for key in ("alpha_pattern", "rank_pattern"))
    others = {key: values[key] for key in _OTHERS if key in values}
    return PeftConfig(alpha, by_root, rank, alphas, ranks, others)


def _patterns(given: Any, what: str, notes: list[str]) -> dict[str, float]:
    """A table of patterns with numbers, as an object or as its text."""
    table = _object(given) if isinstance(given, str) else given
    if given and not isinstance(table, dict):
        notes.append(f"{what} {str(given)[:40]!r} is not an object, so that it does not count")
    patterns = {}
    for pattern, value in table.items() if isinstance(table, dict) else ():
        number = _number(value, what, notes)
        if number is not None and _compiled(pattern) is None:
            notes.append(f"{what} {pattern[:40]!r} is not understood, so that it does not count")
        elif number is not None:
            patterns[pattern] = number
    return patterns


def _number(value: Any, what: str, notes: list[str]) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number) and abs(number) <= ALPHA_LIMIT:
        return number
    wrong = "is far too large" if math.isfinite(number) else "is no number"
    notes.append(f"{what} {str(value)[:40]!r} {wrong}, so that it does not count")
    return None


def _matches(pattern: str, module: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is not None and compiled.fullmatch(module) is not None


def _compiled(pattern: str) -> re.Pattern | None:
    """PEFT's rule: the pattern matches a whole name or the end of one, after a dot. None for what is not understood."""
    if len(pattern) > PATTERN_LIMIT:
        return None
    at, taken, wild = 0, [], 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return None
        wild += token["wild"] is not None
        if token["edge"] is None:
            taken.append(token[0])
        elif (at and token[0] == "^") or (token[0] == "$" and at + 1 < len(pattern)):
            return None
        at = token.end()
    if wild > WILDCARDS_LIMIT:
        return None
    front = "" if pattern.startswith("^") else r"(?:.*\.)?"
    try:
        return re.compile(front + "".join(taken))
    except re.error:
        return None
