"""Eight-bit floats: plain, or with scales under one of three spellings."""

from dataclasses import dataclass

import torch

from ..block_scales import Steps, scale_steps, scales_of_rows
from ..packed import Parts, QuantizedTensor, fill_rows, of_rows, row_scale, rows_of, scale_into, widened
from ..stored import StoredFormat, StoredWeight
from .mxfp8 import SCALES

KINDS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"} | {
    f"float8_e4m3fn_{scaled}": "F8_E4M3" for scaled in ("rowwise", "blockwise", "block3d")
}
_OF_BLOCKS = "weight_scale_inv"  # DeepSeek's; despite its name blocks are multiplied with it


@dataclass(frozen=True)
class Fp8:
    """Eight-bit floats, times scales where there are any. steps: how many rows and columns a scale is of; None: one is
    of all, or of each row."""

    stored: str = "F8_E4M3"
    pads_to: int = 1
    steps: Steps | None = None

    @property
    def name(self) -> str:
        """What people call it; see Form."""
        return f"fp8 ({self.stored[3:].lower()})"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        weight, scale = parts["weight"], parts.get("scale")
        if scale is not None and self.steps is not None:
            self._fill_blocks(out, weight.view(rows_of(out), -1), scale, self.steps)
            return
        scale = None if scale is None else row_scale(scale)
        if out.device.type != "cpu":
            out.copy_(weight.view(out.shape))  # exact: no type that a network computes in is narrower
            if scale is not None:
                flat = out.view(rows_of(out), -1)
                scale_into(flat, flat, scale)
            return

        def part(rows: slice) -> torch.Tensor:
            found = widened(weight.view(rows_of(out), -1)[rows])
            return found if scale is None else found.mul_(of_rows(scale, rows))

        fill_rows(out, part)

    def _fill_blocks(self, out: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, steps: Steps) -> None:
        columns = weight.shape[1]
        fill_rows(out, lambda rows: widened(weight[rows]).mul_(scales_of_rows(scale, steps, rows, columns)))


def _read(weight: StoredWeight, kind: str) -> QuantizedTensor:
    steps = scale_steps(weight)
    if steps is None and "scale" in weight.beside and weight.beside["scale"].name.endswith(_OF_BLOCKS):
        raise weight.refuse(f"one {_OF_BLOCKS}, which may be what it is divided by", "one a block")
    by_row = steps is None or (steps[0] == 1 and weight.count("scale") == weight.rows)
    return weight.packed(Fp8(weight.tensor.stored, steps=None if by_row else steps), weight.shape, "scale")


def _recognise(weight: StoredWeight) -> str | None:
    scale = weight.beside.get("scale")
    if scale is not None and scale.stored in SCALES:
        return None
    return next((kind for kind, stored in KINDS.items() if stored == weight.tensor.stored), None)


FORMAT = StoredFormat(KINDS, _read, {"weight_scale": "scale", "scale_weight": "scale", _OF_BLOCKS: "scale"}, _recognise)
