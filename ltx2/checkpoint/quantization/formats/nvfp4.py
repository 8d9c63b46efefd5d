"""NVFP4: four-bit floats with an eight-bit scale for each 16 of a row. Checked against comfy-kitchen."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..packed import Parts, QuantizedTensor, fill_rows, weights_at_once
from ..stored import StoredFormat, StoredWeight
from ..tiles import tiled_size, untile_scales

GROUP = 16  # weights per scale
# E2M1 with its sign in bit 3.
_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


@dataclass(frozen=True)
class Nvfp4:
    """Pairs of four-bit floats, a tiled scale for each 16 and one of the whole tensor."""

    name: str = "nvfp4"
    pads_to: int = GROUP

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        packed, tensor_scale, columns = parts["weight"], parts["tensor_scale"], out.shape[1]
        stored = parts["scale"].view(torch.float8_e4m3fn)
        scales = untile_scales(stored, len(packed), packed.shape[1] * 2 // GROUP)
        if columns != packed.shape[1] * 2:  # columns were filled up to a whole group
            fill_rows(out, lambda rows: dequantize_rows(packed[rows], scales[rows], tensor_scale)[:, :columns])
            return
        pairs = _pairs(out)
        step = max(1, weights_at_once(out.device) // columns)
        for start in range(0, len(out), step):
            rows = slice(start, start + step)
            weights = F.embedding(packed[rows].int(), pairs).view(-1, columns // GROUP, GROUP)
            factors = (scales[rows].float() * tensor_scale.float())[..., None]
            torch.mul(weights, factors, out=out[rows].view(weights.shape))


def _pairs(like: torch.Tensor) -> torch.Tensor:
    """Both weights of each byte [256, 2], in the type of ``like``, which holds all of them exactly."""
    values = torch.tensor(_VALUES, dtype=like.dtype, device=like.device)
    return torch.stack([values.repeat_interleave(16), values.repeat(16)], -1)  # the first one is the high nibble


def dequantize_rows(packed: torch.Tensor, scales: torch.Tensor, tensor_scale: torch.Tensor) -> torch.Tensor:
    """Rows packed [n, in / 2] uint8 with scales [n, in / 16] and one scale of the whole tensor → [n, in] float32."""
    values = torch.tensor(_VALUES, device=packed.device)
    codes = torch.stack([packed >> 4, packed & 15], -1).flatten(1)  # the first weight of a pair is the high nibble
    weights = values[codes.int()].unflatten(1, (-1, GROUP))
    return (weights * (scales.float() * tensor_scale.float())[..., None]).flatten(1)


def _read(weight: StoredWeight, kind: str) -> QuantizedTensor:
    if len(weight.shape) != 2 or weight.shape[1] * 2 % GROUP:
        raise weight.refuse(
            f"nvfp4 of shape {list(weight.shape)}", f"a matrix whose columns are {GROUP // 2} bytes a group"
        )
    rows, columns = weight.rows, weight.shape[1] * 2
    weight.need("scale", ("F8_E4M3", "U8"), tiled_size(rows, columns // GROUP), "weight_scale")
    if weight.count("tensor_scale") != 1:
        raise weight.refuse("no single weight_scale_2", "one number")
    return weight.packed(Nvfp4(), (rows, columns), "scale", "tensor_scale")


def _recognise(weight: StoredWeight) -> str | None:
    return "nvfp4" if weight.tensor.stored == "U8" and "tensor_scale" in weight.beside else None


FORMAT = StoredFormat({"nvfp4": "U8"}, _read, {"weight_scale": "scale", "weight_scale_2": "tensor_scale"}, _recognise)
