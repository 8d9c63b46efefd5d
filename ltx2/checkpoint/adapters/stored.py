"""What a file of ``kinds/`` says of its kind of adapter, and what it is given to read."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from ..quantization.packed import QuantizedTensor
from .difference import Difference

ALPHA_LIMIT = 1e6  # of what a trainer would write; beyond it, sums leave the numbers that a network can hold


@dataclass(frozen=True)
class Alpha:
    """What a difference is scaled by: ``value`` over the rank, or over its root. None: by nothing.

    rank: as a configuration says it, for kinds whose factors may have none.
    """

    value: float | None = None
    by_root: bool = False
    rank: int | None = None

    def scale(self, rank: int | None) -> float:
        """For factors of a rank; None: for factors that have none."""
        rank = self.rank if rank is None else rank
        if self.value is None or not rank:
            return 1.0
        return self.value / (math.sqrt(rank) if self.by_root else rank)


@dataclass(frozen=True, eq=False)
class StoredModule:
    """One module of an adapter file: its tensors by part, its alpha, and what else PEFT's configuration says of its
    kind."""

    path: Path
    name: str
    parts: Mapping[str, LazyTensor | QuantizedTensor]
    alpha: Alpha = Alpha()
    config: Mapping[str, Any] = field(default_factory=dict)

    def scale(self, rank: int | None) -> float:
        """What a product of this rank is multiplied with; None: of whole factors, which an alpha says nothing of (some
        trainers write 1e10 then). Raises CheckpointError for an alpha that nobody means."""
        if rank or self.alpha.rank:
            self._check_alpha()
        return self.alpha.scale(rank)

    @property
    def stated_alpha(self) -> float:
        """The alpha itself, 0 where there is none. Raises CheckpointError as :meth:`scale`."""
        self._check_alpha()
        return self.alpha.value or 0.0

    def _check_alpha(self) -> None:
        value = self.alpha.value or 0.0
        if not math.isfinite(value):
            raise CheckpointError(f"{self.path} has an alpha of {self.name} that is no number: the LoRA is damaged")
        if abs(value) > ALPHA_LIMIT:
            raise CheckpointError(
                f"{self.path} has an alpha of {self.name} of {value:g}, expected at most {ALPHA_LIMIT:g}: the LoRA is "
                "damaged"
            )

    def refuse(self, what: str) -> CheckpointError:
        """An error that names the file, what was found and the module."""
        return CheckpointError(f"{self.path} has {what} for {self.name}: the LoRA is damaged or incomplete")

    def need(self, *names: str) -> dict[str, LazyTensor | QuantizedTensor]:
        """These parts. Raises CheckpointError when some are not there, or are no matrices with numbers in them."""
        missing = [name for name in names if name not in self.parts]
        if missing:
            there = ", ".join(sorted(self.parts))
            raise self.refuse(f"{there} without {', '.join(missing)}, one half of what is needed")
        for name in names:
            if len(self.parts[name].shape) < 2 or not math.prod(self.parts[name].shape):
                raise self.refuse(f"{name} of shape {list(self.parts[name].shape)}, expected a matrix; ranks disagree")
        return {name: self.parts[name] for name in names}

    def product(self, left: str, right: str) -> tuple[dict[str, LazyTensor | QuantizedTensor], int]:
        """Two factors left [out, r] and right [r, …], and r. Raises CheckpointError when they do not go together."""
        found = self.need(left, right)
        rank = found[right].shape[0]
        if found[left].shape[1] != rank or math.prod(found[left].shape[2:]) != 1:
            raise self.refuse(
                f"factors {list(found[left].shape)} and {list(found[right].shape)}, whose ranks disagree,"
            )
        return found, rank


@dataclass(frozen=True, eq=False)
class AdapterKind:
    """A kind of adapter; a file of ``kinds/`` makes one and calls it ``KIND``.

    endings: patterns of what stands behind a module's name, each with the name of the part; read: the differences of a
    module, by what is added to its name ("" its weight, ".bias" its bias).
    """

    name: str
    endings: Mapping[str, str]
    read: Callable[[StoredModule], Mapping[str, Difference]]
