"""Layers that compute in float32 whatever type their weights are stored in.

Sound suffers audibly from half precision, and its networks are small: 16-bit weights stay 16-bit in memory and each
layer widens its own while it runs.
"""

from types import SimpleNamespace

import torch.nn.functional as F
from torch import Tensor, nn

from .ops import UNSET_OPS, Ops, is_torchs, unset


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.float(), *_widened(self))


class _Conv1d(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x.float(), *_widened(self))


class _Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x.float(), *_widened(self))


class _ConvTranspose1d(nn.ConvTranspose1d):
    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv_transpose1d(x.float(), *_widened(self), self.stride, self.padding)  # type: ignore[arg-type]


def _widened(layer) -> tuple[Tensor, Tensor | None]:
    return layer.weight.float(), None if layer.bias is None else layer.bias.float()


FULL_PRECISION_OPS = SimpleNamespace(Linear=_Linear, Conv1d=_Conv1d, Conv2d=_Conv2d, ConvTranspose1d=_ConvTranspose1d)
_UNSET = SimpleNamespace(**{name: unset(kind) for name, kind in vars(FULL_PRECISION_OPS).items()})


def full_precision(ops: Ops) -> Ops:
    """The layer set to build a float32 network from. A host's set is kept: its layers follow the type of their
    input."""
    if ops is UNSET_OPS:
        return _UNSET
    return FULL_PRECISION_OPS if is_torchs(ops) else ops
