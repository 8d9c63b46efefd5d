"""The kinds of adapters that are read, one a file: a file here that has a ``KIND`` is known everywhere."""

from importlib import import_module
from pkgutil import iter_modules

from ..stored import AdapterKind

KINDS: tuple[AdapterKind, ...] = tuple(
    import_module(f".{name}", __name__).KIND for name in sorted(module.name for module in iter_modules(__path__))
)
