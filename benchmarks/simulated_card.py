"""A card that is not there: three streams and the host, each with its clock, and whoever touches memory out of turn is
caught.

Everything is done at once, so results are real. Whether it would have been right on a card is known from what had
waited for what: every piece of work has a number on its stream, every stream knows up to which numbers of the others it
has waited, and reading or writing memory that somebody else may still be writing or reading raises :class:`OutOfTurn`.
Seconds are worked out from rates.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import finalize

import torch

HOST, COMPUTE, COPY, UNPACK = "the host", "what computes", "what copies", "what unpacks"


class OutOfTurn(AssertionError):
    """Memory was touched by one while another was not done with it."""


@dataclass(frozen=True)
class Rates:
    """Bytes a second over the bus and into main memory that copies run from; seconds to unpack a block, and of the host
    to start a block's kernels."""

    bus: float = float("inf")
    fill: float = float("inf")
    unpack: float = 0
    launch: float = 0


@dataclass(frozen=True)
class Event:
    """What was done, of each stream up to which number, and when."""

    seen: dict[str, int]
    time: float


@dataclass(eq=False)
class Lane:
    """A stream. seen: of each, itself included, the work that is done before whatever comes next here."""

    name: str
    time: float = 0
    seen: dict[str, int] = field(default_factory=dict)

    def wait(self, event: Event) -> None:
        """What comes next comes after the event."""
        self.time = max(self.time, event.time)
        for name, number in event.seen.items():
            self.seen[name] = max(self.seen.get(name, 0), number)


@dataclass(eq=False)
class Uses:
    """Of a piece of memory: who wrote to it last, and who read it since; stream and number."""

    written: tuple[str, int] = (HOST, 0)
    read: list[tuple[str, int]] = field(default_factory=list)


class SimulatedCard:
    """A device as :class:`ltx2.stages.placing.copies.Copies` asks for. device: where its memory is, ``cpu`` or ``meta``
    (for the clock alone)."""

    def __init__(self, rates: Rates = Rates(), device: str = "cpu") -> None:  # noqa: B008 (frozen)
        self.rates, self._device = rates, device
        self.lanes = {name: Lane(name) for name in (HOST, COMPUTE, COPY, UNPACK)}
        self.log: list[str] = []
        self.device_size = self.host_size = self.copied_bytes = 0
        self.pinned_limit = float("inf")
        self._uses: dict[int, Uses] = {}

    # --- what a stream of layers asks for ------------------------------------------------------------------------

    def host_bytes(self, size: int) -> torch.Tensor:
        if self.host_size + size > self.pinned_limit:
            raise RuntimeError("CUDA error: out of memory")
        self.host_size += size
        memory = self._memory(size)
        finalize(memory, self._given_back, size)
        return memory

    def _given_back(self, size: int) -> None:
        self.host_size -= size

    def device_bytes(self, size: int) -> torch.Tensor:
        self.device_size += size
        return self._memory(size)

    def fill(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self._work(HOST, len(source) / self.rates.fill, reads=(), writes=(target,))
        target.copy_(source)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.log.append("copy")
        self.copied_bytes += len(target)
        self._work(COPY, len(target) / self.rates.bus, reads=(source,), writes=(target,))
        target.copy_(source)

    @contextmanager
    def unpacking(self) -> Iterator[None]:
        """The slots of the latest copies are what is written; :meth:`unpacks` says what else is touched."""
        self.log.append("unpack")
        self._work(UNPACK, self.rates.unpack, reads=(), writes=())
        yield

    def copied(self) -> Event:
        return self._event(COPY)

    def unpacked(self) -> Event:
        return self._event(UNPACK)

    def computed(self) -> Event:
        return self._event(COMPUTE)

    def compute_waits(self, event: Event) -> None:
        self.log.append("compute waits")
        self.lanes[COMPUTE].wait(event)

    def copy_waits(self, event: Event) -> None:
        self.lanes[COPY].wait(event)

    def unpack_waits(self, event: Event) -> None:
        self.lanes[UNPACK].wait(event)

    def host_waits(self, event: Event) -> None:
        self.lanes[HOST].wait(event)

    # --- what whoever runs blocks tells it ----------------------------------------------------------------------

    def computes(self, reads: Iterable[torch.Tensor], seconds: float = 0) -> None:
        """A block computes with these tensors."""
        self.lanes[HOST].time += self.rates.launch
        self.log.append("compute")
        self._work(COMPUTE, seconds, reads=reads, writes=())

    def unpacks(self, reads: Iterable[torch.Tensor], writes: Iterable[torch.Tensor]) -> None:
        """Weights become others, as part of what is unpacked just now."""
        self._work(UNPACK, 0, reads=reads, writes=writes)

    @property
    def time(self) -> float:
        """When all that was given to compute is done."""
        return self.lanes[COMPUTE].time

    def check_idle(self) -> None:
        """Raise OutOfTurn where memory of the device, which whoever computes next may get, is not done with."""
        compute = self.lanes[COMPUTE]
        for name in (COPY, UNPACK):
            if self.lanes[name].seen.get(name, 0) > compute.seen.get(name, 0):
                raise OutOfTurn(f"memory was given back while {name} was not done with it")

    # --- the rest -------------------------------------------------------------------------------------------------

    def _memory(self, size: int) -> torch.Tensor:
        # not a number, in every floating-point type
        memory = torch.full((size,), 0xFF, dtype=torch.uint8, device=self._device)
        self._uses[memory.untyped_storage()._cdata] = Uses()
        return memory

    def _event(self, name: str) -> Event:
        lane = self.lanes[name]
        return Event(dict(lane.seen), lane.time)

    def _work(
        self, name: str, seconds: float, *, reads: Iterable[torch.Tensor], writes: Iterable[torch.Tensor]
    ) -> None:
        """One piece of work of a stream; the host's own, and what it gave before, come before it."""
        lane, host = self.lanes[name], self.lanes[HOST]
        lane.wait(Event({HOST: host.seen.get(HOST, 0)}, host.time))
        number = lane.seen[name] = lane.seen.get(name, 0) + 1
        lane.time += seconds
        for memory in reads:
            if (uses := self._used(memory)) is not None:
                self._check(lane, [uses.written], "reads what", "still being written")
                uses.read.append((name, number))
        for memory in writes:
            if (uses := self._used(memory)) is not None:
                self._check(lane, [uses.written], "writes over what", "still being written")
                self._check(lane, uses.read, "writes over what", "still being read")
                uses.written, uses.read = (name, number), []

    def _used(self, memory: torch.Tensor) -> Uses | None:
        return self._uses.get(memory.untyped_storage()._cdata)

    @staticmethod
    def _check(lane: Lane, uses: Iterable[tuple[str, int]], does: str, is_what: str) -> None:
        for name, number in uses:
            if name != lane.name and number > lane.seen.get(name, 0):
                raise OutOfTurn(f"{lane.name} {does} is {is_what} by {name}")
