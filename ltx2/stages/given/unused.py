"""Settings that were given and that nothing in a job reads: each is told, none is left out in silence."""

from collections.abc import Iterator, Mapping
from typing import Any

from ...sampling.samplers import SAMPLERS
from ..models import Models
from ..presets import Settings, StageSettings
from .prompts import stages_of, uses_nag

# read before there are stages, or told where the second one looks at the first
_ELSEWHERE = ("enabled", "detail")


def unused_settings(models: Models, request: Any, settings: Settings) -> tuple[str, ...]:
    """One note for each override of a request that has no effect with these models and settings."""
    notes = (
        *_unused_eta(request, settings),
        *_without_second_stage(request.overrides, settings),
        *_without_nag(request.overrides, settings),
        *(note for name, stage in _running(settings) for note in _of_stage(models, _asked(request, name), stage)),
    )
    return tuple(dict.fromkeys(notes))


def unused_conditions(request: Any, settings: Settings, *, anchored: bool = False) -> tuple[str, ...]:
    """One note for what a person says of one clip's pictures and references that nothing of it reads. anchored: a guide
    of the scene's beginning may stand in it."""
    notes = []
    said = any(given.get("image_strength") is not None for given in request.overrides.values())
    if said and not request.images and not anchored:
        notes.append("image_strength has no effect: there is no picture")
    both = any(one.stages == "both" for one in request.references)
    # a draft leaves the second stage out, and says so
    if both and settings.refine is None and not settings.half_size:
        missing = f"preset {settings.preset.name} has no second stage"
        notes.append(f"a reference for both stages is seen by one: {missing}")
    return tuple(notes)


def _running(settings: Settings) -> Iterator[tuple[str, StageSettings]]:
    return zip(("denoise", "refine"), stages_of(settings))


def _asked(request: Any, stage: str) -> dict[str, Any]:
    return {name: value for name, value in request.overrides.get(stage, {}).items() if value is not None}


def _unused_eta(request: Any, settings: Settings) -> tuple[str, ...]:
    """A note where an eta is given for a stage whose sampler draws no noise."""
    asked = {name: stage for name, stage in _running(settings) if "eta" in _asked(request, name)}
    if not asked or any(SAMPLERS[stage.sampler].uses_eta for stage in asked.values()):
        return ()
    used = " and ".join(dict.fromkeys(stage.sampler for stage in asked.values()))
    return (f"eta has no effect with {used}: choose euler_ancestral, or a preset that runs with it",)


def _without_second_stage(overrides: Mapping[str, Mapping[str, Any]], settings: Settings) -> tuple[str, ...]:
    if settings.refine is not None:
        return ()
    # what was said of all stages counts in the first
    said = overrides.get("denoise", {})
    refine = {name: value for name, value in overrides.get("refine", {}).items() if value is not None}
    unused = next((n for n, value in refine.items() if n not in _ELSEWHERE and said.get(n) != value), None)
    only = "a draft" if settings.draft and settings.half_size else f"preset {settings.preset.name}"
    return () if unused is None else (f"refine.{unused} has no effect: {only} has no second stage",)


def _without_nag(overrides: Mapping[str, Mapping[str, Any]], settings: Settings) -> tuple[str, ...]:
    given = [name for stage in overrides.values() for name, value in stage.items() if value is not None]
    shares = [name for name in ("nag_alpha", "nag_tau") if name in given]
    if not shares or uses_nag(settings) or any(name.startswith("nag_scale") for name in given):
        return ()
    return tuple(f"{name} has no effect: nag is off, 11 is usual" for name in shares)


def _of_stage(models: Models, asked: Mapping[str, Any], stage: StageSettings) -> Iterator[str]:
    """What one stage that runs does not read of what is asked of it."""
    if "num_inference_steps" in asked and "sigmas" in asked:
        yield "num_inference_steps has no effect: sigmas say how many steps there are"
    for stream in ("video", "audio"):
        blocks, scale = getattr(stage, f"stg_blocks_{stream}"), getattr(stage, f"stg_scale_{stream}")
        if scale and {"stg_scale", f"stg_scale_{stream}"} & set(asked) and models.transformer is not None:
            count = models.transformer.config.layers
            if all(block >= count for block in blocks or ()):
                yield f"stg_scale has no effect: the transformer has blocks 0 to {count - 1}, name some as stg_blocks"
