"""BOFT as PEFT stores it: columns turned by blocks several times, in another order of the columns each time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..difference import Difference, Parts, Shape
from ..stored import AdapterKind, StoredModule


@dataclass(frozen=True)
class Butterfly:
    """Rows w of the weight become s · Bₘ … B₁ w: Bᵢ turns blocks of the columns in the order of :func:`_order` by
    R = (I − Q)(I + Q)⁻¹ with Q = (A − Aᵀ) / 2 for the stored blocks A."""

    name: str = "BOFT"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        rows = math.prod(shapes["lengths"]) if "lengths" in shapes else wanted[0] if wanted else 0
        return rows, shapes["turns"][1] * shapes["turns"][2]

    def rank(self, shapes: Mapping[str, Shape]) -> None:
        """The rank of the factors; see Kind."""
        return None

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        original = weight.float().view(len(weight), -1)
        turned = original
        blocks = parts["turns"].float()  # [m, k, b, b]
        skew = (blocks - blocks.transpose(2, 3)) / 2
        identity = torch.eye(blocks.shape[2], device=blocks.device)
        for level, turn in enumerate(torch.linalg.solve(identity + skew, identity - skew)):
            order = _order(original.shape[1], blocks.shape[2], level).to(weight.device)
            placed = torch.empty_like(turned)
            placed[:, order] = turned
            placed = placed.view(len(weight), *turn.shape[:2]).transpose(0, 1) @ turn.transpose(1, 2)  # [k, out, b]
            turned = placed.transpose(0, 1).reshape(len(weight), -1)[:, order]
        if "lengths" in parts:
            turned = turned * parts["lengths"].float().view(-1, 1)
        weight.copy_(torch.lerp(original, turned, strength).view(weight.shape))


def _order(columns: int, block: int, level: int) -> torch.Tensor:
    """In groups of 2^level blocks, those half blocks first that have even numbers [columns]."""
    if level == 0:
        return torch.arange(columns)
    halves = torch.arange(columns).view(-1, 2 << level, block // 2)
    return torch.cat([halves[:, 0::2], halves[:, 1::2]], dim=1).flatten()


def _read(module: StoredModule) -> Mapping[str, Difference]:
    parts = module.need("turns")
    shape = parts["turns"].shape
    if len(shape) != 4 or shape[2] != shape[3]:
        raise module.refuse(f"boft_R of shape {list(shape)}, expected square blocks [m, n, b, b],")
    levels, count, size, _ = shape
    if levels > 1 and (size % 2 or count % (1 << (levels - 1))):
        raise module.refuse(f"boft_R of shape {list(shape)}, which no order of columns is of,")
    if "lengths" in module.parts:
        parts["lengths"] = module.parts["lengths"]
    return {"": Difference(Butterfly(), parts)}


_ADAPTER = r"(?:\.[A-Za-z0-9_-]+)?"
KIND = AdapterKind("BOFT", {rf"boft_R{_ADAPTER}": "turns", rf"boft_s{_ADAPTER}": "lengths"}, _read)
