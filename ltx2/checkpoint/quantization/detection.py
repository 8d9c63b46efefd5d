"""Quantised weights in safetensors files: the weight and the tensors beside it, found and folded into one.

Known are plain fp8, fp8 with scales under both spellings (``weight_scale``; ``scale_weight`` with the ``scaled_fp8``
marker), and what ``comfy_quant`` tensors or ``_quantization_metadata`` describe: fp8, nvfp4 and int8 with or without
rotation. Scales for quantised inputs are dropped: inputs are never quantised here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from .convrot import is_group_size
from .formats import Format, Fp8, Int8, Nvfp4, dequantize
from .nvfp4 import GROUP, tiled_size

DESCRIPTION_LIMIT_BYTES = 4_096
FP8_STORED = ("F8_E4M3", "F8_E5M2")
_FORMATS = ("float8_e4m3fn", "float8_e5m2", "nvfp4", "int8_tensorwise")
# What may stand beside ``layer.weight``, by its part in the format; None: not needed.
_COMPANIONS = {
    "weight_scale": "scale", "scale_weight": "scale", "weight_scale_2": "tensor_scale",
    "pre_quant_scale": "column_scale",
    "input_scale": None, "scale_input": None, "comfy_quant": None,
}  # fmt: skip
_MARKER = "scaled_fp8"
_PREFIX = "model.diffusion_model."


@dataclass(frozen=True)
class PackedWeight:
    """A weight in its storage format, loaded. parts: see :mod:`.formats`."""

    form: Format
    shape: tuple[int, ...]
    parts: Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A quantised weight that is still in its file, under the name and shape of the weight. Loads as bfloat16 if not
    told otherwise."""

    name: str
    shape: tuple[int, ...]
    form: Format
    parts: Mapping[str, LazyTensor]
    dtype: torch.dtype = torch.bfloat16

    @property
    def path(self) -> Path:
        return self.parts["weight"].path

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())

    @property
    def stored(self) -> str:
        return self.form.name

    def load(self, device="cpu", dtype: torch.dtype | None = None) -> torch.Tensor:
        """The weight, dequantised on ``device``. Errors: as of LazyTensor."""
        out = torch.empty(self.shape, dtype=dtype or self.dtype, device=device)
        return dequantize(self.form, {name: part.load(device, mapped=False) for name, part in self.parts.items()}, out)

    def pack(self, device="cpu") -> PackedWeight:
        """The weight as it is stored."""
        return PackedWeight(self.form, self.shape, {name: part.load(device) for name, part in self.parts.items()})


def fold_quantized(
    tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str], path: Path
) -> dict[str, LazyTensor | QuantizedTensor]:
    """Replace quantised weights, scales and descriptions by QuantizedTensors. Raises CheckpointError for a format that
    is not known."""
    described = _described(metadata, path)
    taken: set[str] = set()
    folded: dict[str, QuantizedTensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".weight") or name == "weight":
            stem = name.removesuffix("weight")
            companions = {key: tensors[stem + key] for key in _COMPANIONS if stem + key in tensors}
            about = _description(companions.get("comfy_quant"), described.get(stem.removesuffix(".")), path)
            if companions or about or tensor.stored in FP8_STORED:
                parts = {_COMPANIONS[key]: part for key, part in companions.items() if _COMPANIONS[key]}
                folded[name] = _weight(name, tensor, parts, about)
                taken.update(part.name for part in companions.values())
        elif name.endswith("bias") and tensor.stored in FP8_STORED:
            scale = tensors.get(f"{name}_scale")
            folded[name] = _weight(name, tensor, {} if scale is None else {"scale": scale}, {})
            taken.add(f"{name}_scale")
        elif tensor.stored in FP8_STORED and name.rpartition(".")[2] not in {*_COMPANIONS, _MARKER}:
            folded[name] = _weight(name, tensor, {}, {})
        elif name.rpartition(".")[2] == _MARKER:
            taken.add(name)
    return {name: folded.get(name, tensor) for name, tensor in tensors.items() if name not in taken}


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


def _weight(name: str, tensor: LazyTensor, parts: dict[str, LazyTensor], about: dict) -> QuantizedTensor:
    def fail(found: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{tensor.path} stores {name} with {found}, expected {expected}: use the bf16, fp8 or GGUF file"
        )

    kind = about.get("format") or about.get("fmt") or _guess(tensor, parts)
    if kind not in _FORMATS:
        raise fail(
            f"quantisation {str(kind)[:40]!r}"
            if kind
            else f"dtype {tensor.stored} and {', '.join(parts) or 'no scale'}",
            f"one of {', '.join(_FORMATS)}",
        )
    stored = {"float8_e4m3fn": ("F8_E4M3",), "float8_e5m2": ("F8_E5M2",), "nvfp4": ("U8",), "int8_tensorwise": ("I8",)}[
        kind
    ]
    if tensor.stored not in stored:
        raise fail(f"format {kind} in {tensor.stored}", f"{kind} in {stored[0]}")
    shape = tensor.shape
    rows = shape[0] if shape else 1
    column = parts.get("column_scale")
    if column is not None and (
        len(shape) != 2 or math.prod(column.shape) != (shape[1] * 2 if kind == "nvfp4" else shape[1])
    ):
        raise fail(f"pre_quant_scale {list(column.shape)}", "one number a column")
    scale = parts.get("scale")
    kept = {"weight": tensor} | {key: parts[key] for key in ("scale", "column_scale") if key in parts}
    if kind == "nvfp4":
        return _nvfp4(name, tensor, kept, parts, fail)
    if scale is not None and math.prod(scale.shape) not in (1, rows):
        raise fail(f"scales {list(scale.shape)}", f"1 or {rows}")
    if kind != "int8_tensorwise":
        return QuantizedTensor(name, shape, Fp8(tensor.stored), kept)
    if scale is None or len(shape) != 2:
        raise fail(f"int8 of shape {list(shape)} and {'no ' if scale is None else ''}scale", "a matrix and its scale")
    return QuantizedTensor(name, shape, Int8(_rotated(about, shape, fail)), kept)


def _guess(tensor: LazyTensor, parts: Mapping[str, LazyTensor]) -> str | None:
    """The format of a weight that nothing describes."""
    if tensor.stored in FP8_STORED:
        return {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}[tensor.stored]
    if tensor.stored == "U8" and "tensor_scale" in parts:
        return "nvfp4"
    return "int8_tensorwise" if tensor.stored == "I8" and "scale" in parts else None


def _nvfp4(name: str, tensor: LazyTensor, kept: dict, parts: Mapping[str, LazyTensor], fail) -> QuantizedTensor:
    scale, tensor_scale = parts.get("scale"), parts.get("tensor_scale")
    if len(tensor.shape) != 2 or tensor.shape[1] * 2 % GROUP:
        raise fail(f"nvfp4 of shape {list(tensor.shape)}", f"a matrix whose columns are {GROUP // 2} bytes a group")
    rows, columns = tensor.shape[0], tensor.shape[1] * 2
    tiled = tiled_size(rows, columns // GROUP)
    if scale is None or scale.stored not in ("F8_E4M3", "U8") or math.prod(scale.shape) != tiled:
        found = "no weight_scale" if scale is None else f"weight_scale {scale.stored} {list(scale.shape)}"
        raise fail(found, f"{tiled} scales of F8_E4M3")
    if tensor_scale is None or math.prod(tensor_scale.shape) != 1:
        raise fail("no single weight_scale_2", "one number")
    return QuantizedTensor(name, (rows, columns), Nvfp4(), {**kept, "tensor_scale": tensor_scale})


def _rotated(about: dict, shape: tuple[int, ...], fail) -> int | None:
    settings = {**(about["params"] if isinstance(about.get("params"), dict) else {}), **about}
    if not settings.get("convrot"):
        return None
    size = settings.get("convrot_groupsize", 256)
    if type(size) is not int or not is_group_size(size) or shape[1] % size:
        raise fail(f"rotated groups of {str(size)[:20]} in {shape[1]} columns", "a power of four that divides them")
    return size
