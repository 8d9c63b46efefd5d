"""A difference stored in full."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..difference import Difference, Parts, Shape, add_matrix
from ..stored import AdapterKind, StoredModule


@dataclass(frozen=True)
class Whole:
    """scale · difference, of the weight's own shape."""

    scale: float = 1.0
    name: str = "full difference"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        return shapes["difference"]

    def rank(self, shapes: Mapping[str, Shape]) -> None:
        """The rank of the factors; see Kind."""
        return None

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        add_matrix(weight, parts["difference"].float(), strength * self.scale)


def _read(module: StoredModule) -> Mapping[str, Difference]:
    targets = {"difference": "", "bias_difference": ".bias"}
    return {
        target: Difference(Whole(), {"difference": module.parts[part]})
        for part, target in targets.items()
        if part in module.parts
    }


KIND = AdapterKind("full difference", {r"diff": "difference", r"diff_b": "bias_difference"}, _read)
