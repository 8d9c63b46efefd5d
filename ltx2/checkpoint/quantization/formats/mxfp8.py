"""MXFP8: eight-bit floats with a power of two for each 32 of a row. Checked against comfy-kitchen."""

from dataclasses import dataclass

import torch

from ..packed import Parts, QuantizedTensor, fill_rows, widened
from ..stored import StoredFormat, StoredWeight
from ..tiles import tiled_size, untile_scales

GROUP = 32  # weights per scale
SCALES = ("U8", "F8_E8M0")
_BIAS = 127  # of an exponent


@dataclass(frozen=True)
class Mxfp8:
    """Eight-bit floats padded to 32 rows and columns, and a tiled exponent for each 32."""

    name: str = "mxfp8"
    pads_to: int = GROUP

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        weight, columns = parts["weight"], out.shape[1]
        exponents = untile_scales(parts["scale"].view(torch.uint8), len(weight), weight.shape[1] // GROUP)

        def part(rows: slice) -> torch.Tensor:
            scales = torch.exp2(exponents[rows].float() - _BIAS)
            grouped = widened(weight[rows]).unflatten(1, (-1, GROUP))
            return grouped.mul_(scales[..., None]).flatten(1)[:, :columns]

        fill_rows(out, part)


def _read(weight: StoredWeight, kind: str) -> QuantizedTensor:
    if len(weight.shape) != 2 or any(extent % GROUP for extent in weight.shape):
        raise weight.refuse(f"mxfp8 of shape {list(weight.shape)}", f"a matrix of multiples of {GROUP}")
    weight.need("scale", SCALES, tiled_size(weight.rows, weight.shape[1] // GROUP), "weight_scale")
    return weight.packed(Mxfp8(), weight.shape, "scale")


def _recognise(weight: StoredWeight) -> str | None:
    scale = weight.beside.get("scale")
    return "mxfp8" if weight.tensor.stored == "F8_E4M3" and scale is not None and scale.stored in SCALES else None


FORMAT = StoredFormat({"mxfp8": "F8_E4M3"}, _read, {"weight_scale": "scale"}, _recognise)
