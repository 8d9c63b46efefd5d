"""A linear layer whose weight stays in its storage format and is dequantised each time it is used."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .formats import dequantize
from .quantized import PackedWeight


class QuantizedLinear(nn.Module):
    """Like ``nn.Linear``, with the memory of the quantised file plus one weight at a time.

    What is stored is moved to the input's device at use, so it may lie in main memory: ``comfy_cast_weights`` is the mark by
    which ComfyUI knows that. Low-rank and full differences are added to the dequantised weight, which is exact, while adding
    them to the stored one would round them away.
    """

    comfy_cast_weights = True

    def __init__(self, packed: PackedWeight, bias: torch.Tensor | None, differences: Sequence[tuple[torch.Tensor, ...]] = ()):
        """differences: (up [out, r], down [r, in]) pairs, or single tensors (whole [out, in],), strengths multiplied in."""
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.form = packed.form
        for name, part in packed.parts.items():
            self._keep(name, part)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
        self._parts = tuple(packed.parts)
        self._differences = tuple(len(difference) for difference in differences)
        for index, difference in enumerate(differences):
            for side, tensor in zip(("up", "down"), difference):
                self._keep(f"difference_{index}_{side}", tensor)

    def _keep(self, name: str, tensor: torch.Tensor) -> None:
        self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))

    @property
    def packed(self) -> PackedWeight:
        return PackedWeight(self.form, (self.out_features, self.in_features), {name: getattr(self, name) for name in self._parts})

    @property
    def differences(self) -> tuple[tuple[torch.Tensor, ...], ...]:
        sides = ("up", "down")
        return tuple(
            tuple(getattr(self, f"difference_{index}_{side}") for side in sides[:count]) for index, count in enumerate(self._differences)
        )

    def with_differences(self, more: Sequence[tuple[torch.Tensor, ...]]) -> "QuantizedLinear":
        """A layer of its own that shares this one's storage."""
        return QuantizedLinear(self.packed, self.bias, (*self.differences, *more))

    def dense(self, device, dtype: torch.dtype) -> torch.Tensor:
        """The weight [out, in] with its differences, in memory of its own."""
        parts = {name: getattr(self, name).to(device) for name in self._parts}
        weight = dequantize(self.form, parts, torch.empty(self.out_features, self.in_features, dtype=dtype, device=device))
        for difference in self.differences:
            if len(difference) == 1:
                weight += difference[0].to(weight)
            else:
                up, down = (side.to(weight) for side in difference)
                weight.addmm_(up, down)
        return weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.dense(x.device, x.dtype), None if self.bias is None else self.bias.to(x))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, form={self.form.name}"
