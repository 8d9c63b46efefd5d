"""A tensor that is still in its file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import torch

from .weight_file import WeightFile

# What is read on its way elsewhere passes through a few places of this size, again and again: they stay in the
# processor's cache, where fresh memory for each tensor would be brought in page by page (a tenth of the speed).
READ_AT_ONCE_BYTES = 1 << 22
LANES = 2  # one is read into while the other is copied from
# Copies of less than this are over sooner than an event is made.
SMALL_BYTES = 1 << 16


class Lane:
    """A place in main memory that copies to a device run from."""

    def __init__(self, size: int) -> None:
        self.memory = torch.empty(size, dtype=torch.uint8)

    def send(self, target: torch.Tensor, part: torch.Tensor) -> None:
        """Copy what was read, or begin to."""
        target.copy_(part)

    def wait(self) -> None:
        """Comes back when nothing is copied from here any more."""


class CudaLane(Lane):
    """Pinned memory: copies to an NVIDIA or AMD card go on while the next piece is read."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self._stream, self._sent = torch.cuda.current_stream(device), torch.cuda.Event()

    def send(self, target: torch.Tensor, part: torch.Tensor) -> None:
        target.copy_(part, non_blocking=True)
        self._sent.record(self._stream)

    def wait(self) -> None:
        self._sent.synchronize()  # at once, where nothing was sent


def lanes_to(device: torch.device, size: int) -> Sequence[Lane]:
    """Places for bytes on their way to a device, for a tensor of ``size`` bytes: one that needs no second has none."""
    size, count = min(size, READ_AT_ONCE_BYTES), min(LANES, -(-size // READ_AT_ONCE_BYTES))
    return [CudaLane(size, device) if device.type == "cuda" else Lane(size) for _ in range(count)]


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
        """The file that it is in."""
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
        device = torch.device(device)
        on_cpu = device.type == "cpu"
        if on_cpu and wanted == self.dtype and mapped and self.offset % self.dtype.itemsize == 0:
            return self.file.view(self.offset, self.nbytes).view(self.dtype).view(self.shape)
        # What is copied anyway is read rather than mapped, so that no page of the file stays in memory.
        if on_cpu and wanted != self.dtype:
            return self._converted(wanted)
        if on_cpu or self.nbytes < SMALL_BYTES:
            return self.file.read(self.offset, self.nbytes).view(self.dtype).view(self.shape).to(device, wanted)
        return self.through(device, lanes_to(device, self.nbytes)).view(self.dtype).view(self.shape).to(wanted)

    def with_shape(self, shape: tuple[int, ...]) -> "LazyTensor":
        """The same numbers in a shape that holds as many."""
        return replace(self, shape=tuple(shape))

    def through(self, device: torch.device, lanes: Sequence[Lane]) -> torch.Tensor:
        """The bytes [nbytes] uint8 on a device, read and copied piece by piece."""
        out = torch.empty(self.nbytes, dtype=torch.uint8, device=device)
        turns = cycle(lanes)
        lane = next(turns)

        def place(at: int, count: int) -> torch.Tensor:
            nonlocal lane
            lane = next(turns)
            lane.wait()
            return lane.memory[:count]

        try:
            for at, part in self.file.chunks(self.offset, self.nbytes, place, len(lane.memory)):
                lane.send(out[at : at + len(part)], part)
        finally:
            for lane in lanes:
                lane.wait()
        return out

    def _converted(self, dtype: torch.dtype) -> torch.Tensor:
        out = torch.empty(self.shape, dtype=dtype)
        flat, size = out.view(-1), self.dtype.itemsize
        memory = torch.empty(min(self.nbytes, READ_AT_ONCE_BYTES // size * size), dtype=torch.uint8)
        for at, part in self.file.chunks(self.offset, self.nbytes, lambda _, count: memory[:count], len(memory)):
            flat[at // size : (at + len(part)) // size].copy_(part.view(self.dtype))
        return out


@dataclass(frozen=True, eq=False)
class HeldTensor:
    """A tensor in memory that takes the place of one in a file."""

    name: str
    tensor: torch.Tensor
    path: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self.tensor.dtype

    @property
    def nbytes(self) -> int:
        """How many bytes the tensor takes in memory."""
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
