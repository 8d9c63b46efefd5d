"""A draft: a quick look at the film that the same request would make, not at another one.

Of two stages it runs the first, which is where everything is decided that the second only sharpens. One stage alone
runs half of its steps, at its own size: another size would be another film.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .settings import Settings

LENGTHS = ("num_inference_steps", "sigmas")  # settings that say how many steps a stage runs


def drafted(settings: Settings, overrides: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings of a draft. overrides: steps that they ask for stay as they are."""
    if settings.refine is not None:
        return replace(settings, refine=None, draft=True, half_size=True, rounds=0)
    asked = overrides.get("denoise", {})
    if any(asked.get(name) is not None for name in LENGTHS):
        return replace(settings, draft=True, rounds=0)
    steps = (settings.denoise.num_inference_steps + 1) // 2
    return replace(settings, denoise=replace(settings.denoise, num_inference_steps=steps), draft=True, rounds=0)
