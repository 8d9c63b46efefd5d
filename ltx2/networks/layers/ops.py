"""The layer set a network is built from: torch's own by default, a host's streaming or quantising one handed in."""

from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch
from torch import nn


class Ops(Protocol):
    """Layer classes with the constructors of ``torch.nn`` (``device=`` and ``dtype=`` included).

    Networks only call such layers and never read their ``weight`` in forward: where it lives, and in what form, is the
    layer's own affair.
    """

    Linear: Any
    Conv1d: Any
    Conv2d: Any
    Conv3d: Any
    ConvTranspose1d: Any
    LayerNorm: Any
    RMSNorm: Any
    GroupNorm: Any
    Embedding: Any


TORCH_OPS: Ops = nn


class _Unset:
    """A layer whose weights are assigned after it was made: first values for them would be thrown away."""

    def reset_parameters(self) -> None:
        """Leaves the weights as they are."""


def unset(kind: type[nn.Module]) -> type[nn.Module]:
    """The same layer, whose weights are assigned after it was made."""
    return type(kind.__name__, (_Unset, kind), {"__module__": __name__, "__doc__": kind.__doc__})


# Torch's own layers for networks that get their weights from a file.
UNSET_OPS: Ops = cast(Ops, SimpleNamespace(**{name: unset(getattr(nn, name)) for name in Ops.__annotations__}))


def is_torchs(ops: Ops) -> bool:
    """Whether the layers are torch's own, and not a host's."""
    return ops is TORCH_OPS or ops is UNSET_OPS


# Narrower floating-point types are for storage alone.
_NARROWEST_BYTES = 2


def compute_dtype(network: nn.Module, default: torch.dtype = torch.bfloat16) -> torch.dtype:
    """The type that a network computes in: what a layer that keeps another form says itself, else that of the first
    floating-point weight that is no storage form; ``default`` where there is none."""
    layers = list(network.modules())
    for layer in layers:
        said = getattr(layer, "compute_dtype", None)
        if isinstance(said, torch.dtype):
            return said
    weights = (weight for layer in layers for weight in layer.parameters(recurse=False))
    return next((w.dtype for w in weights if w.is_floating_point() and w.dtype.itemsize >= _NARROWEST_BYTES), default)
