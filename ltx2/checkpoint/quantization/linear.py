"""A linear layer whose weight stays in its storage format and is dequantised each time it is used."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from .packed import PackedWeight, dequantize

CastPair = tuple[torch.Tensor, torch.Tensor | None]


@contextmanager
def cast_to_device(layer: "PackedParameter", device: torch.device) -> Iterator[CastPair]:
    """Weight and bias of a layer on a device, for as long as the block runs."""
    yield layer.weight.to(device), None if layer.bias is None else layer.bias.to(device)


class PackedParameter(nn.Module):
    """Tensors as they are in a file, which may lie elsewhere than where they are used.

    Each has a module of its own, of the form that ComfyUI knows how to leave in main memory: a ``weight``, a ``bias``
    or None, and the mark ``comfy_cast_weights``. ``cast`` takes them to a device; a host that keeps some there puts in
    its own way.
    """

    comfy_cast_weights = True
    weight_function = bias_function = ()
    cast = staticmethod(cast_to_device)

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))


class QuantizedLinear(nn.Module):
    """Like ``nn.Linear``, with the memory of the quantised file plus one weight at a time.

    Low-rank and full differences are added to the dequantised weight, which is exact, while adding them to the stored
    one would round them away.
    """

    def __init__(
        self, packed: PackedWeight, bias: torch.Tensor | None, differences: Sequence[tuple[torch.Tensor, ...]] = ()
    ):
        """differences: (up [out, r], down [r, in]) pairs, or single tensors (whole [out, in],), strengths multiplied
        in."""
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.form = packed.form
        self.parts = nn.ModuleDict(
            {name: PackedParameter(part, bias if name == "weight" else None) for name, part in packed.parts.items()}
        )
        self.added = nn.ModuleList(nn.ModuleList(map(PackedParameter, difference)) for difference in differences)

    @property
    def weight(self) -> torch.Tensor:
        """As it is stored."""
        return self.parts["weight"].weight

    @property
    def bias(self) -> torch.Tensor | None:
        return self.parts["weight"].bias

    @property
    def packed(self) -> PackedWeight:
        return PackedWeight(
            self.form, (self.out_features, self.in_features), {name: part.weight for name, part in self.parts.items()}
        )

    @property
    def differences(self) -> tuple[tuple[torch.Tensor, ...], ...]:
        return tuple(tuple(part.weight for part in difference) for difference in self.added)

    def with_differences(self, more: Sequence[tuple[torch.Tensor, ...]]) -> "QuantizedLinear":
        """A layer of its own that shares this one's storage."""
        return QuantizedLinear(self.packed, self.bias, (*self.differences, *more))

    def dense(self, device, dtype: torch.dtype) -> torch.Tensor:
        """The weight [out, in] with its differences, in memory of its own."""
        with self._dense(device, dtype) as (weight, _):
            return weight

    @contextmanager
    def _dense(self, device, dtype: torch.dtype) -> Iterator[CastPair]:
        with ExitStack() as held:
            parts = {name: held.enter_context(part.cast(part, device)) for name, part in self.parts.items()}
            bias = parts["weight"][1]
            weight = torch.empty(self.out_features, self.in_features, dtype=dtype, device=device)
            dequantize(self.form, {name: part for name, (part, _) in parts.items()}, weight)
            del parts
            for difference in self.added:
                _add(difference, weight)
            yield weight, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self._dense(x.device, x.dtype) as (weight, bias):
            return F.linear(x, weight, None if bias is None else bias.to(x))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, form={self.form.name}"


def _add(difference: Sequence[PackedParameter], weight: torch.Tensor) -> None:
    with ExitStack() as held:
        factors = [held.enter_context(part.cast(part, weight.device))[0].to(weight) for part in difference]
        if len(factors) == 1:
            weight += factors[0]
        else:
            weight.addmm_(*factors)
