"""Eight-bit floats: plain, or with a scale under either of two spellings."""

from dataclasses import dataclass

import torch

from ..packed import Parts, QuantizedTensor, fill_rows, of_rows, row_scale, rows_of, scale_into, widened
from ..stored import StoredFormat, StoredWeight
from .mxfp8 import SCALES

KINDS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}


@dataclass(frozen=True)
class Fp8:
    """Eight-bit floats, times a scale (one, or one a row) where there is one."""

    stored: str = "F8_E4M3"
    pads_to: int = 1

    @property
    def name(self) -> str:
        """What people call it; see Form."""
        return f"fp8 ({self.stored[3:].lower()})"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        weight, scale = parts["weight"], parts.get("scale")
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


def _read(weight: StoredWeight, kind: str) -> QuantizedTensor:
    if weight.count("scale") not in (None, 1, weight.rows):
        raise weight.refuse(f"scales {list(weight.beside['scale'].shape)}", f"1 or {weight.rows}")
    return weight.packed(Fp8(weight.tensor.stored), weight.shape, "scale")


def _recognise(weight: StoredWeight) -> str | None:
    scale = weight.beside.get("scale")
    if scale is not None and scale.stored in SCALES:
        return None
    return next((kind for kind, stored in KINDS.items() if stored == weight.tensor.stored), None)


FORMAT = StoredFormat(KINDS, _read, {"weight_scale": "scale", "scale_weight": "scale"}, _recognise)
