"""The placement of ``offload: layers``: large networks stay in main memory, and their layers come to the device."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ...checkpoint.lora import Lora
from ...networks.layers.offload_ops import is_offloaded
from .. import memory
from ..refinement import stage_transformer
from .copies import Copies, copies_of
from .layer_stream import SetAside, blocks_of, stored_bytes, streamed

# Of the main memory that is free, how much may be set aside for copies: what is set aside is gone for everybody else.
PINNED_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class LayeredPlacement:
    """A device that copies beside computing gets one block of the transformer or of the language model while the one
    before computes; on others layers follow their input.

    copies: how it copies; None: by the device. first: the network whose blocks are set aside before those of others, as
    it runs the most passes. blocks_on_device: how many of the transformer's stay there throughout; limit_bytes: of
    the device, what may be taken; None: all that is free. aside: bytes of networks that copies run from, for as long as
    somebody has the network.
    """

    device: torch.device | str
    copies: Copies | None = None
    first: nn.Module | None = None
    blocks_on_device: int = 0
    limit_bytes: int | None = None
    aside: WeakKeyDictionary[nn.Module, SetAside] = field(default_factory=WeakKeyDictionary)

    def device_of(self, module: nn.Module | None) -> torch.device:
        return torch.device(self.device)

    @cached_property
    def _copies(self) -> Copies | None:
        """One for all stages: memory that a stream has had goes back to that stream."""
        return copies_of(torch.device(self.device)) if self.copies is None else self.copies

    @contextmanager
    def on(self, *modules: nn.Module, activation_bytes: int = 0) -> Iterator[tuple[Any, ...]]:
        with ExitStack() as held:
            yield tuple(held.enter_context(self._there(module)) for module in modules)

    def _there(self, module: nn.Module) -> AbstractContextManager[Any]:
        if self._copies is None or blocks_of(module) is None or not is_offloaded(module):
            return memory.on_device(module, self.device)
        return streamed(module, torch.device(self.device), self._copies, self._set_aside(module))

    @contextmanager
    def transformer(
        self, module: nn.Module, loras: Sequence[tuple[Lora, float]], *, activation_bytes: int = 0
    ) -> Iterator[Any]:
        device, copies = torch.device(self.device), self._copies
        with stage_transformer(module, loras, device=device) as there:
            if copies is None or blocks_of(there) is None:
                yield there
                return
            # nothing is set aside for a network that is there for one stage alone
            aside = self._set_aside(module) if there is module else SetAside(0)
            with streamed(there, device, copies, aside, blocks_on_device=self.blocks_on_device) as running:
                yield running

    def _set_aside(self, network: nn.Module) -> SetAside:
        """What may be set aside of a network, decided when it first comes: for others than the first what that one will
        leave."""
        if network not in self.aside:
            room = PINNED_SHARE * memory.free_bytes("cpu")
            if self.first is not None and network is not self.first and self.first not in self.aside:
                room -= stored_bytes(self.first)
            self.aside[network] = SetAside(max(room, 0))
        return self.aside[network]

    def free_bytes(self, module: nn.Module | None = None) -> int:
        return memory.free_bytes(self.device, self.limit_bytes, module)
