"""LoRA files and other adapters: every way their keys are spelled, what of a model they fit, and merging.

A merge makes new tensors for the weights it touches and shares all others. Quantised weights that are kept as stored
are changed each time they are dequantised, so nothing is rounded back into the storage format. Several adapters of one
weight change it one after the other.
"""

import copy
import functools
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from torch import nn

from ..errors import CheckpointError
from .adapters import dora
from .adapters.difference import Difference, LoadedDifference, Scaled, check_finite
from .adapters.kinds import KINDS
from .adapters.names import TEXT_ENCODER, official_name
from .adapters.peft_config import PeftConfigs, read_peft_config
from .adapters.stored import AdapterKind, Alpha, StoredModule
from .adapters.unread import INSTEAD, unread_kind
from .lazy_tensor import LazyTensor
from .quantization.linear import PackedParameter, QuantizedLinear
from .quantization.packed import QuantizedTensor
from .reader import open_checkpoint
from .recognition.damage import places_of
from .recognition.holes import check_places
from .weight_file import first_names, shown

__all__ = [
    "Difference",
    "LoadedDifference",
    "Lora",
    "LoraMatch",
    "Scaled",
    "TEXT_ENCODER",
    "adapter_part",
    "check_lora",
    "match_lora",
    "merge_loras",
    "merged",
    "official_name",
    "read_lora",
    "weight_shapes",
]

_ALPHA = "alpha"
_WHOLE_NUMBERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_ENDINGS = {
    **{ending: (part, kind) for kind in KINDS for ending, part in kind.endings.items()},
    **{ending: (part, None) for ending, part in dora.ENDINGS.items()},
    _ALPHA: (_ALPHA, None),
}
_PATTERNS = tuple((re.compile(rf"(?P<module>.+?)\.{ending}"), found) for ending, found in _ENDINGS.items())
# The end of the keys, under which an IC-LoRA says how much smaller or slower its reference is.
_REFERENCE_NAME = re.compile(r"(?<![a-z])ic[-_ ]?lora", re.IGNORECASE)
_VOICE_NAME = re.compile(r"(?<![a-z])id[-_ ]?lora|dub[-_ ]?it(?![a-z])|lip[-_ ]?dub", re.IGNORECASE)
# Under which trainers keep what a file is called.
_TITLE_KEYS = ("modelspec.title", "ss_output_name", "name")
_REFERENCE_KEYS = {"downscale": "reference_downscale_factor", "temporal": "reference_temporal_scale_factor"}


@dataclass(frozen=True)
class Reference:
    """What an IC-LoRA expects of its reference video: size divided by ``downscale``, frame rate by ``temporal``."""

    downscale: int = 1
    temporal: int = 1

    def __str__(self) -> str:
        rate = "" if self.temporal == 1 else f", frame rate divided by {self.temporal}"
        return f"reference video at the size divided by {self.downscale}{rate}"


@dataclass(frozen=True, eq=False)
class Lora:
    """An adapter file. differences: official module name → its difference; biases are under ``module.bias``.

    reference: of an IC-LoRA, None for others; notes: on what in the file could not be used.
    """

    path: Path
    differences: Mapping[str, Difference]
    metadata: Mapping[str, str]
    reference: Reference | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the file is called: its name, and titles in its metadata."""
        return self.path.name, *(self.metadata[key] for key in _TITLE_KEYS if key in self.metadata)

    @property
    def takes_voice(self) -> bool:
        """Whether it is an ID-LoRA, or one that dubs, which take up a reference voice: told by its names alone."""
        return any(_VOICE_NAME.search(name) for name in self.names)

    @property
    def kinds(self) -> dict[str, int]:
        """How many differences of each kind, the most first."""
        return dict(Counter(found.kind.name for found in self.differences.values()).most_common())

    def part(self, prefix: str) -> "Lora":
        """What concerns the modules whose names start with ``prefix``, which is taken off."""
        kept = {
            name[len(prefix) :]: difference for name, difference in self.differences.items() if name.startswith(prefix)
        }
        return replace(self, differences=MappingProxyType(kept))


@dataclass(frozen=True, eq=False)
class LoraMatch:
    """What of a LoRA fits a model: parameter name → difference, and the names in the LoRA that the model does not
    have."""

    matched: Mapping[str, Difference]
    unmatched: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.matched) + len(self.unmatched)
        left = f"; not in the model: {first_names(self.unmatched)}" if self.unmatched else ""
        return f"{len(self.matched)} of {total} LoRA weights fit the model{left}"


# ---------------------------------------------------------------------------------------------------------------
# Reading


def read_lora(path: str | os.PathLike) -> Lora:
    """Open an adapter file; factors are read when they are needed. Raises CheckpointError when it holds none, or kinds
    that are not known."""
    checkpoint = open_checkpoint(path)
    path = checkpoint.paths[0]
    config = read_peft_config(path, checkpoint.metadata)
    differences: dict[str, Difference] = {}
    for name, (spelled, parts, kinds) in _modules(path, cast(Mapping[str, AdapterTensor], checkpoint.tensors)).items():
        if len(kinds) > 1:
            names = " and ".join(sorted(kind.name for kind in kinds))
            raise CheckpointError(f"{path} has {names} for {name}, expected one kind: the file is damaged")
        if not kinds:
            continue  # an alpha of nothing
        alpha = _alpha(parts.get(_ALPHA), config, spelled)
        module = StoredModule(path, name, parts, alpha, config.others_of(spelled))
        for target, difference in kinds.pop().read(module).items():
            differences[f"{name}{target}"] = difference if target else dora.decomposed(module, difference)
    if not differences:
        raise CheckpointError(f"{path} holds no LoRA weights, expected lora_A and lora_B pairs: choose a LoRA file")
    reference, notes = _reference(path, checkpoint.metadata)
    still = sum(found.scale == 0 for found in differences.values())
    if still:
        notes += (f"the alpha of {still} of its {len(differences)} weights is 0, so that they change nothing",)
    notes = tuple(f"{path.name}: {note}" for note in (*config.notes, *notes))
    return Lora(path, MappingProxyType(differences), checkpoint.metadata, reference, notes)


@functools.lru_cache(maxsize=1 << 14)  # the keys of one file, which is opened for every run
def adapter_part(key: str) -> tuple[str, str, AdapterKind | None] | None:
    """Module, part and kind (None: of any) of an adapter's key, or None for one that is none."""
    return next(((m["module"], *what) for pattern, what in _PATTERNS if (m := pattern.fullmatch(key))), None)


AdapterTensor = LazyTensor | QuantizedTensor
Modules = dict[str, tuple[str, dict[str, AdapterTensor], set[AdapterKind]]]


def _modules(path: Path, tensors: Mapping[str, AdapterTensor]) -> Modules:
    """Official module name → its name in the file, its tensors by part, and the kinds that they are of."""
    modules: Modules = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        found = adapter_part(key)
        if found is None:
            unknown.append(key)
            continue
        spelled, part, kind = found
        # PyTorch writes an alpha that was given as a whole number as one
        if not tensor.dtype.is_floating_point and (part != _ALPHA or tensor.dtype not in _WHOLE_NUMBERS):
            raise CheckpointError(
                f"{path} holds {key} of {tensor.stored}, expected floating-point numbers: the LoRA is damaged or "
                "quantised in a way that is not read here"
            )
        _, parts, kinds = modules.setdefault(official_name(spelled), (spelled, {}, set()))
        if part in parts:
            raise CheckpointError(f"{path} names {part} of {official_name(spelled)} twice ({key}): it is damaged")
        parts[part] = tensor
        kinds |= {kind} if kind is not None else set()
    if unknown:
        what = next(filter(None, map(unread_kind, unknown)), None)
        if what is not None:
            known = ", ".join(kind.name for kind in KINDS)
            raise CheckpointError(f"{path} holds {what}, expected one of {known}: {INSTEAD}")
        others = f"{len(unknown)} other tensors ({shown(unknown[0])})"
        raise CheckpointError(
            f"{path} holds {others}, expected low-rank pairs alone: it is a model or another kind of adapter"
        )
    return modules


def _alpha(stored: AdapterTensor | None, config: PeftConfigs, spelled: str) -> Alpha:
    """A stored alpha wins over what the metadata says."""
    if stored is None:
        return config.alpha_of(spelled)
    return Alpha(float(stored.load(dtype=torch.float32, mapped=False)) if math.prod(stored.shape) == 1 else math.nan)


def _reference(path: Path, metadata: Mapping[str, str]) -> tuple[Reference | None, tuple[str, ...]]:
    """What a file says of its reference video: any key that ends so counts; fractions are rounded."""
    factors, notes = {}, []
    for field, ending in _REFERENCE_KEYS.items():
        for key, text in metadata.items():
            if not key.endswith(ending):
                continue
            try:
                factor = round(float(text))
            except (ValueError, OverflowError):
                factor = 0
            if 1 <= factor <= 64:
                factors[field] = factor
            else:
                notes.append(f"{ending} {text[:20]!r} is no factor, so that it does not count")
    # released ones with factors of 1 say it nowhere but in their name
    named = _REFERENCE_NAME.search(path.name) is not None
    return (Reference(**factors) if factors or named else None), tuple(notes)


def check_lora(lora: Lora) -> None:
    """Read all numbers of an adapter once. Raises CheckpointError for those that are not finite, and for holes."""
    for difference in lora.differences.values():
        for part in difference.parts.values():
            check_places(places_of(part.name, part))
            check_finite(part.load(), part)


# ---------------------------------------------------------------------------------------------------------------
# Matching


def match_lora(lora: Lora, names: Mapping[str, tuple[int, ...]] | Iterable[str]) -> LoraMatch:
    """Which parameters of a model a LoRA changes. names: the model's parameter names, with their shapes if they are to
    be checked.

    Errors: CheckpointError when nothing fits or a shape differs, since the LoRA is for another model then.
    """
    match = fitting(lora, names)
    if not match.matched:
        first = next(iter(lora.differences), "nothing")
        raise CheckpointError(
            f"{lora.path} fits none of the model's weights (its first is {shown(first)}): use a LoRA for this model"
        )
    return match


def fitting(lora: Lora, names: Mapping[str, tuple[int, ...]] | Iterable[str], *, any_shape: bool = False) -> LoraMatch:
    """As :func:`match_lora`, for networks that a LoRA need not say anything about. any_shape: weights of another shape
    are passed over as well."""
    shapes = names if isinstance(names, Mapping) else dict.fromkeys(names)
    matched, unmatched = {}, []
    for module, difference in lora.differences.items():
        target = next((one for one in (f"{module}.weight", module) if one in shapes), None)
        fits = target is not None and (shapes[target] is None or difference.fits(tuple(shapes[target])))
        if target is None or (any_shape and not fits):
            unmatched.append(module)
        elif not fits:
            found, size = (" × ".join(map(str, s)) for s in (difference.weight_shape(shapes[target]), shapes[target]))
            raise CheckpointError(
                f"{lora.path} changes {module} of {found}, the model has {size}: use a LoRA for this model"
            )
        else:
            matched[target] = difference
    return LoraMatch(MappingProxyType(matched), tuple(unmatched))


def only_fitting(lora: Lora, shapes: Mapping[str, tuple[int, ...]]) -> Lora:
    """A LoRA less what these weights cannot take, for a network that need not be the one that it was made with."""
    left = set(fitting(lora, shapes, any_shape=True).unmatched)
    kept = {name: difference for name, difference in lora.differences.items() if name not in left}
    return replace(lora, differences=MappingProxyType(kept))


def differences_for(
    loras: Sequence[tuple[Lora, float]], shapes: Mapping[str, tuple[int, ...]], *, needed: bool = False
) -> dict[str, list[Scaled]]:
    """Parameter name → what LoRAs at strengths do to it, in order. needed: each has to fit some weight."""
    found: dict[str, list[Scaled]] = {}
    for lora, strength in loras:
        match = match_lora(lora, shapes) if needed else fitting(lora, shapes)
        for name, difference in match.matched.items():
            found.setdefault(name, []).append(Scaled(difference, strength))
    return found


def weight_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's parameters; quantised ones count with the shape of the weight."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stem, owner in module.named_modules():
        prefix = f"{stem}." if stem else ""
        if isinstance(owner, QuantizedLinear):
            shapes[f"{prefix}weight"] = (owner.out_features, owner.in_features)
            if owner.bias is not None:
                shapes[f"{prefix}bias"] = tuple(owner.bias.shape)
        elif not isinstance(owner, PackedParameter):
            shapes |= {f"{prefix}{name}": tuple(p.shape) for name, p in owner.named_parameters(recurse=False)}
    return shapes


# ---------------------------------------------------------------------------------------------------------------
# Merging


def merged(weight: torch.Tensor, additions: Sequence[Scaled]) -> torch.Tensor:
    """A weight changed by differences one after the other, in float32, as a new tensor of its dtype."""
    total = weight.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    for addition in additions:
        addition.load(weight.device, torch.float32).apply(total)
    return total.to(weight.dtype)


def merge_loras(module: nn.Module, loras: Sequence[tuple[Lora, float]]) -> nn.Module:
    """A network with LoRAs merged in at their strengths. The given one stays as it is; untouched weights are shared.

    Layers that keep quantised weights get the differences beside them. Errors: as of match_lora, for each LoRA.
    """
    additions = differences_for(loras, weight_shapes(module), needed=True)
    # parameters of its own over the same memory, so that moving one network leaves the other where it is
    shared = {id(buffer): buffer for buffer in module.buffers()}
    shared |= {id(parameter): nn.Parameter(parameter.data, requires_grad=False) for parameter in module.parameters()}
    result = copy.deepcopy(module, shared)
    for name, scaled in additions.items():
        stem, _, last = name.rpartition(".")
        owner = result.get_submodule(stem)
        if isinstance(owner, QuantizedLinear) and last == "weight":
            parent, _, own = stem.rpartition(".")
            more = [one.load(owner.weight.device, owner.compute_dtype) for one in scaled]
            setattr(result.get_submodule(parent), own, owner.with_differences(more))
        else:
            holder = owner.parts["weight"] if isinstance(owner, QuantizedLinear) else owner
            setattr(holder, last, nn.Parameter(merged(getattr(holder, last), scaled), requires_grad=False))
    return result
