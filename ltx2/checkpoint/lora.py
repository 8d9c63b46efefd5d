"""LoRA files: every way their keys are spelled, what of a model they fit, and merging.

A merge makes new tensors for the weights it touches and shares all others. Quantised weights that are kept as stored
get the difference added each time they are dequantised, so nothing is rounded back into the storage format.
"""

import copy
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from ..errors import CheckpointError
from .lazy_tensor import LazyTensor
from .quantization.linear import PackedParameter, QuantizedLinear
from .reader import open_checkpoint

_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "connectors.")
_FLAT_PREFIX = "lora_unet_"  # names whose dots became underscores
_KEY = re.compile(
    r"(?P<module>.+?)\.(?:(?P<down>lora_A|lora_down|lora\.down)|(?P<up>lora_B|lora_up|lora\.up))(?:\.[A-Za-z0-9_-]+)?\.weight"
)
# diffusers' names of whole path segments → official ones
_SEGMENTS = {
    "proj_in": "patchify_proj", "audio_proj_in": "audio_patchify_proj", "time_embed": "adaln_single",
    "audio_time_embed": "audio_adaln_single", "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
    "video_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_video",
    "audio_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_audio", "norm_q": "q_norm", "norm_k": "k_norm",
    "video_connector": "video_embeddings_connector", "audio_connector": "audio_embeddings_connector",
    "text_proj_in": "aggregate_embed",
    "video_text_proj_in": "video_aggregate_embed", "audio_text_proj_in": "audio_aggregate_embed",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class LowRank:
    """A difference up @ down · alpha / rank; up [out, r], down [r, in] (or convolutions), alpha None: the rank."""

    down: LazyTensor
    up: LazyTensor
    alpha: float | None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def fits(self, shape: tuple[int, ...]) -> bool:
        return self.up.shape[0] == shape[0] and math.prod(self.down.shape[1:]) == math.prod(shape[1:])

    @property
    def size(self) -> str:
        return f"{self.up.shape[0]} × {math.prod(self.down.shape[1:])}"

    def host_tensors(self) -> dict[str, torch.Tensor]:
        """Tensors by the suffix under which ComfyUI's own LoRA reader knows them."""
        found = {"lora_up.weight": self.up.load(), "lora_down.weight": self.down.load()}
        return found if self.alpha is None else {**found, "alpha": torch.tensor(self.alpha)}


@dataclass(frozen=True, eq=False)
class Whole:
    """A difference stored in full."""

    difference: LazyTensor

    def fits(self, shape: tuple[int, ...]) -> bool:
        return self.difference.shape == tuple(shape)

    @property
    def size(self) -> str:
        return " × ".join(map(str, self.difference.shape))

    def host_tensors(self) -> dict[str, torch.Tensor]:
        """As of LowRank."""
        return {"diff": self.difference.load()}


Difference = LowRank | Whole


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file. differences: official module name → its difference; biases are under ``module.bias``."""

    path: Path
    differences: Mapping[str, Difference]
    metadata: Mapping[str, str]

    def part(self, prefix: str) -> "Lora":
        """What concerns the modules whose names start with ``prefix``, which is taken off."""
        kept = {
            name[len(prefix) :]: difference for name, difference in self.differences.items() if name.startswith(prefix)
        }
        return Lora(self.path, MappingProxyType(kept), self.metadata)


@dataclass(frozen=True, eq=False)
class LoraMatch:
    """What of a LoRA fits a model: parameter name → difference, and the names in the LoRA that the model does not
    have."""

    matched: Mapping[str, Difference]
    unmatched: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.matched)} of {len(self.matched) + len(self.unmatched)} LoRA weights fit the model"


@dataclass(frozen=True, eq=False)
class Scaled:
    """A difference at a strength."""

    difference: Difference
    strength: float

    def factors(self, device, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """(up [out, r], down [r, in]) or (whole,), the strength multiplied in."""
        found = self.difference
        if isinstance(found, Whole):
            return ((found.difference.load(device, torch.float32) * self.strength).to(dtype),)
        up = found.up.load(device, torch.float32).flatten(1) * (self.strength * found.scale)
        return up.to(dtype), found.down.load(device, dtype).flatten(1)


def read_lora(path: str | os.PathLike) -> Lora:
    """Open a LoRA file; factors are read when they are needed. Raises CheckpointError when it holds none, or kinds that
    are not known."""
    checkpoint = open_checkpoint(path)
    halves: dict[str, dict[str, LazyTensor]] = {}
    alphas: dict[str, LazyTensor] = {}
    differences: dict[str, Difference] = {}
    unknown = []
    for key, tensor in checkpoint.tensors.items():
        match = _KEY.fullmatch(key)
        stem, _, last = key.rpartition(".")
        if match:
            halves.setdefault(official_name(match["module"]), {})["down" if match["down"] else "up"] = tensor
        elif last == "alpha":
            alphas[official_name(stem)] = tensor
        elif last in ("diff", "diff_b"):
            name = official_name(stem)
            differences[f"{name}.bias" if last == "diff_b" else name] = Whole(tensor)
        else:
            unknown.append(key)
    path = checkpoint.paths[0]
    if unknown:
        kinds = f"{len(unknown)} other tensors ({unknown[0]})"
        raise CheckpointError(
            f"{path} holds {kinds}, expected low-rank pairs alone: it is a model or another kind of adapter"
        )
    if not halves and not differences:
        raise CheckpointError(f"{path} holds no LoRA weights, expected lora_A and lora_B pairs: choose a LoRA file")
    for name, pair in halves.items():
        differences[name] = _low_rank(path, name, pair, alphas.get(name))
    return Lora(path, MappingProxyType(differences), checkpoint.metadata)


def _low_rank(path: Path, name: str, pair: Mapping[str, LazyTensor], alpha: LazyTensor | None) -> LowRank:
    down, up = pair.get("down"), pair.get("up")
    if down is None or up is None:
        raise CheckpointError(f"{path} has one half of {name}, expected a pair of factors: the LoRA is incomplete")
    if len(down.shape) < 2 or len(up.shape) < 2 or down.shape[0] != up.shape[1] or not down.shape[0]:
        raise CheckpointError(
            f"{path} has factors {list(up.shape)} and {list(down.shape)} for {name}, whose ranks disagree: it is "
            "damaged"
        )
    if alpha is None:
        return LowRank(down, up, None)
    value = float(alpha.load(mapped=False)) if math.prod(alpha.shape) == 1 else math.nan
    if not math.isfinite(value):
        raise CheckpointError(f"{path} has an alpha of {name} that is no number: the LoRA is damaged")
    return LowRank(down, up, value)


def official_name(name: str) -> str:
    """A module's official bare name from any of the spellings in use."""
    while prefix := next((one for one in _PREFIXES if name.startswith(one)), None):
        name = name.removeprefix(prefix)
    segments = [_SEGMENTS.get(segment, segment) for segment in name.split(".")]
    if segments[0].endswith("_embeddings_connector") and len(segments) > 1 and segments[1] == "transformer_blocks":
        segments[1] = "transformer_1d_blocks"
    return ".".join(segments)


def match_lora(lora: Lora, names: Mapping[str, tuple[int, ...]] | Iterable[str]) -> LoraMatch:
    """Which parameters of a model a LoRA changes. names: the model's parameter names, with their shapes if they are to
    be checked.

    Errors: CheckpointError when nothing fits or a shape differs, since the LoRA is for another model then.
    """
    shapes = names if isinstance(names, Mapping) else dict.fromkeys(names)
    flat = {}
    if any(name.startswith(_FLAT_PREFIX) for name in lora.differences):
        flat = {name.removesuffix(".weight").replace(".", "_"): name.removesuffix(".weight") for name in shapes}
    matched, unmatched = {}, []
    for module, difference in lora.differences.items():
        name = flat.get(module.removeprefix(_FLAT_PREFIX), module) if module.startswith(_FLAT_PREFIX) else module
        target = next((one for one in (f"{name}.weight", name) if one in shapes), None)
        if target is None:
            unmatched.append(module)
        elif shapes[target] is not None and not difference.fits(tuple(shapes[target])):
            size = " × ".join(map(str, shapes[target]))
            raise CheckpointError(
                f"{lora.path} changes {name} of {difference.size}, the model has {size}: use a LoRA for this model"
            )
        else:
            matched[target] = difference
    if not matched:
        first = next(iter(lora.differences), "nothing")
        raise CheckpointError(
            f"{lora.path} fits none of the model's weights (its first is {first}): use a LoRA for this model"
        )
    return LoraMatch(MappingProxyType(matched), tuple(unmatched))


def weight_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's parameters; quantised ones count with the shape of the weight."""
    shapes = {}
    for stem, owner in module.named_modules():
        prefix = f"{stem}." if stem else ""
        if isinstance(owner, QuantizedLinear):
            shapes[f"{prefix}weight"] = (owner.out_features, owner.in_features)
            if owner.bias is not None:
                shapes[f"{prefix}bias"] = tuple(owner.bias.shape)
        elif not isinstance(owner, PackedParameter):
            shapes |= {f"{prefix}{name}": tuple(p.shape) for name, p in owner.named_parameters(recurse=False)}
    return shapes


def merged(weight: torch.Tensor, additions: Sequence[Scaled]) -> torch.Tensor:
    """A weight with differences added, summed in float32, as a new tensor of its dtype."""
    total = weight.to(torch.float32, copy=True)
    for addition in additions:
        factors = addition.factors(weight.device, torch.float32)
        if len(factors) == 1:
            total += factors[0].view(total.shape)
        else:
            total.view(len(total), -1).addmm_(*factors)
    return total.to(weight.dtype)


def merge_loras(module: nn.Module, loras: Sequence[tuple[Lora, float]]) -> nn.Module:
    """A network with LoRAs merged in at their strengths. The given one stays as it is; untouched weights are shared.

    Layers that keep quantised weights get the differences beside them. Errors: as of match_lora, for each LoRA.
    """
    shapes = weight_shapes(module)
    additions: dict[str, list[Scaled]] = {}
    for lora, strength in loras:
        for name, difference in match_lora(lora, shapes).matched.items():
            additions.setdefault(name, []).append(Scaled(difference, strength))
    # parameters of its own over the same memory, so that moving one network leaves the other where it is
    shared = {id(buffer): buffer for buffer in module.buffers()}
    shared |= {id(parameter): nn.Parameter(parameter.data, requires_grad=False) for parameter in module.parameters()}
    result = copy.deepcopy(module, shared)
    for name, scaled in additions.items():
        stem, _, last = name.rpartition(".")
        owner = result.get_submodule(stem)
        if isinstance(owner, QuantizedLinear) and last == "weight":
            dtype = torch.bfloat16 if owner.bias is None else owner.bias.dtype
            parent, _, own = stem.rpartition(".")
            device = owner.weight.device
            setattr(
                result.get_submodule(parent),
                own,
                owner.with_differences([one.factors(device, dtype) for one in scaled]),
            )
        else:
            holder = owner.parts["weight"] if isinstance(owner, QuantizedLinear) else owner
            setattr(holder, last, nn.Parameter(merged(getattr(holder, last), scaled), requires_grad=False))
    return result
