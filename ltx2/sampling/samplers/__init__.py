"""Samplers: from noise along a sigma schedule to a clean latent. One file a sampler, which registers itself.

A file of this folder that defines ``SAMPLER`` is a sampler that presets, overrides and nodes can name; nothing else
lists it. Latents stay in the dtype they come in; the arithmetic is float32 (float64 in res_2s).
"""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from ...errors import RequestError
from .protocol import Sampler


def _registered() -> Mapping[str, Sampler]:
    modules = (import_module(f".{found.name}", __name__) for found in pkgutil.iter_modules(__path__))
    samplers = [module.SAMPLER for module in modules if hasattr(module, "SAMPLER")]
    return MappingProxyType({sampler.name: sampler for sampler in sorted(samplers, key=lambda s: (s.rank, s.name))})


SAMPLERS: Mapping[str, Sampler] = _registered()


def find_sampler(name: str) -> Sampler:
    """The sampler of a name. Raises RequestError listing the known ones."""
    if name not in SAMPLERS:
        raise RequestError(f"sampler is {name!r}, expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


__all__ = ["SAMPLERS", "Sampler", "find_sampler"]
