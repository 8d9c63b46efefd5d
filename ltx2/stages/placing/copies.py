"""What a device does beside computing: copies and unpacking on streams of their own, and events between the streams."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

Event = Any
# Pinned memory comes in powers of two (torch rounds up, and keeps what it once had): smaller rests are not worth one.
SMALLEST_PIECE = 1 << 20


class Copies(Protocol):
    """A device with three streams: one computes, one copies, one unpacks. Work of a stream is done in order; between
    streams nothing is in order but what waits for an event."""

    def host_bytes(self, size: int) -> torch.Tensor:
        """Main memory [size] uint8 that copies to the device run from beside computing. Raises RuntimeError where the
        system gives no more."""

    def device_bytes(self, size: int) -> torch.Tensor:
        """Memory [size] uint8 of the device."""

    def fill(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Write bytes to such main memory, at once."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Bytes from main memory to the device, when all before them on the stream that copies is done."""

    def unpacking(self) -> AbstractContextManager:
        """What is computed in the block is computed by the stream that unpacks."""

    def copied(self) -> Event:
        """Happens when all that was given to the stream that copies is done."""

    def unpacked(self) -> Event:
        """The same for the stream that unpacks."""

    def computed(self) -> Event:
        """The same for the stream that computes."""

    def compute_waits(self, event: Event) -> None:
        """What is given to the stream that computes from now on is done after the event."""

    def copy_waits(self, event: Event) -> None:
        """The same for the stream that copies."""

    def unpack_waits(self, event: Event) -> None:
        """The same for the stream that unpacks."""

    def host_waits(self, event: Event) -> None:
        """Comes back after the event."""


class CudaCopies:
    """An NVIDIA or AMD card."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies, self._unpacks = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def host_bytes(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def device_bytes(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def fill(self, target: torch.Tensor, source: torch.Tensor) -> None:
        target.copy_(source)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)

    def unpacking(self) -> AbstractContextManager:
        return torch.cuda.stream(self._unpacks)

    def copied(self) -> Event:
        return self._copies.record_event()

    def unpacked(self) -> Event:
        return self._unpacks.record_event()

    def computed(self) -> Event:
        return torch.cuda.current_stream(self._device).record_event()

    def compute_waits(self, event: Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(event)

    def copy_waits(self, event: Event) -> None:
        self._copies.wait_event(event)

    def unpack_waits(self, event: Event) -> None:
        self._unpacks.wait_event(event)

    def host_waits(self, event: Event) -> None:
        event.synchronize()


def copies_of(device: torch.device) -> Copies | None:
    """How a device copies beside computing; None where it does not: layers follow their input there."""
    return CudaCopies(device) if device.type == "cuda" else None


class HostBytes:
    """Main memory that copies run from, in pieces of powers of two, that add up to hardly more than was asked for."""

    def __init__(self, copies: Copies, size: int) -> None:
        self.pieces = [copies.host_bytes(piece) for piece in pieces_of(size)]

    def fill(self, copies: Copies, offset: int, tensor: torch.Tensor) -> None:
        """Write a tensor's bytes from an offset on."""
        source = tensor.reshape(-1).view(torch.uint8)
        for piece, begin, first, count in self._within(offset, len(source)):
            copies.fill(piece[first : first + count], source[begin : begin + count])

    def copy_to(self, copies: Copies, target: torch.Tensor) -> None:
        """Send off the first bytes, as many as the target [n] uint8 of the device has."""
        for piece, begin, first, count in self._within(0, len(target)):
            copies.copy(target[begin : begin + count], piece[first : first + count])

    def _within(self, offset: int, size: int) -> Iterator[tuple[torch.Tensor, int, int, int]]:
        """Pieces that hold some of these bytes: which, from which of the bytes on, where in the piece, how many."""
        start = 0
        for piece in self.pieces:
            begin, end = max(offset, start), min(offset + size, start + len(piece))
            if begin < end:
                yield piece, begin - offset, begin - start, end - begin
            start += len(piece)


def pieces_of(size: int) -> Sequence[int]:
    """Powers of two that add up to ``size``, up to one of the smallest, the largest first."""
    units = -(-size // SMALLEST_PIECE)
    return [SMALLEST_PIECE << bit for bit in reversed(range(units.bit_length())) if units >> bit & 1]
