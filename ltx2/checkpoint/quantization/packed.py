"""Quantised weights, in a file and in memory: which parts they have, and how these become the weight again.

A part is a tensor: ``weight`` always, ``scale`` and others where the form has them. Every form computes in float32,
some rows at a time, so that nothing larger than the result exists. ``column_scale`` [in] may come with any of them: the
input was to be multiplied by it, and so are the columns.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from ...errors import CheckpointError
from ..lazy_tensor import HeldTensor, LazyTensor

Parts = Mapping[str, torch.Tensor]
# Parts that scale others, in types that can be looked at everywhere; a scale of eight bits has a larger one beside it.
_FINITE = ("scale", "tensor_scale", "row_scale", "group_scale", "column_scale")
_CHECKED = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Form(Protocol):
    """How a weight is stored. A frozen value: what a format's options say, no tensors."""

    @property
    def name(self) -> str:
        """What people call the form: ``fp8 (e4m3)``, ``Q4_K``."""

    @property
    def pads_to(self) -> int:
        """Rows and columns may be stored up to the next multiple of this; 1: they are stored as they are."""

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``, which has its shape, any floating-point dtype and the device of the parts."""


@dataclass(frozen=True)
class PackedWeight:
    """A weight in its storage form, loaded."""

    form: Form
    shape: tuple[int, ...]
    parts: Parts


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A quantised weight that is still in its file, under the name and shape of the weight. Loads as bfloat16 if not
    told otherwise."""

    name: str
    shape: tuple[int, ...]
    form: Form
    parts: Mapping[str, LazyTensor]
    dtype: torch.dtype = torch.bfloat16

    @property
    def path(self) -> Path:
        """The file that it is in."""
        return self.parts["weight"].path

    @property
    def nbytes(self) -> int:
        """How many bytes all its parts take in the file."""
        return sum(part.nbytes for part in self.parts.values())

    @property
    def stored(self) -> str:
        """The form's name."""
        return self.form.name

    def load(
        self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, *, mapped: bool = False
    ) -> torch.Tensor:
        """The weight, dequantised on ``device``, always in memory of its own. Errors: as of LazyTensor."""
        out = torch.empty(self.shape, dtype=dtype or self.dtype, device=device)
        return dequantize(self.form, self._loaded(device, mapped=False), out)

    def pack(self, device: torch.device | str = "cpu") -> PackedWeight:
        """The weight as it is stored."""
        return PackedWeight(self.form, self.shape, self._loaded(device))

    def _loaded(self, device: torch.device | str, *, mapped: bool = True) -> dict[str, torch.Tensor]:
        """Its parts. Raises CheckpointError for scales that are not finite, which leave nothing of a weight."""
        loaded = {}
        for name, part in self.parts.items():
            loaded[name] = part.load(device, mapped=mapped)
            if name in _FINITE and part.dtype in _CHECKED and not torch.isfinite(loaded[name]).all():
                raise CheckpointError(
                    f"{part.path} holds numbers that are not finite in {part.name}: the file is damaged, get it again"
                )
        return loaded

    def with_shape(self, shape: tuple[int, ...]) -> "QuantizedTensor | None":
        """The same weight as one of ``shape``, where the form cannot tell the two apart; None where it can."""
        step = self.form.pads_to
        padded = tuple(-(-extent // step) * step for extent in shape)
        same = self.shape in (shape, padded) or (
            step == 1 and without_outer_ones(self.shape) == without_outer_ones(shape)
        )
        return replace(self, shape=tuple(shape)) if same else None


def without_outer_ones(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape less its outer dimensions of 1, which some writers leave out."""
    shape = tuple(shape)
    return shape[next((i for i, extent in enumerate(shape) if extent != 1), len(shape)) :]


def dequantize(form: Form, parts: Parts, out: torch.Tensor) -> torch.Tensor:
    """Write the weight to ``out``, which has its shape, any floating-point dtype and the device of the parts. Returns
    ``out``."""
    if out.numel():
        form.fill(out, parts)
    if "column_scale" in parts:
        out *= parts["column_scale"].to(out)
    return out


def weights_at_once(device: torch.device) -> int:
    """Few enough that float32 intermediates are small beside the weight, and on a GPU enough to keep it busy."""
    return 1 << (20 if device.type == "cpu" else 24)


def fill_rows(out: torch.Tensor, of_rows: Callable[[slice], torch.Tensor]) -> None:
    """Write a weight some rows at a time: ``of_rows(rows)`` gives those rows [n, in] float32."""
    flat = out.view(rows_of(out), -1)
    step = max(1, weights_at_once(out.device) // flat.shape[1])
    for start in range(0, len(flat), step):
        flat[start : start + step] = of_rows(slice(start, min(start + step, len(flat))))


def scale_into(out: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> None:
    """Write weight [rows, in] times a :func:`row_scale` to ``out``: in float32, rounded once, in one pass."""
    torch.mul(weight, scale.view(-1, 1), out=out)


def rows_of(weight: torch.Tensor) -> int:
    """Rows of a weight; a scalar has one."""
    return len(weight) if weight.ndim else 1


def widened(weight: torch.Tensor) -> torch.Tensor:
    """Eight-bit floats as float32."""
    if weight.device.type != "cpu":
        return weight.float()
    # torch converts them one by one on the CPU; looking each up among all 256 is several times as fast
    values = torch.arange(256, dtype=torch.uint8).view(weight.dtype).float()
    return values.index_select(0, weight.reshape(-1).view(torch.uint8).int()).view(weight.shape)


def row_scale(scale: torch.Tensor) -> torch.Tensor:
    """[] or [rows, 1] float32."""
    scale = scale.float()
    return scale.view(()) if scale.numel() == 1 else scale.view(-1, 1)


def of_rows(scale: torch.Tensor, rows: slice) -> torch.Tensor:
    """The part of a :func:`row_scale` that belongs to some rows."""
    return scale[rows] if scale.ndim else scale


def nibbles(packed: torch.Tensor) -> torch.Tensor:
    """Bytes [n, k] → the two codes of each, low one first [n, 2k], 0 to 15."""
    packed = packed.view(torch.uint8)
    return torch.stack([packed & 15, packed >> 4], -1).flatten(1)


# What a name of a file may stand for.
FileTensor = LazyTensor | HeldTensor | QuantizedTensor
