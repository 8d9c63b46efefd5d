"""LoRA: the product of two thin factors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..difference import Difference, Parts, Shape, add_product
from ..stored import AdapterKind, StoredModule
from .whole import Whole

# An adapter may be named in the key: ``lora_A.default.weight``.
_ADAPTER = r"(?:\.(?!(?:weight|bias)$)[A-Za-z0-9_-]+)?"


@dataclass(frozen=True)
class LowRank:
    """scale · up @ down; up [out, r], down [r, in] (or convolutions)."""

    scale: float = 1.0
    name: str = "LoRA"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        return shapes["up"][0], math.prod(shapes["down"][1:])

    def rank(self, shapes: Mapping[str, Shape]) -> int:
        """The rank of the factors; see Kind."""
        return shapes["down"][0]

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        add_product(weight, parts["up"].flatten(1), parts["down"].flatten(1), strength * self.scale)


def _read(module: StoredModule) -> Mapping[str, Difference]:
    parts, rank = module.product("up", "down")
    scale = module.scale(rank)
    found = {"": Difference(LowRank(scale), parts)}
    if "up_bias" in module.parts:
        found[".bias"] = Difference(Whole(scale), {"difference": module.parts["up_bias"]})
    return found


KIND = AdapterKind(
    "LoRA",
    {
        rf"(?:lora_A|lora_down|lora\.down|lora_linear_layer\.down){_ADAPTER}(?:\.weight)?": "down",
        rf"(?:lora_B|lora_up|lora\.up|lora_linear_layer\.up){_ADAPTER}(?:\.weight)?": "up",
        rf"(?:lora_B|lora_up){_ADAPTER}\.bias": "up_bias",
    },
    _read,
)
