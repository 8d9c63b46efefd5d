"""The layer set a network is built from: torch's own by default, a host's streaming or quantising one handed in."""

from typing import Any, Protocol

from torch import nn


class Ops(Protocol):
    """Layer classes with the constructors of ``torch.nn`` (``device=`` and ``dtype=`` included).

    Networks only call such layers and never read their ``weight`` in forward: where it lives, and in what form, is the
    layer's own affair.
    """

    Linear: Any
    Conv1d: Any
    Conv2d: Any
    Conv3d: Any
    ConvTranspose1d: Any
    LayerNorm: Any
    RMSNorm: Any
    GroupNorm: Any
    Embedding: Any


TORCH_OPS: Ops = nn
