"""LoKr: the Kronecker product of two small matrices, each whole or a low-rank product itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...lazy_tensor import LazyTensor
from ...quantization.packed import QuantizedTensor
from ..difference import Difference, Parts, Shape, add_matrix
from ..stored import AdapterKind, StoredModule


@dataclass(frozen=True)
class Kronecker:
    """scale · kron(w1, w2); each of them whole, or w_a @ w_b."""

    scale: float = 1.0
    name: str = "LoKr"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        (rows, columns), (more_rows, more_columns) = _size(shapes, "w1"), _size(shapes, "w2")
        return rows * more_rows, columns * more_columns

    def rank(self, shapes: Mapping[str, Shape]) -> int | None:
        """The rank of the factors; see Kind."""
        return next((shapes[name][0] for name in ("w2_b", "w1_b") if name in shapes), None)

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        add_matrix(weight, torch.kron(_matrix(parts, "w1"), _matrix(parts, "w2")), strength * self.scale)


def _size(shapes: Mapping[str, Shape], name: str) -> tuple[int, int]:
    return (shapes[name][0], shapes[name][1]) if name in shapes else (shapes[f"{name}_a"][0], shapes[f"{name}_b"][1])


def _matrix(parts: Parts, name: str) -> torch.Tensor:
    return parts[name].float() if name in parts else parts[f"{name}_a"].float() @ parts[f"{name}_b"].float()


def _read(module: StoredModule) -> Mapping[str, Difference]:
    parts: dict[str, LazyTensor | QuantizedTensor] = {}
    rank = None
    for name in ("w1", "w2"):
        if name in module.parts:
            parts |= module.need(name)
        else:  # the rank of the second factor counts where both are products
            found, rank = module.product(f"{name}_a", f"{name}_b")
            parts |= found
    large = next((name for name, part in parts.items() if len(part.shape) != 2), None)
    if large is not None:
        raise module.refuse(f"{large} of shape {list(parts[large].shape)}, expected a matrix,")
    return {"": Difference(Kronecker(module.scale(rank)), parts)}


KIND = AdapterKind("LoKr", {rf"lokr_{part}": part for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")}, _read)
