"""What a file of ``formats/`` says of its format, and what it is given to read."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from .packed import Form, QuantizedTensor


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """One weight of a safetensors file and what stands beside it.

    beside: tensors by part, as the formats' ``companions`` name them; about: the description of the layer, empty when
    there is none.
    """

    name: str
    tensor: LazyTensor
    beside: Mapping[str, LazyTensor] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as stored, which may be packed."""
        return self.tensor.shape

    @property
    def rows(self) -> int:
        """How many rows the weight has; a scalar has one."""
        return self.shape[0] if self.shape else 1

    def option(self, key: str, default: Any = None) -> Any:
        """An option of the description, which may stand in it or in its ``params``."""
        inner = self.about.get("params")
        return self.about.get(key, inner.get(key, default) if isinstance(inner, dict) else default)

    def count(self, part: str) -> int | None:
        """How many numbers a part holds; None when it is not there."""
        found = self.beside.get(part)
        return None if found is None else math.prod(found.shape)

    def refuse(self, found: str, expected: str) -> CheckpointError:
        """An error that names the file, the weight, what was found and what to use instead."""
        return CheckpointError(
            f"{self.tensor.path} stores {self.name} with {found}, expected {expected}: use the bf16, fp8 or GGUF file"
        )

    def need(self, part: str, stored: tuple[str, ...], count: int, what: str) -> LazyTensor:
        """A part of these dtypes and so many numbers. Raises CheckpointError when it is missing or another."""
        found = self.beside.get(part)
        if found is None or found.stored not in stored or math.prod(found.shape) != count:
            there = f"no {what}" if found is None else f"{what} {found.stored} {list(found.shape)}"
            raise self.refuse(there, f"{count} of {stored[0]}")
        return found

    def packed(self, form: Form, shape: tuple[int, ...], *parts: str) -> QuantizedTensor:
        """The weight in a form with these parts, as far as they are there."""
        kept = {"weight": self.tensor}
        kept |= {part: self.beside[part] for part in (*parts, "column_scale") if part in self.beside}
        columns = self.count("column_scale")
        if columns is not None and (len(shape) != 2 or columns != shape[1]):
            raise self.refuse(f"pre_quant_scale {list(self.beside['column_scale'].shape)}", "one number a column")
        return QuantizedTensor(self.name, tuple(shape), form, kept)


@dataclass(frozen=True, eq=False)
class StoredFormat:
    """A storage format of safetensors files; a file of ``formats/`` makes one and calls it ``FORMAT``.

    kinds: what descriptions call it, each with the dtype of the stored weight; companions: what stands beside
    ``layer.weight``, by its name after the layer's, with the name of the part; read: the weight, described or
    recognised (``kind`` says as what); recognise: its kind when nothing describes it, or None.
    """

    kinds: Mapping[str, str]
    read: Callable[[StoredWeight, str], QuantizedTensor]
    companions: Mapping[str, str] = field(default_factory=dict)
    recognise: Callable[[StoredWeight], str | None] = lambda weight: None
