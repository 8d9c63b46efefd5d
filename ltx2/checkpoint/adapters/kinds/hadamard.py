"""LoHa: the element-wise product of two low-rank products."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..difference import Difference, Parts, Shape, add_matrix
from ..stored import AdapterKind, StoredModule


@dataclass(frozen=True)
class Hadamard:
    """scale · (w1_a @ w1_b) ⊙ (w2_a @ w2_b); w1_a, w2_a [out, r], w1_b, w2_b [r, in]."""

    scale: float = 1.0
    name: str = "LoHa"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        return shapes["w1_a"][0], shapes["w1_b"][1]

    def rank(self, shapes: Mapping[str, Shape]) -> int:
        """The rank of the factors; see Kind."""
        return shapes["w1_b"][0]

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        first = parts["w1_a"].float() @ parts["w1_b"].float()
        add_matrix(weight, first.mul_(parts["w2_a"].float() @ parts["w2_b"].float()), strength * self.scale)


def _read(module: StoredModule) -> Mapping[str, Difference]:
    first, rank = module.product("w1_a", "w1_b")
    second, _ = module.product("w2_a", "w2_b")
    if any(first[f"w1_{side}"].shape[axis] != second[f"w2_{side}"].shape[axis] for side, axis in (("a", 0), ("b", 1))):
        shapes = [list(part.shape) for part in (*first.values(), *second.values())]
        raise module.refuse(f"products of different size ({shapes})")
    return {"": Difference(Hadamard(module.scale(rank)), {**first, **second})}


KIND = AdapterKind("LoHa", {rf"hada_w{n}_{side}": f"w{n}_{side}" for n in (1, 2) for side in "ab"}, _read)
