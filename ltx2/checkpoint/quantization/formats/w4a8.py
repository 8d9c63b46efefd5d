"""Four- or six-bit codes on an eight-bit grid, rotated: "asym_w4a8_int8". Checked against comfy-kitchen."""

from dataclasses import dataclass

import torch

from ..convrot import rotate_rows, rotated_group, rotation
from ..packed import Parts, QuantizedTensor, fill_rows, nibbles
from ..stored import StoredFormat, StoredWeight

_COMPANIONS = {
    "weight_s_rel": "group_scale",
    "weight_s_channel": "row_scale",
    "weight_codebook": "codebook",
    "weight_correction": "correction",
}


@dataclass(frozen=True)
class W4a8:
    """Codes of ``bits`` bits → values by a codebook or evenly, times their group's scale, rounded to whole numbers up
    to 127; these times their row's scale. group: columns that share a scale; rotated: columns of a rotation."""

    bits: int
    group: int
    rotated: int
    pads_to: int = 1

    @property
    def name(self) -> str:
        """What people call it; see Form."""
        return f"int{self.bits} on int8, convrot {self.rotated}"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        packed, group_scale = parts["weight"].view(torch.uint8), parts["group_scale"]
        if group_scale.dtype == torch.uint8:
            group_scale = group_scale.view(torch.float8_e4m3fn)
        row_scale, matrix = parts["row_scale"].float().view(-1, 1), rotation(self.rotated, packed.device)
        codebook, correction = parts.get("codebook"), parts.get("correction")

        def part(rows: slice) -> torch.Tensor:
            codes = self._codes(packed[rows], out.shape[1])
            values = codes.float().sub_(1 << self.bits - 1) if codebook is None else codebook.float()[codes.int()]
            grouped = values.unflatten(1, (-1, self.group)).mul_(group_scale[rows].float()[..., None])
            weight = grouped.round_().clamp_(-127, 127).mul_(row_scale[rows][..., None])
            if correction is not None:
                weight += correction.float().t()[rows][..., None]
            return rotate_rows(weight.flatten(1), matrix)

        fill_rows(out, part)

    def _codes(self, packed: torch.Tensor, columns: int) -> torch.Tensor:
        """Bytes of rows → codes [n, columns]: nibbles, and at six bits a plane of the two high bits behind them."""
        codes = nibbles(packed[:, : columns // 2])
        if self.bits == 4:
            return codes
        shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=packed.device)
        return codes | (packed[:, columns // 2 :, None] >> shifts & 3).flatten(1) << 4


def _read(weight: StoredWeight, kind: str) -> QuantizedTensor:
    scale, group = weight.beside.get("group_scale"), weight.option("group_size", 16)
    if len(weight.shape) != 2 or scale is None or len(scale.shape) != 2 or scale.shape[0] != weight.rows:
        found = "no weight_s_rel" if scale is None else f"weight_s_rel {list(scale.shape)}"
        raise weight.refuse(found, f"a scale for each group of {weight.rows} rows")
    if scale.stored not in ("F8_E4M3", "U8", "F32", "BF16", "F16"):
        raise weight.refuse(f"weight_s_rel of {scale.stored}", "F8_E4M3")
    if type(group) is not int or group < 4 or group > 1 << 20:
        raise weight.refuse(f"groups of {str(group)[:20]} columns", "whole numbers from 4 on")
    columns = scale.shape[1] * group
    bits = next((bits for bits in (4, 6) if weight.shape[1] * 8 == columns * bits), None)
    if bits is None or columns % 16:
        raise weight.refuse(f"{weight.shape[1]} bytes a row for {columns} columns", "4 or 6 bits a column")
    weight.need("row_scale", ("F32", "BF16", "F16"), weight.rows, "weight_s_channel")
    if "codebook" in weight.beside:
        weight.need("codebook", ("F32", "BF16", "F16"), 1 << bits, "weight_codebook")
    if "correction" in weight.beside:
        weight.need("correction", ("F32", "BF16", "F16"), scale.shape[0] * scale.shape[1], "weight_correction")
    form = W4a8(bits, group, rotated_group(weight, columns))
    return weight.packed(form, (weight.rows, columns), *_COMPANIONS.values())


FORMAT = StoredFormat({"asym_w4a8_int8": "I8"}, _read, _COMPANIONS)
