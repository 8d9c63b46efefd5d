"""Four-bit whole numbers with a scale a row, rotated: "convrot_w4a4". Checked against comfy-kitchen."""

from dataclasses import dataclass

import torch

from ..convrot import rotate_rows, rotated_group, rotation
from ..packed import Parts, QuantizedTensor, fill_rows, nibbles, row_scale
from ..stored import StoredFormat, StoredWeight


@dataclass(frozen=True)
class W4a4:
    """Signed nibbles, the even column's low, times a scale a row; rotated in groups of ``rotated`` columns."""

    rotated: int
    pads_to: int = 1

    @property
    def name(self) -> str:
        """What people call it; see Form."""
        return f"int4 convrot {self.rotated}"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        weight, scale = parts["weight"], row_scale(parts["scale"]).view(-1, 1)
        matrix = rotation(self.rotated, weight.device)

        def part(rows: slice) -> torch.Tensor:
            codes = nibbles(weight[rows])
            signed = (codes ^ 8).float().sub_(8)  # two's complement of four bits
            return rotate_rows(signed.mul_(scale[rows]), matrix)

        fill_rows(out, part)


def _read(weight: StoredWeight, kind: str) -> QuantizedTensor:
    if len(weight.shape) != 2:
        raise weight.refuse(f"int4 of shape {list(weight.shape)}", "a matrix")
    shape = weight.rows, weight.shape[1] * 2
    weight.need("scale", ("F32", "BF16", "F16"), weight.rows, "weight_scale")
    return weight.packed(W4a4(rotated_group(weight, shape[1])), shape, "scale")


FORMAT = StoredFormat({"convrot_w4a4": "I8"}, _read, {"weight_scale": "scale"})
