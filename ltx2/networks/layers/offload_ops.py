"""Layers whose weights stay in main memory and go to their input for one call: a network larger than the card still
runs on it."""

from types import SimpleNamespace

import torch.nn.functional as F
from torch import Tensor, nn


class _OffloadLinear(nn.Linear):
    is_offloaded = True

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, *_cast(self, x))


class _OffloadRMSNorm(nn.RMSNorm):
    is_offloaded = True

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.device), self.eps)


def _cast(layer, x: Tensor) -> tuple[Tensor, Tensor | None]:
    to = {"device": x.device, "dtype": x.dtype, "non_blocking": True}
    return layer.weight.to(**to), None if layer.bias is None else layer.bias.to(**to)


# What a transformer, its connectors, its text projection and a language model are made of.
OFFLOAD_OPS = SimpleNamespace(Linear=_OffloadLinear, RMSNorm=_OffloadRMSNorm)


def is_offloaded(network: nn.Module) -> bool:
    """Whether a network works from where it is, because its layers follow their input."""
    return any(getattr(layer, "is_offloaded", False) for layer in network.modules())
