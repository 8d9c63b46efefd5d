"""Where networks are while they work: the pipeline asks a placement for them, and a host may have one of its own."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from ..checkpoint.lora import Lora
from . import memory
from .refinement import stage_transformer

# A network, of whose attributes torch's own type says nothing: Transformer, VideoDecoder, … or a host's stand-in.
Network = Any


class Placement(Protocol):
    """Brings networks to the device that they run on, for as long as a block runs."""

    def device_of(self, module: nn.Module | None) -> torch.device:
        """The device a network runs on; None means the transformer's."""

    def on(self, *modules: nn.Module, activation_bytes: int = 0) -> AbstractContextManager[tuple[Network, ...]]:
        """The networks on their device, all at once. activation_bytes: what they will need beside their weights,
        about."""

    def transformer(
        self, module: nn.Module, loras: Sequence[tuple[Lora, float]], *, activation_bytes: int = 0
    ) -> AbstractContextManager[Network]:
        """The transformer of one stage on its device, with LoRAs at strengths on top for this block alone."""

    def free_bytes(self, module: nn.Module | None = None) -> int:
        """Memory that can still be taken on the device of a network."""


@dataclass(frozen=True)
class DevicePlacement:
    """A device that the pipeline has to itself: networks that are elsewhere are copied there and dropped again.

    limit_bytes: of its memory, what may be taken; None: all that is free.
    """

    device: torch.device | str
    limit_bytes: int | None = None

    def device_of(self, module: nn.Module | None) -> torch.device:
        return torch.device(self.device)

    @contextmanager
    def on(self, *modules: nn.Module, activation_bytes: int = 0) -> Iterator[tuple[Network, ...]]:
        with ExitStack() as held:
            yield tuple(held.enter_context(memory.on_device(module, self.device)) for module in modules)

    @contextmanager
    def transformer(
        self, module: nn.Module, loras: Sequence[tuple[Lora, float]], *, activation_bytes: int = 0
    ) -> Iterator[Network]:
        with stage_transformer(module, loras, device=self.device) as there:
            yield there

    def free_bytes(self, module: nn.Module | None = None) -> int:
        return memory.free_bytes(self.device, self.limit_bytes, module)
