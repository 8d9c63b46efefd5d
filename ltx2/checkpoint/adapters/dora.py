"""DoRA: any other kind, with the length of each row (or column) of the changed weight set anew.

Two programs write it and mean different lengths. ``dora_scale``, of LyCORIS and ComfyUI: one a row, over the length of
the row of the weight *before* it was changed, or one a column, over the length of the changed column (as ComfyUI has
it). ``lora_magnitude_vector``, of PEFT: one a row, over the length of the changed row.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .difference import Difference, Kind, Parts, Shape
from .stored import StoredModule

MAGNITUDE = "magnitude"
# Endings of keys, as of AdapterKind, with what the lengths are of.
ENDINGS = {
    r"dora_scale": "dora_scale",
    r"lora_magnitude_vector(?:\.[A-Za-z0-9_-]+)?(?:\.weight)?": "magnitude_vector",
}
EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Decomposed:
    """The changed weight V = W + Δ, its lengths those of ``magnitude``; W + strength · (that − W).

    by_column: whether there is a number a column rather than a row; before: whether rows are measured before the
    change.
    """

    inner: Kind
    by_column: bool
    before: bool

    @property
    def name(self) -> str:
        """What people call it; see Kind."""
        return "DoRA" if self.inner.name == "LoRA" else f"{self.inner.name} with DoRA"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        rows, *rest = self.inner.weight_shape(shapes, wanted)
        length = math.prod(shapes[MAGNITUDE])
        # lengths that are not one a row or column give a shape that no weight has
        if self.by_column:
            return (rows, *rest) if math.prod(rest) == length else (rows, length)
        return (rows if rows == length else length, *rest)

    def rank(self, shapes: Mapping[str, Shape]) -> int | None:
        """The rank of the factors; see Kind."""
        return self.inner.rank(shapes)

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        original = weight.float().view(len(weight), -1)
        changed = original.clone()
        self.inner.apply(changed.view(weight.shape), {n: p for n, p in parts.items() if n != MAGNITUDE}, 1.0)
        measured = original if self.before and not self.by_column else changed
        lengths = torch.linalg.vector_norm(measured, dim=0 if self.by_column else 1, keepdim=True) + EPS
        changed *= parts[MAGNITUDE].float().view(lengths.shape) / lengths
        weight.copy_(torch.lerp(original, changed, strength).view(weight.shape))


def decomposed(module: StoredModule, difference: Difference) -> Difference:
    """A module's difference with the lengths that stand beside it; unchanged where there are none."""
    part = next((name for name in ("dora_scale", "magnitude_vector") if name in module.parts), None)
    if part is None:
        return difference
    found = module.parts[part]
    count = math.prod(found.shape)
    if not count:
        raise module.refuse(f"{part} of shape {list(found.shape)}, expected a number a row or column,")
    rows = difference.weight_shape()[0] if difference.weight_shape() else 0
    # [1, in] is one a column; a flat list goes by the rows, as does all that PEFT writes
    by_column = part == "dora_scale" and len(found.shape) > 1 and found.shape[0] != rows and found.shape[0] == 1
    kind = Decomposed(difference.kind, by_column, part == "dora_scale")
    return Difference(kind, {**difference.parts, MAGNITUDE: found})
