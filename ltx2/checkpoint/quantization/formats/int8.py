"""Eight-bit whole numbers with scales, rotated or not."""

from dataclasses import dataclass

import torch

from ..block_scales import scale_steps
from ..convrot import rotate_rows, rotated_group, rotation
from ..packed import Parts, QuantizedTensor, fill_rows, of_rows, row_scale, scale_into
from ..stored import StoredFormat, StoredWeight

KIND = "int8_tensorwise"


@dataclass(frozen=True)
class Int8:
    """Whole numbers times a scale (one, or one a row), rotated in groups of ``rotated`` columns where that is not
    None."""

    rotated: int | None = None
    pads_to: int = 1

    @property
    def name(self) -> str:
        """What people call it; see Form."""
        return "int8" if self.rotated is None else f"int8 convrot {self.rotated}"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        weight, scale = parts["weight"], row_scale(parts["scale"])
        matrix = None if self.rotated is None else rotation(self.rotated, weight.device)

        if matrix is None and out.device.type != "cpu":  # where torch multiplies mixed types one by one
            scale_into(out, weight, scale)
            return

        def part(rows: slice) -> torch.Tensor:
            found = weight[rows].float().mul_(of_rows(scale, rows))
            return found if matrix is None else rotate_rows(found, matrix)

        fill_rows(out, part)


def _read(weight: StoredWeight, kind: str) -> QuantizedTensor:
    shape, scales = weight.shape, weight.count("scale")
    if scales is None or len(shape) != 2:
        raise weight.refuse(
            f"int8 of shape {list(shape)} and {'no ' if scales is None else ''}scale", "a matrix and its scale"
        )
    steps = scale_steps(weight)
    if steps is not None and (steps[0] != 1 or scales != weight.rows):
        raise weight.refuse(f"int8 scales {list(weight.beside['scale'].shape)}", f"1 or {weight.rows}")
    group = rotated_group(weight, shape[1]) if weight.option("convrot") else None
    return weight.packed(Int8(group), shape, "scale")


def _recognise(weight: StoredWeight) -> str | None:
    return KIND if weight.tensor.stored == "I8" and "scale" in weight.beside else None


FORMAT = StoredFormat({KIND: "I8"}, _read, {"weight_scale": "scale"}, _recognise)
