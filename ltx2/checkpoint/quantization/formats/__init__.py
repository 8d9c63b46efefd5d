"""The storage formats that are read, one a file: a file here that has a ``FORMAT`` is known everywhere."""

from importlib import import_module
from pkgutil import iter_modules

from ..stored import StoredFormat

FORMATS: tuple[StoredFormat, ...] = tuple(
    import_module(f".{name}", __name__).FORMAT for name in sorted(module.name for module in iter_modules(__path__))
)
