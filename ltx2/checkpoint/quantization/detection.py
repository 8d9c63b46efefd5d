"""Quantised weights in safetensors files: the weight and the tensors beside it, found and folded into one.

What the formats are is said in ``formats/``, one a file. A layer is described by a ``comfy_quant`` tensor or by the
file's ``_quantization_metadata``, or recognised by what is stored. Scales for quantised inputs are dropped: inputs are
never quantised here.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from .foreign import check_foreign
from .formats import FORMATS
from .formats.fp8 import KINDS as FP8
from .packed import QuantizedTensor
from .stored import StoredFormat, StoredWeight

DESCRIPTION_LIMIT_BYTES = 4_096
FP8_STORED = tuple(FP8.values())
BY_KIND: dict[str, StoredFormat] = {kind: one for one in FORMATS for kind in one.kinds}
# What may stand beside ``layer.weight``, by its part in the format; None: not needed.
COMPANIONS: dict[str, str | None] = {
    "pre_quant_scale": "column_scale", "input_scale": None, "scale_input": None, "comfy_quant": None,
} | {name: part for one in FORMATS for name, part in one.companions.items()}  # fmt: skip
_MARKER = "scaled_fp8"
_PREFIX = "model.diffusion_model."


def fold_quantized(
    tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str], path: Path
) -> dict[str, LazyTensor | QuantizedTensor]:
    """Replace quantised weights, scales and descriptions by QuantizedTensors. Raises CheckpointError for a format that
    is not known."""
    check_foreign(tensors, path)
    taken: set[str] = set()
    folded: dict[str, QuantizedTensor] = {}
    for weight, names in _stored_weights(tensors, _described(metadata, path), path):
        folded[weight.name] = read_weight(weight)
        taken.update(names)
    taken.update(name for name in tensors if name.rpartition(".")[2] == _MARKER)
    return {name: folded.get(name, tensor) for name, tensor in tensors.items() if name not in taken}


def read_weight(weight: StoredWeight) -> QuantizedTensor:
    """A weight by its description, or by what it is recognised as. Raises CheckpointError for another format."""
    kind = weight.about.get("format") or weight.about.get("fmt")
    if kind is None:
        kind = next((found for one in FORMATS if (found := one.recognise(weight)) is not None), None)
    if not isinstance(kind, str) or kind not in BY_KIND:
        unknown = f"dtype {weight.tensor.stored} and {', '.join(weight.beside) or 'no scale'}"
        raise weight.refuse(f"quantisation {str(kind)[:40]!r}" if kind else unknown, f"one of {', '.join(BY_KIND)}")
    stored = BY_KIND[kind].kinds[kind]
    if weight.tensor.stored != stored:
        raise weight.refuse(f"format {kind} in {weight.tensor.stored}", f"{kind} in {stored}")
    return BY_KIND[kind].read(weight, kind)


def _stored_weights(
    tensors: Mapping[str, LazyTensor], described: Mapping[str, dict], path: Path
) -> Iterator[tuple[StoredWeight, list[str]]]:
    """Every weight that is more than its numbers, and the names of the tensors that stand beside it."""
    for name, tensor in tensors.items():
        last = name.rpartition(".")[2]
        if last == "weight":
            stem = name.removesuffix("weight")
            there = {key: tensors[stem + key] for key in COMPANIONS if stem + key in tensors}
            about = _description(there.get("comfy_quant"), described.get(stem.removesuffix(".")), path)
            if there or about or tensor.stored in FP8_STORED:
                beside = {part: there[key] for key, part in COMPANIONS.items() if part and key in there}
                if len(beside) < sum(bool(COMPANIONS[key]) for key in there):
                    raise CheckpointError(
                        f"{path} has scales of {name} under two names ({', '.join(there)}): get the file again"
                    )
                yield StoredWeight(name, tensor, beside, about), [stem + key for key in there]
        elif last.endswith("bias") and tensor.stored in FP8_STORED:
            scale = tensors.get(f"{name}_scale")
            yield StoredWeight(name, tensor, {} if scale is None else {"scale": scale}), [f"{name}_scale"]
        elif tensor.stored in FP8_STORED and last not in {*COMPANIONS, _MARKER}:
            yield StoredWeight(name, tensor), []


def _described(metadata: Mapping[str, str], path: Path) -> dict[str, dict]:
    """Layer name → description from the metadata; names count with and without the transformer's prefix."""
    text = metadata.get("_quantization_metadata")
    if text is None:
        return {}
    layers = _json(text, "_quantization_metadata", path).get("layers", {})
    if isinstance(layers, dict):  # a layer may be described by the name of its format alone
        layers = {name: {"format": about} if isinstance(about, str) else about for name, about in layers.items()}
    if not isinstance(layers, dict) or not all(isinstance(about, dict) for about in layers.values()):
        raise CheckpointError(f"{path} has _quantization_metadata without a table of layers: get the file again")
    return {**{f"{_PREFIX}{name}": about for name, about in layers.items()}, **layers}


def _description(tensor: LazyTensor | None, described: dict | None, path: Path) -> dict:
    if tensor is None:
        return described or {}
    if tensor.nbytes > DESCRIPTION_LIMIT_BYTES:
        raise CheckpointError(
            f"{path} has {tensor.name} of {tensor.nbytes} bytes, expected at most {DESCRIPTION_LIMIT_BYTES}: "
            "get the file again"
        )
    raw = bytes(tensor.load(mapped=False).flatten().view(torch.uint8).numpy())
    return _json(raw.decode("utf-8", "replace"), tensor.name, path)


def _json(text: str, what: str, path: Path) -> dict:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} has {what} {text[:40]!r}, expected a JSON object: get the file again")
    return found
