"""A linear layer whose weight stays in its storage format and is dequantised each time it is used."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from ...networks.layers.typed_modules import dict_of
from ..adapters.difference import LoadedDifference
from .packed import PackedWeight, Parts, dequantize

CastPair = tuple[torch.Tensor, torch.Tensor | None]


@contextmanager
def cast_to_device(layer: "PackedParameter", device: torch.device) -> Iterator[CastPair]:
    """Weight and bias of a layer on a device, for as long as the block runs."""
    yield layer.weight.to(device), None if layer.bias is None else layer.bias.to(device)


class PackedParameter(nn.Module):
    """Tensors as they are in a file, which may lie elsewhere than where they are used.

    Each has a module of its own with a ``weight`` and a ``bias`` or None, so that a host can move it as it moves a
    layer. ``cast`` takes them to a device; a host that keeps some there puts in its own way.
    """

    cast = staticmethod(cast_to_device)
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))


class QuantizedLinear(nn.Module):
    """Like ``nn.Linear``, with the memory of the quantised file plus one weight at a time.

    Differences change the dequantised weight, which is exact, while adding them to the stored one would round them
    away.
    """

    def __init__(
        self,
        packed: PackedWeight,
        bias: torch.Tensor | None,
        differences: Sequence[LoadedDifference] = (),
        *,
        compute_dtype: torch.dtype | None = None,
    ):
        """compute_dtype: of the network that the layer belongs to; None: the bias's, or bfloat16."""
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.form = packed.form
        self.compute_dtype = compute_dtype or (torch.bfloat16 if bias is None else bias.dtype)
        self.parts = _parameters(packed.parts, bias)
        self.changes = tuple((change.kind, change.strength) for change in differences)
        self.added = nn.ModuleList(_parameters(change.parts) for change in differences)

    @property
    def weight(self) -> torch.Tensor:
        """The weight as it is stored."""
        return self._kept["weight"].weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias as it is stored, or None."""
        return self._kept["weight"].bias

    @property
    def _kept(self) -> Mapping[str, PackedParameter]:
        return dict_of(PackedParameter, self.parts)

    @property
    def packed(self) -> PackedWeight:
        """The weight as it is stored, its parts shared."""
        return PackedWeight(
            self.form, (self.out_features, self.in_features), {name: part.weight for name, part in self._kept.items()}
        )

    @property
    def differences(self) -> tuple[LoadedDifference, ...]:
        """What changes the weight each time, in order."""
        return tuple(
            LoadedDifference(kind, strength, {name: part.weight for name, part in factors.items()})
            for (kind, strength), factors in zip(self.changes, self._added)
        )

    @property
    def _added(self) -> list[Mapping[str, PackedParameter]]:
        return [dict_of(PackedParameter, factors) for factors in self.added]

    def with_differences(self, more: Sequence[LoadedDifference]) -> "QuantizedLinear":
        """A layer of its own that shares this one's storage."""
        return QuantizedLinear(self.packed, self.bias, (*self.differences, *more), compute_dtype=self.compute_dtype)

    def dense(self, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
        """The weight [out, in] with its differences, in memory of its own."""
        with self._dense(torch.device(device), dtype) as (weight, _):
            return weight

    @contextmanager
    def _dense(self, device: torch.device, dtype: torch.dtype) -> Iterator[CastPair]:
        with ExitStack() as held:
            parts = {name: held.enter_context(part.cast(part, device)) for name, part in self._kept.items()}
            bias = parts["weight"][1]
            weight = torch.empty(self.out_features, self.in_features, dtype=dtype, device=device)
            dequantize(self.form, {name: part for name, (part, _) in parts.items()}, weight)
            del parts
            for (kind, strength), factors in zip(self.changes, self._added):
                with ExitStack() as borrowed:
                    cast = {name: borrowed.enter_context(part.cast(part, device))[0] for name, part in factors.items()}
                    kind.apply(weight, cast, strength)
            yield weight, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] → [..., out] in the type of ``x``."""
        with self._dense(x.device, x.dtype) as (weight, bias):
            return F.linear(x, weight, None if bias is None else bias.to(x))

    def extra_repr(self) -> str:
        """What is printed of the layer."""
        return f"in_features={self.in_features}, out_features={self.out_features}, form={self.form.name}"


def _parameters(parts: Parts, bias: torch.Tensor | None = None) -> nn.ModuleDict:
    return nn.ModuleDict({name: PackedParameter(t, bias if name == "weight" else None) for name, t in parts.items()})
