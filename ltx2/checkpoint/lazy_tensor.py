"""A tensor that is still in its file."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .weight_file import WeightFile

READ_AT_ONCE_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """Where a tensor lies and what it is. ``stored`` is the format's own name of its dtype."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    file: WeightFile
    offset: int
    nbytes: int
    stored: str

    @property
    def path(self) -> Path:
        """Of the file that it is in."""
        return self.file.path

    def load(
        self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, *, mapped: bool = True
    ) -> torch.Tensor:
        """The tensor. On the CPU and in its own dtype it shares the mapped file and costs no memory until it is used.

        dtype: to convert to; None and tensors that hold no floating-point numbers: as stored; mapped: False
        gives it memory of its own.
        Errors: CheckpointError when the file changed since it was opened.
        """
        wanted = dtype if dtype is not None and self.dtype.is_floating_point else self.dtype
        on_cpu = torch.device(device).type == "cpu"
        if on_cpu and wanted == self.dtype and mapped and self.offset % self.dtype.itemsize == 0:
            return self.file.view(self.offset, self.nbytes).view(self.dtype).view(self.shape)
        # What is copied anyway is read rather than mapped, so that no page of the file stays in memory.
        if on_cpu and wanted != self.dtype:
            return self._converted(wanted)
        return self.file.read(self.offset, self.nbytes).view(self.dtype).view(self.shape).to(device, wanted)

    def with_shape(self, shape: tuple[int, ...]) -> "LazyTensor":
        """The same numbers in a shape that holds as many."""
        return replace(self, shape=tuple(shape))

    def _converted(self, dtype: torch.dtype) -> torch.Tensor:
        out = torch.empty(self.shape, dtype=dtype)
        flat, size = out.view(-1), self.dtype.itemsize
        step = READ_AT_ONCE_BYTES // size
        for start in range(0, len(flat), step):
            part = flat[start : start + step]
            part.copy_(self.file.read(self.offset + start * size, len(part) * size).view(self.dtype))
        return out


@dataclass(frozen=True, eq=False)
class HeldTensor:
    """A tensor in memory that takes the place of one in a file."""

    name: str
    tensor: torch.Tensor
    path: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers."""
        return self.tensor.dtype

    @property
    def nbytes(self) -> int:
        """Of the tensor in memory."""
        return self.tensor.nbytes

    @property
    def stored(self) -> str:
        """Its dtype's name."""
        return str(self.tensor.dtype).removeprefix("torch.")

    def load(
        self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, *, mapped: bool = True
    ) -> torch.Tensor:
        """The tensor on a device, as ``dtype`` where it holds floating-point numbers."""
        return self.tensor.to(device, dtype if self.tensor.is_floating_point() else None)
