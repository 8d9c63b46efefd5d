"""Networks from tensors: built without memory on the meta device, then given the file's tensors one by one."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import nn

from ..errors import CheckpointError, RequestError, is_out_of_memory
from ..networks.layers.ops import TORCH_OPS, UNSET_OPS, Ops
from .adapters.difference import Scaled
from .layout import Component
from .lazy_tensor import LazyTensor
from .lora import Lora, differences_for, merged
from .quantization.foreign import INSTEAD, looks_quantized
from .quantization.linear import QuantizedLinear
from .quantization.packed import FileTensor, QuantizedTensor, without_outer_ones
from .recognition.damage import check_loaded
from .weight_file import first_names, shown

QUANTIZED_MODES = ("dequantize", "on_use")
LONGEST_REASON = 300  # characters of an error that metadata caused
_UNBUILDABLE = (TypeError, ValueError, RuntimeError, ZeroDivisionError, IndexError)

Kind = TypeVar("Kind", bound=nn.Module)


@dataclass(frozen=True)
class LoadOptions:
    """How a network is loaded.

    dtype: of all floating-point weights; None: as stored (quantised ones: bfloat16). ops: the layer set it is built of.
    quantized: ``dequantize`` at load, or ``on_use``: linear layers keep the stored form and dequantise while they run.
    loras: (LoRA, strength) pairs to merge in. Raises RequestError for an unknown mode, a dtype that is none, or a
    device that there is not.
    """

    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"
    ops: Ops = TORCH_OPS
    quantized: str = "dequantize"
    loras: Sequence[tuple[Lora, float]] = ()

    def __post_init__(self):
        if self.quantized not in QUANTIZED_MODES:
            raise RequestError(f"quantized is {self.quantized!r}, expected one of {', '.join(QUANTIZED_MODES)}")
        check_dtype(self.dtype)
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            raise RequestError(f"device is {self.device!r}, expected one such as 'cpu' or 'cuda:0'") from error


def check_dtype(dtype: torch.dtype | None, name: str = "dtype") -> None:
    """Raise RequestError for what is no floating-point dtype of torch, such as the name of one."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise RequestError(f"{name} is {dtype!r}, expected a floating-point torch.dtype such as torch.bfloat16")


def build(make: Callable[[Ops], Kind], component: Component, options: LoadOptions = LoadOptions()) -> Kind:  # noqa: B008 (frozen)
    """A network with a component's weights, in eval mode and without gradients.

    make: the network of a layer set, on the meta device. In its own dtype on the CPU a weight is a view of the mapped
    file. Errors: CheckpointError when tensors are missing, left over or of another shape, with counts and the first
    names, and when ``make`` cannot build what the metadata says.
    """
    with _no_collections():
        return _built(make, component, options)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Garbage collection waits, where it is on: thousands of new objects that are all in use set it off again and
    again, and each time it finds nothing in everything that was ever imported."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _built(make: Callable[[Ops], Kind], component: Component, options: LoadOptions) -> Kind:
    empty = _made(make, UNSET_OPS, component)
    expected = empty.state_dict(keep_vars=True)
    stored = matching_tensors(component, expected)
    changes = differences_for(options.loras, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    # a host's layers may have no tensors before they are assigned
    module = empty if options.ops is TORCH_OPS else _made(make, options.ops, component)
    layers = dict(module.named_modules())
    packed = {name.rpartition(".")[0] for name, tensor in stored.items() if _is_packed(layers, name, tensor, options)}
    for name, wanted in expected.items():
        stem, _, last = name.rpartition(".")
        if last == "weight" and stem in packed:
            continue
        value = _loaded(stored[name], changes.get(name, ()), options)
        setattr(
            layers[stem], last, nn.Parameter(value, requires_grad=False) if isinstance(wanted, nn.Parameter) else value
        )
    for stem in packed:
        parent, _, last = stem.rpartition(".")
        tensor, bias = stored[f"{stem}.weight"], cast(nn.Linear, layers[stem]).bias
        linear = _quantized_linear(cast(QuantizedTensor, tensor), bias, changes.get(f"{stem}.weight", ()), options)
        setattr(layers[parent], last, linear)
    return module.eval().requires_grad_(False)


def _made(make: Callable[[Ops], Kind], ops: Ops, component: Component) -> Kind:
    """An empty network. Sizes that no layer can have come out as a sentence."""
    try:
        with torch.device("meta"):
            return make(ops)
    except CheckpointError:
        raise
    except _UNBUILDABLE as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0][:LONGEST_REASON]
        raise CheckpointError(
            f"{component} has a configuration that nothing fits ({reason}): get the file again"
        ) from error


def _loaded(tensor: FileTensor, changes: Sequence[Scaled], options: LoadOptions) -> torch.Tensor:
    check_loaded(tensor)
    value = tensor.load(options.device, options.dtype)
    return merged(value, changes) if changes else value


def _quantized_linear(
    tensor: QuantizedTensor, bias: torch.Tensor | None, changes: Sequence[Scaled], options: LoadOptions
) -> QuantizedLinear:
    check_loaded(tensor)
    dtype = options.dtype or torch.bfloat16
    kept = [scaled.load(options.device, dtype) for scaled in changes]
    return QuantizedLinear(tensor.pack(options.device), bias, kept, compute_dtype=dtype)


def _is_packed(layers: Mapping[str, nn.Module], name: str, tensor: FileTensor, options: LoadOptions) -> bool:
    """Whether a weight stays as it is stored: that of a linear layer, where this was asked for."""
    stem, _, last = name.rpartition(".")
    if options.quantized != "on_use" or last != "weight" or not isinstance(tensor, QuantizedTensor):
        return False
    owner = layers[stem]
    shape = getattr(owner, "out_features", None), getattr(owner, "in_features", None)
    return shape == tuple(tensor.shape)


# ---------------------------------------------------------------------------------------------------------------
# Checks


def matching_tensors(component: Component, expected: Mapping[str, torch.Tensor]) -> dict[str, FileTensor]:
    """A component's tensors in the shapes that a network has. Raises CheckpointError unless it has exactly the expected
    ones."""
    missing = [name for name in expected if name not in component.tensors]
    unexpected = [name for name in component.tensors if name not in expected]
    _check_numbers(component, expected)
    beside = looks_quantized(unexpected, expected)
    if beside is not None:
        raise CheckpointError(
            f"{component} has {shown(beside, 70)} beside a weight, so that it is quantised in a way that is not known "
            f"here: {INSTEAD}"
        )
    if missing or unexpected:
        found = " and ".join(
            f"{len(names)} {what} tensors ({first_names(names)})"
            for names, what in ((missing, "missing"), (unexpected, "unexpected"))
            if names
        )
        raise CheckpointError(
            f"{component} has {found}, expected {len(expected)}: the file is incomplete or for another version"
        )
    matching = {name: _with_shape(component.tensors[name], tuple(wanted.shape)) for name, wanted in expected.items()}
    wrong = [name for name, tensor in matching.items() if tensor is None]
    if wrong:
        name = wrong[0]
        shapes = f"{name} is {list(component.tensors[name].shape)}, expected {list(expected[name].shape)}"
        raise CheckpointError(
            f"{component} has {len(wrong)} tensors of another shape ({shapes}): the file's metadata and weights "
            "disagree"
        )
    return matching


def _check_numbers(component: Component, expected: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError where whole numbers stand in place of weights: somebody quantised them."""
    packed = [
        name
        for name, wanted in expected.items()
        if wanted.is_floating_point()
        and name in component.tensors
        and not component.tensors[name].dtype.is_floating_point
    ]
    if packed:
        kind = component.tensors[packed[0]].stored
        raise CheckpointError(
            f"{component} stores {len(packed)} weights as {kind} ({first_names(packed)}), quantised in a way that is "
            f"not known here: {INSTEAD}"
        )


def _with_shape(tensor: FileTensor, shape: tuple[int, ...]) -> FileTensor | None:
    """A tensor in a network's shape, or None when it is of another."""
    if tuple(tensor.shape) == shape:
        return tensor
    if isinstance(tensor, QuantizedTensor):
        return tensor.with_shape(shape)
    if isinstance(tensor, LazyTensor) and without_outer_ones(tensor.shape) == without_outer_ones(shape):
        return tensor.with_shape(shape)
    return None
