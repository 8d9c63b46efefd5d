"""Quantisations of other programs, told by the names of their tensors: named, not read."""

from collections.abc import Container, Iterable
from pathlib import Path

from ...errors import CheckpointError

# Name → what a layer's tensors are called there, after the layer's name; the first match counts.
_SIGNATURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("bitsandbytes nf4", (".weight.quant_state.bitsandbytes__nf4",)),
    ("bitsandbytes fp4", (".weight.quant_state.bitsandbytes__fp4",)),
    ("bitsandbytes four-bit", (".weight.absmax", ".weight.quant_map")),
    ("bitsandbytes int8", (".SCB",)),
    ("SVDQuant (nunchaku)", (".qweight", ".wscales")),
    ("SVDQuant (nunchaku)", (".qweight", ".smooth_factor")),
    ("SVDQuant (nunchaku)", (".qweight", ".smooth")),
    ("GPTQ", (".qweight", ".g_idx")),
    ("AWQ", (".qweight", ".qzeros")),
    ("AWQ (nunchaku)", (".qweight", ".wzeros")),
    ("EETQ", (".qweight", ".weight_scales")),
    ("an unknown quantiser", (".qweight",)),
    ("HQQ", (".W_q",)),
    ("Quanto", (".weight._data",)),
    ("TorchAO", (".weight_qdata",)),
    ("TorchAO", ("._weight_qdata",)),
    ("compressed-tensors", (".weight_packed",)),
    ("AQLM", (".codebooks", ".codes")),
    ("QuIP#", (".Qidxs",)),
)
_MARKS = tuple({first for _, (first, *_) in _SIGNATURES})  # a plain model has thousands of names, and none of these
INSTEAD = "use the bf16, fp8 or GGUF file"


# What quantisers call what they put beside a weight; part of its last name.
_WORDS = ("scale", "zero", "absmax", "quant", "codebook", "lut", "svd_", "_qmap", "perm", "lowrank", "outlier")


def looks_quantized(names: Iterable[str], expected: Container[str]) -> str | None:
    """The first of tensors that nobody expects which looks like what an unknown quantiser puts beside a layer's weight;
    None when there is none."""
    for name in names:
        parts = name.split(".")
        stems = (".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1))
        layer = next((stem for stem in stems if f"{stem}.weight" in expected), None)
        if layer is not None and any(word in name[len(layer) :].lower() for word in _WORDS):
            return name
    return None


def foreign_quantization(names: Iterable[str]) -> tuple[str, str] | None:
    """What program quantised a file, and the first tensor that says so; None when none of those known did."""
    present = set(names)
    marked = [name for name in present if name.endswith(_MARKS)]
    for what, (first, *others) in _SIGNATURES:
        for name in marked:
            if name.endswith(first) and all(f"{name.removesuffix(first)}{other}" in present for other in others):
                return what, name
    return None


def check_foreign(names: Iterable[str], path: Path) -> None:
    """Raise CheckpointError for a file that another program quantised, with what to use instead."""
    found = foreign_quantization(names)
    if found is not None:
        what, name = found
        raise CheckpointError(f"{path} is quantised by {what} ({name}), which is not read here: {INSTEAD}")
