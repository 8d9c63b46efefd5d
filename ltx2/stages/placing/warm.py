"""The placement of ``offload: stage`` on a card with room: what was brought stays for the next segment."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import nn

from ...checkpoint.lora import Lora
from .. import memory
from ..placement import DevicePlacement
from ..refinement import copied_transformer
from .plan import GIB

# A network stays only where this much is left beside it: the stages after it plan with what is free.
SPARE_BYTES = 10 * GIB
# For a stage that does not say what it needs.
UNTOLD_BYTES = 6 * GIB

Key = tuple[int, tuple[tuple[int, float], ...]]


@dataclass(frozen=True, eq=False)
class WarmPlacement:
    """Copies of networks stay on the device between stages and segments while there is room; the longest unused goes
    for what comes. A network that is on the device, or whose layers follow their input, is used as it is.

    limit_bytes: of the device, what may be taken; free: what is free there, the device's own word unless given.
    """

    device: torch.device | str
    limit_bytes: int | None = None
    free: Callable[[], int] | None = None
    # network and LoRAs → the network at home, which has to be alive, and its copy
    _kept: OrderedDict[Key, tuple[ref, nn.Module]] = field(default_factory=OrderedDict)
    _in_use: list[Key] = field(default_factory=list)

    def device_of(self, module: nn.Module | None) -> torch.device:
        return torch.device(self.device)

    @contextmanager
    def on(self, *modules: nn.Module, activation_bytes: int = 0) -> Iterator[tuple[Any, ...]]:
        with self._using(
            [(module, (), partial(memory.copy_to, module, self.device)) for module in modules],
            activation_bytes,
        ) as there:
            yield tuple(there)

    @contextmanager
    def transformer(
        self, module: nn.Module, loras: Sequence[tuple[Lora, float]], *, activation_bytes: int = 0
    ) -> Iterator[Any]:
        loras = [(lora, strength) for lora, strength in loras if strength]
        copied = copied_transformer(module, loras, self.device)
        if copied is None:  # works from where it is
            with DevicePlacement(self.device, self.limit_bytes).transformer(
                module, loras, activation_bytes=activation_bytes
            ) as there:
                yield there
            return
        named = tuple((id(lora), strength) for lora, strength in loras)
        with self._using([(module, named, copied)], activation_bytes) as (there,):
            yield there

    def free_bytes(self, module: nn.Module | None = None) -> int:
        return memory.free_bytes(self.device, self.limit_bytes, module) if self.free is None else self.free()

    @contextmanager
    def _using(self, wanted: Sequence[tuple[nn.Module, tuple, Callable[[], nn.Module]]], room: int) -> Iterator:
        """Networks on the device, brought or found there."""
        used: list[Key] = []
        there: list[nn.Module] = []
        try:
            for module, named, copied in wanted:
                if memory.stays(module, self.device):
                    there.append(module)
                    continue
                key = (id(module), named)
                self._in_use.append(key)
                used.append(key)
                there.append(self._brought(key, module, copied, room))
            yield there
        finally:
            for key in used:
                self._in_use.remove(key)
            self._make_room(SPARE_BYTES)

    def _brought(self, key: Key, module: nn.Module, copied: Callable[[], nn.Module], room: int) -> nn.Module:
        for dead in [one for one, (home, _) in self._kept.items() if home() is None]:
            self._drop(dead)
        if key in self._kept:
            self._kept.move_to_end(key)
            self._make_room(room or UNTOLD_BYTES)
            return self._kept[key][1]
        self._make_room(memory.weight_bytes(module) + (room or UNTOLD_BYTES))
        copy = copied()
        self._kept[key] = ref(module), copy
        return copy

    def _make_room(self, needed: int) -> None:
        """Let go of what nobody uses, the longest unused first, until so much is free."""
        for key in [one for one in self._kept if one not in self._in_use]:
            if self.free_bytes() >= needed:
                return
            self._drop(key)

    def _drop(self, key: Key) -> None:
        memory.empty(self._kept.pop(key)[1])
