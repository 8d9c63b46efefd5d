"""The placement of ``offload: layers``: large networks stay in main memory, and their layers come to the device."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ...checkpoint.lora import Lora
from .. import memory
from ..placement import DevicePlacement
from ..refinement import stage_transformer
from .blocks import BlockBytes
from .copies import Copies, copies_of
from .layer_stream import HostBytes, can_stream, kept_bytes, streamed

# Of the main memory that is free, how much may be set aside for copies: what is set aside is gone for everybody else.
PINNED_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class LayeredPlacement:
    """A device that copies beside computing gets one block of the transformer while the one before computes; on others
    layers follow their input.

    copies: how it copies; None: by the device. resident: how many blocks are there throughout; limit_bytes: of the
    device, what may be taken; None: all that is free. kept: bytes of networks that copies run from, for as long as
    somebody has the network.
    """

    device: torch.device | str
    copies: Copies | None = None
    resident: int = 0
    limit_bytes: int | None = None
    kept: WeakKeyDictionary[nn.Module, Sequence[HostBytes]] = field(default_factory=WeakKeyDictionary)

    def device_of(self, module: nn.Module | None) -> torch.device:
        return torch.device(self.device)

    def on(self, *modules: nn.Module, activation_bytes: int = 0) -> AbstractContextManager[tuple[Any, ...]]:
        return DevicePlacement(self.device, self.limit_bytes).on(*modules, activation_bytes=activation_bytes)

    @contextmanager
    def transformer(
        self, module: nn.Module, loras: Sequence[tuple[Lora, float]], *, activation_bytes: int = 0
    ) -> Iterator[Any]:
        device = torch.device(self.device)
        copies = copies_of(device) if self.copies is None else self.copies
        with stage_transformer(module, loras, device=device) as there:
            if copies is None or not can_stream(there):
                yield there
                return

            def keep(blocks: Sequence[BlockBytes]) -> Sequence[HostBytes] | None:
                return self._kept(there, module, blocks, copies)

            with streamed(there, device, copies, keep, resident=self.resident) as running:
                yield running

    def _kept(
        self, network: nn.Module, home: nn.Module, blocks: Sequence[BlockBytes], copies: Copies
    ) -> Sequence[HostBytes] | None:
        """The bytes of a network's blocks where copies run from, set aside once for all stages and segments; None where
        main memory is short, and for a network that is there for one stage alone."""
        if network is not home:
            return None
        if network not in self.kept:
            size = sum(block.plain_bytes + block.packed_bytes for block in blocks)
            if size > PINNED_SHARE * memory.free_bytes("cpu"):
                return None
            self.kept[network] = kept_bytes(blocks, copies)
        return self.kept[network]

    def free_bytes(self, module: nn.Module | None = None) -> int:
        return memory.free_bytes(self.device, self.limit_bytes, module)
