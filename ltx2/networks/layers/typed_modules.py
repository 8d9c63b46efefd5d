"""What lies in a ``ModuleList`` or ``ModuleDict``, for type checkers: torch calls all of it ``Module``."""

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def list_of(kind: type[Kind], modules: nn.Module) -> Sequence[Kind]:
    """The same list. kind: of all that lies in it."""
    return cast(Sequence[Kind], modules)


def dict_of(kind: type[Kind], modules: nn.Module) -> Mapping[str, Kind]:
    """The same dictionary. kind: of all that lies in it."""
    return cast(Mapping[str, Kind], modules)
