"""The kinds of adapters that are read, one a file: a file here that has a ``KIND`` is known everywhere."""

import re
from importlib import import_module
from pkgutil import iter_modules

from ..stored import AdapterKind

KINDS: tuple[AdapterKind, ...] = tuple(
    import_module(f".{name}", __name__).KIND for name in sorted(module.name for module in iter_modules(__path__))
)
_KEY = re.compile(rf".+\.(?:{'|'.join(ending for kind in KINDS for ending in kind.endings)})")


def is_adapter_key(name: str) -> bool:
    """Whether a tensor is called as one of an adapter of these kinds."""
    return _KEY.fullmatch(name) is not None
