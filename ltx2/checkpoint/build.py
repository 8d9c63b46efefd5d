"""Networks from tensors: built without memory on the meta device, then given the file's tensors one by one."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn

from ..errors import CheckpointError, RequestError
from .layout import Component
from .lora import Lora, Scaled, match_lora, merged
from .quantization.linear import QuantizedLinear
from .quantization.packed import QuantizedTensor

QUANTIZED_MODES = ("dequantize", "on_use")
NAMES_SHOWN = 3


def build(
    factory: Callable[[], nn.Module],
    component: Component,
    *,
    dtype: torch.dtype | None = None,
    device="cpu",
    quantized: str = "dequantize",
    loras: Sequence[tuple[Lora, float]] = (),
    like: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """A network with a component's weights, in eval mode and without gradients.

    dtype: of all floating-point weights; None: as stored (quantised ones: bfloat16). quantized: ``dequantize`` at load,
    or ``on_use``: linear layers keep the stored form and dequantise while they run. loras: (LoRA, strength) pairs to
    merge in.
    like: makes the same network of torch's own layers, where those of ``factory`` have no tensors before they are
    loaded.

    In its own dtype on the CPU a weight is a view of the mapped file. Errors: CheckpointError when tensors are missing,
    left over or of another shape, with counts and the first names; RequestError for an unknown mode.
    """
    if quantized not in QUANTIZED_MODES:
        raise RequestError(f"quantized is {quantized!r}, expected one of {', '.join(QUANTIZED_MODES)}")
    with torch.device("meta"):
        module = factory()
        expected = (like() if like is not None else module).state_dict(keep_vars=True)
    check_names(component, expected)
    additions = _additions(loras, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    packed: set[str] = set()
    for name, wanted in expected.items():
        tensor = component.tensors[name]
        stem, _, last = name.rpartition(".")
        owner = module.get_submodule(stem)
        if (
            quantized == "on_use"
            and last == "weight"
            and isinstance(tensor, QuantizedTensor)
            and _is_linear(owner, tensor)
        ):
            packed.add(stem)
            continue
        value = tensor.load(device, dtype)
        if name in additions:
            value = merged(value, additions[name])
        setattr(owner, last, nn.Parameter(value, requires_grad=False) if isinstance(wanted, nn.Parameter) else value)
    for stem in packed:
        linear = module.get_submodule(stem)
        kept = [scaled.factors(device, dtype or torch.bfloat16) for scaled in additions.get(f"{stem}.weight", ())]
        replacement = QuantizedLinear(component.tensors[f"{stem}.weight"].pack(device), linear.bias, kept)
        parent, _, last = stem.rpartition(".")
        setattr(module.get_submodule(parent), last, replacement)
    return module.eval().requires_grad_(False)


def check_names(component: Component, expected: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless a component has exactly the expected tensors."""
    missing = [name for name in expected if name not in component.tensors]
    unexpected = [name for name in component.tensors if name not in expected]
    if missing or unexpected:
        found = " and ".join(
            f"{len(names)} {what} tensors ({_first(names)})"
            for names, what in ((missing, "missing"), (unexpected, "unexpected"))
            if names
        )
        raise CheckpointError(
            f"{component} has {found}, expected {len(expected)}: the file is incomplete or for another version"
        )
    wrong = [name for name, tensor in expected.items() if tuple(component.tensors[name].shape) != tuple(tensor.shape)]
    if wrong:
        name = wrong[0]
        shapes = f"{name} is {list(component.tensors[name].shape)}, expected {list(expected[name].shape)}"
        raise CheckpointError(
            f"{component} has {len(wrong)} tensors of another shape ({shapes}): the file's metadata and weights "
            "disagree"
        )


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")


def _is_linear(owner: nn.Module, tensor: QuantizedTensor) -> bool:
    shape = getattr(owner, "out_features", None), getattr(owner, "in_features", None)
    return shape == tuple(tensor.shape)


def _additions(loras: Sequence[tuple[Lora, float]], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[Scaled]]:
    additions: dict[str, list[Scaled]] = {}
    for lora, strength in loras:
        for name, difference in match_lora(lora, shapes).matched.items():
            additions.setdefault(name, []).append(Scaled(difference, strength))
    return additions
