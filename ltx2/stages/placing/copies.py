"""What a device does beside computing: copies on a stream of its own, and events between the two streams."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

Event = Any


class Copies(Protocol):
    """A device with two streams, one that computes and one that copies. Work of a stream is done in order; between
    streams nothing is in order but what waits for an event."""

    def host_bytes(self, size: int) -> torch.Tensor:
        """Main memory [size] uint8 that copies to the device run from beside computing."""

    def device_bytes(self, size: int) -> torch.Tensor:
        """Memory [size] uint8 of the device."""

    def copying(self) -> AbstractContextManager:
        """What is computed in the block is computed by the stream that copies."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Bytes from main memory to the device, when all before them on the stream that copies is done."""

    def copied(self) -> Event:
        """Happens when all that was given to the stream that copies is done."""

    def computed(self) -> Event:
        """Happens when all that was given to the stream that computes is done."""

    def compute_waits(self, event: Event) -> None:
        """What is given to the stream that computes from now on is done after the event."""

    def copy_waits(self, event: Event) -> None:
        """The same for the stream that copies."""

    def host_waits(self, event: Event) -> None:
        """Comes back after the event."""


class CudaCopies:
    """An NVIDIA or AMD card."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def host_bytes(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def device_bytes(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def copying(self) -> AbstractContextManager:
        return torch.cuda.stream(self._stream)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def copied(self) -> Event:
        return self._stream.record_event()

    def computed(self) -> Event:
        return torch.cuda.current_stream(self._device).record_event()

    def compute_waits(self, event: Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(event)

    def copy_waits(self, event: Event) -> None:
        self._stream.wait_event(event)

    def host_waits(self, event: Event) -> None:
        event.synchronize()


def copies_of(device: torch.device) -> Copies | None:
    """How a device copies beside computing; None where it does not: layers follow their input there."""
    return CudaCopies(device) if device.type == "cuda" else None
