"""Storage formats of quantised weights: what parts they have, and how these become the weight again.

A part is a tensor: ``weight`` always, ``scale`` and others where the format has them. Every format computes in float32,
some rows at a time, so that nothing larger than the result exists. ``column_scale`` [in] may come with any of them: the
input was to be multiplied by it, and so are the columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from .convrot import rotate_rows, rotation
from .gguf_blocks import BlockType, dequantize_blocks
from .nvfp4 import GROUP, dequantize_rows, untile_scales

WEIGHTS_AT_ONCE = 1 << 22

Parts = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Fp8:
    """Eight-bit floats, times a scale (one, or one a row) where there is one."""

    stored: str = "F8_E4M3"

    @property
    def name(self) -> str:
        return f"fp8 ({self.stored[3:].lower()})"

    def weight(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        weight, scale = parts["weight"], parts.get("scale")
        if scale is None:
            return _in_rows(shape, weight.device, dtype, lambda rows: weight.view(shape[0], -1)[rows].to(dtype))
        scale = _row_scale(scale)
        return _in_rows(shape, weight.device, dtype, lambda rows: weight.view(shape[0], -1)[rows].float() * _of(scale, rows))


@dataclass(frozen=True)
class Int8:
    """Whole numbers times a scale (one, or one a row), rotated in groups of ``rotated`` columns where that is not None."""

    rotated: int | None = None

    @property
    def name(self) -> str:
        return "int8" if self.rotated is None else f"int8 convrot {self.rotated}"

    def weight(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        weight, scale = parts["weight"], _row_scale(parts["scale"])
        matrix = None if self.rotated is None else rotation(self.rotated, weight.device)

        def of_rows(rows: slice) -> torch.Tensor:
            out = weight.view(shape[0], -1)[rows].float() * _of(scale, rows)
            return out if matrix is None else rotate_rows(out, matrix)

        return _in_rows(shape, weight.device, dtype, of_rows)


@dataclass(frozen=True)
class Nvfp4:
    """Pairs of four-bit floats, a tiled scale for each 16 and one of the whole tensor."""

    name: str = "nvfp4"

    def weight(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        packed, tensor_scale = parts["weight"], parts["tensor_scale"]
        scales = untile_scales(parts["scale"].view(torch.float8_e4m3fn), shape[0], shape[1] // GROUP)
        return _in_rows(shape, packed.device, dtype, lambda rows: dequantize_rows(packed[rows], scales[rows], tensor_scale))


@dataclass(frozen=True)
class Gguf:
    """Blocks of a GGUF file."""

    block: BlockType

    @property
    def name(self) -> str:
        return self.block.name

    def weight(self, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return dequantize_blocks(self.block, parts["weight"], dtype).view(shape)


Format = Fp8 | Int8 | Nvfp4 | Gguf


def dequantize(form: Format, parts: Parts, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """The weight of ``shape`` in ``dtype``, on the device of its parts and in memory of its own."""
    weight = form.weight(parts, shape, dtype)
    if "column_scale" in parts:
        weight *= parts["column_scale"].to(weight)
    return weight


def _in_rows(shape: tuple[int, ...], device, dtype: torch.dtype, of_rows: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    out = torch.empty(shape, dtype=dtype, device=device)
    if not out.numel():
        return out
    flat = out.view(shape[0], -1) if shape else out.view(1, 1)
    step = max(1, WEIGHTS_AT_ONCE // flat.shape[1])
    for start in range(0, len(flat), step):
        flat[start : start + step] = of_rows(slice(start, start + step))
    return out


def _row_scale(scale: torch.Tensor) -> torch.Tensor:
    """[] or [rows, 1]."""
    scale = scale.float()
    return scale.view(()) if scale.numel() == 1 else scale.view(-1, 1)


def _of(scale: torch.Tensor, rows: slice) -> torch.Tensor:
    return scale[rows] if scale.ndim else scale
