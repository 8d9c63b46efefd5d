"""What an adapter file says about one weight: which kind of difference, its factors, and how they change the weight."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from ..quantization.packed import QuantizedTensor
from ..recognition.damage import places_of
from ..recognition.holes import check_places

Shape = tuple[int, ...]
Parts = Mapping[str, torch.Tensor]
# Scales and the like keep their precision where factors are kept in the type that the network computes in.
SMALL_PART = 1 << 16


class Kind(Protocol):
    """A kind of difference. A frozen value: scales and options, no tensors."""

    @property
    def name(self) -> str:
        """What people call the kind: ``LoRA``, ``LoHa``."""

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that factors of these shapes are for, seen as [out, in] or in full. What they leave open is taken
        from ``wanted``, the weight they are tried on."""

    def rank(self, shapes: Mapping[str, Shape]) -> int | None:
        """The rank of the factors; None for a kind that has none."""

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight [out, …] of any floating-point type in place. parts: on the weight's device."""


@dataclass(frozen=True, eq=False)
class Difference:
    """One weight's difference that is still in its file."""

    kind: Kind
    parts: Mapping[str, LazyTensor | QuantizedTensor]

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of its factors, by name."""
        return {name: tuple(part.shape) for name, part in self.parts.items()}

    @property
    def rank(self) -> int | None:
        """The rank of its factors; None for a kind that has none."""
        return self.kind.rank(self.shapes)

    @property
    def scale(self) -> float:
        """What the product of its factors is multiplied with, such as alpha / rank; 1 for a kind that has none."""
        return float(getattr(self.kind, "scale", 1.0))

    def weight_shape(self, wanted: Shape = ()) -> Shape:
        """The shape of the weight that it changes; see :meth:`Kind.weight_shape`."""
        return self.kind.weight_shape(self.shapes, tuple(wanted))

    def fits(self, shape: Shape) -> bool:
        """Whether a weight of this shape can take it."""
        found, shape = self.weight_shape(shape), tuple(shape)
        return found == shape or (len(found) == 2 and bool(shape) and found == (shape[0], math.prod(shape[1:])))


@dataclass(frozen=True, eq=False)
class Scaled:
    """A difference at a strength."""

    difference: Difference
    strength: float

    def load(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "LoadedDifference":
        """Its factors in memory, large ones as ``dtype`` (None: as stored). Raises CheckpointError for numbers that are
        not finite."""
        loaded = {}
        for name, part in self.difference.parts.items():
            check_places(places_of(part.name, part))
            small = math.prod(part.shape) <= SMALL_PART
            tensor = part.load(device, torch.float32 if small and dtype is not None else dtype)
            check_finite(tensor, part)
            loaded[name] = tensor
        return LoadedDifference(self.difference.kind, self.strength, loaded)


@dataclass(frozen=True, eq=False)
class LoadedDifference:
    """A difference with its factors in memory, ready to change a weight."""

    kind: Kind
    strength: float
    parts: Parts

    def apply(self, weight: torch.Tensor) -> None:
        """Change a weight in place, on the device that it is on."""
        self.kind.apply(weight, {name: part.to(weight.device) for name, part in self.parts.items()}, self.strength)


def check_finite(tensor: torch.Tensor, part: LazyTensor | QuantizedTensor) -> None:
    """Raise CheckpointError for numbers that are not finite, naming the tensor and its file."""
    if not torch.isfinite(tensor).all():
        raise CheckpointError(
            f"{part.path} holds numbers that are not finite in {part.name}: the LoRA is damaged, get it again"
        )


def add_product(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor, factor: float) -> None:
    """weight += factor · left @ right, in place and without a second tensor of the weight's size."""
    weight.view(len(weight), -1).addmm_(left.to(weight.dtype), right.to(weight.dtype), alpha=factor)


def add_matrix(weight: torch.Tensor, matrix: torch.Tensor, factor: float) -> None:
    """weight += factor · matrix in place; the sum is made in float32 and rounded once."""
    if weight.dtype == torch.float32:
        weight.view(matrix.shape).add_(matrix, alpha=factor)
    else:
        weight.copy_(weight.float().view(matrix.shape).add_(matrix, alpha=factor).view(weight.shape))
