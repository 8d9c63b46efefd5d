"""Storage formats of quantised weights: what parts they have, and how these become the weight again.

A part is a tensor: ``weight`` always, ``scale`` and others where the format has them. Every format computes in float32,
some rows at a time, so that nothing larger than the result exists. ``column_scale`` [in] may come with any of them: the
input was to be multiplied by it, and so are the columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from .convrot import rotate_rows, rotation
from .gguf_blocks import BlockType, dequantize_blocks, weights_at_once
from .nvfp4 import GROUP, dequantize_rows, untile_scales

Parts = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Fp8:
    """Eight-bit floats, times a scale (one, or one a row) where there is one."""

    stored: str = "F8_E4M3"

    @property
    def name(self) -> str:
        return f"fp8 ({self.stored[3:].lower()})"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        weight, scale = parts["weight"], parts.get("scale")
        scale = None if scale is None else _row_scale(scale)

        def of_rows(rows: slice) -> torch.Tensor:
            part = _widened(weight.view(_rows(out), -1)[rows])
            return part if scale is None else part.mul_(_of(scale, rows))

        _in_rows(out, of_rows)


@dataclass(frozen=True)
class Int8:
    """Whole numbers times a scale (one, or one a row), rotated in groups of ``rotated`` columns where that is not
    None."""

    rotated: int | None = None

    @property
    def name(self) -> str:
        return "int8" if self.rotated is None else f"int8 convrot {self.rotated}"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        weight, scale = parts["weight"], _row_scale(parts["scale"])
        matrix = None if self.rotated is None else rotation(self.rotated, weight.device)

        def of_rows(rows: slice) -> torch.Tensor:
            part = weight[rows].float().mul_(_of(scale, rows))
            return part if matrix is None else rotate_rows(part, matrix)

        _in_rows(out, of_rows)


@dataclass(frozen=True)
class Nvfp4:
    """Pairs of four-bit floats, a tiled scale for each 16 and one of the whole tensor."""

    name: str = "nvfp4"

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        packed, tensor_scale = parts["weight"], parts["tensor_scale"]
        scales = untile_scales(parts["scale"].view(torch.float8_e4m3fn), len(out), out.shape[1] // GROUP)
        _in_rows(out, lambda rows: dequantize_rows(packed[rows], scales[rows], tensor_scale))


@dataclass(frozen=True)
class Gguf:
    """Blocks of a GGUF file."""

    block: BlockType

    @property
    def name(self) -> str:
        return self.block.name

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        dequantize_blocks(self.block, parts["weight"], out.view(-1, self.block.block_weights))


Format = Fp8 | Int8 | Nvfp4 | Gguf


def dequantize(form: Format, parts: Parts, out: torch.Tensor) -> torch.Tensor:
    """Write the weight to ``out``, which has its shape, any floating-point dtype and the device of the parts. Returns
    ``out``."""
    if out.numel():
        form.fill(out, parts)
    if "column_scale" in parts:
        out *= parts["column_scale"].to(out)
    return out


def _in_rows(out: torch.Tensor, of_rows: Callable[[slice], torch.Tensor]) -> None:
    flat = out.view(_rows(out), -1)
    step = max(1, weights_at_once(out.device) // flat.shape[1])
    for start in range(0, len(flat), step):
        flat[start : start + step] = of_rows(slice(start, start + step))


def _rows(weight: torch.Tensor) -> int:
    return len(weight) if weight.ndim else 1


def _widened(weight: torch.Tensor) -> torch.Tensor:
    """Eight-bit floats as float32."""
    if weight.device.type != "cpu":
        return weight.float()
    # torch converts them one by one on the CPU; looking each up among all 256 is several times as fast
    values = torch.arange(256, dtype=torch.uint8).view(weight.dtype).float()
    return values.index_select(0, weight.reshape(-1).view(torch.uint8).int()).view(weight.shape)


def _row_scale(scale: torch.Tensor) -> torch.Tensor:
    """[] or [rows, 1]."""
    scale = scale.float()
    return scale.view(()) if scale.numel() == 1 else scale.view(-1, 1)


def _of(scale: torch.Tensor, rows: slice) -> torch.Tensor:
    return scale[rows] if scale.ndim else scale
