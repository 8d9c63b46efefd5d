"""What reaches each stage: explicit settings beat the checkpoint's defaults, which beat the preset's."""

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from ...config.versions import ModelVersion
from ...errors import RequestError
from ...sampling import schedules
from ...sampling.samplers import SAMPLERS
from .dev import GUIDED
from .settings import SCHEDULES, STAGES, Preset, Settings, StageSettings, sigmas_of

_PAIRS = {
    "guidance_scale": "cfg_scale",
    "modality_scale": "modality_scale",
    "stg_scale": "stg_scale",
    "stg_blocks": "stg_blocks",
    "rescale_scale": "rescale_scale",
    "skip_step": "skip_step",
    "nag_scale": "nag_scale",
}
_KINDS = {
    **{f.name: f.type for f in fields(StageSettings)},
    "stg_blocks_video": tuple[int, ...],
    "stg_blocks_audio": tuple[int, ...],
    "sigmas": tuple[float, ...],
}
_REFINE_ONLY = {"enabled": bool, "add_noise": bool, "video_position_offset_sec": float, "detail": bool}


def resolve(
    preset: Preset,
    release: ModelVersion | None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    rounds: int = 0,
) -> Settings:
    """Settings of each stage. overrides: by stage (``denoise``, ``refine``, ``double``) and name, each reaching that
    stage only.

    release: the checkpoint's, None when it is unknown. rounds: how often the frame rate is doubled. ``guidance_scale``,
    ``modality_scale``, ``stg_scale``, ``stg_blocks``, ``rescale_scale``, ``skip_step`` and ``nag_scale`` set both
    streams where the same mapping does not set one by itself. None leaves a setting alone. Raises RequestError for
    unknown stages, names and values.
    """
    overrides = overrides or {}
    for stage, given in overrides.items():
        if stage not in STAGES:
            raise RequestError(f"override of stage {stage!r}, expected one of {', '.join(STAGES)}")
        if not isinstance(given, Mapping):
            raise RequestError(f"overrides of stage {stage} are {given!r}, expected names with values")
    refine_values = dict(overrides.get("refine", {}))
    top = {name: refine_values.pop(name) for name in _REFINE_ONLY if name in refine_values}
    denoise = replace(preset.denoise, **_checkpoint_defaults(preset.from_checkpoint, release))
    refine = replace(preset.refine.stage, **_checkpoint_defaults(preset.refine_from_checkpoint, release))
    denoise = _override(denoise, overrides.get("denoise", {}), "denoise")
    refine = _override(refine, refine_values, "refine")
    top = {
        name: _parse(_REFINE_ONLY[name], value, f"refine.{name}") for name, value in top.items() if value is not None
    }
    settings = replace(preset.refine, stage=refine, **top)
    settings = replace(settings, stage=_with_blocks(refine, release))
    double = _with_blocks(_override(preset.double, overrides.get("double", {}), "double"), release)
    refined = settings if settings.enabled else None
    resolved = Settings(preset, _with_blocks(denoise, release), refined, double=double, rounds=rounds)
    _check(resolved.denoise, "denoise")
    if rounds:
        _check(resolved.double, "double")
    if resolved.refine is not None:
        _check(resolved.refine.stage, "refine")
    return resolved


def parse_override(text: str) -> tuple[str, str, Any]:
    """``stage.name=value`` as on the command line; values are JSON, or text. Raises RequestError."""
    path, equals, value = text.partition("=")
    stage, dot, name = path.strip().partition(".")
    if not (equals and dot and name):
        raise RequestError(f"override {text!r}, expected STAGE.NAME=VALUE such as refine.num_inference_steps=2")
    try:
        return stage, name, json.loads(value)
    except ValueError:
        return stage, name, value


def setting_overrides(
    *,
    nag: tuple[float | None, ...] = (None,),
    eta: float | None = None,
    image_strength: tuple[float | None, float | None] | None = None,
) -> dict[str, dict[str, float]]:
    """Overrides of several stages. nag: scale, alpha and tau, as ``nag_overrides`` takes them; eta: of ancestral
    samplers; image_strength: of pictures in the first and second stage. None leaves a value alone."""
    found = nag_overrides(*nag)
    for stage, firm in zip(("denoise", "refine"), image_strength or (None, None)):
        said = {"eta": eta, "image_strength": firm}
        found[stage] = found.get(stage, {}) | {name: value for name, value in said.items() if value is not None}
    return {stage: given for stage, given in found.items() if given}


def nag_overrides(
    scale: float | None, alpha: float | None = None, tau: float | None = None
) -> dict[str, dict[str, float]]:
    """Overrides of every stage for a negative prompt within the text attention; None leaves a value alone."""
    given = {"nag_scale": scale, "nag_alpha": alpha, "nag_tau": tau}
    said = {name: value for name, value in given.items() if value is not None}
    return {stage: dict(said) for stage in STAGES} if said else {}


def override_names(stage: str) -> tuple[str, ...]:
    """Names that may be overridden in a stage."""
    names = [*_PAIRS, *_KINDS, *(_REFINE_ONLY if stage == "refine" else ())]
    return tuple(dict.fromkeys(names))


def _override(settings: StageSettings, given: Mapping[str, Any], stage: str) -> StageSettings:
    known = override_names(stage)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise RequestError(f"{stage}.{unknown[0]} is no setting of stage {stage}, expected one of {', '.join(known)}")
    changes: dict[str, Any] = {}
    for name, value in itertools.chain(
        (
            (f"{_PAIRS[name]}_{stream}", given[name])
            for name in given
            if name in _PAIRS
            for stream in ("video", "audio")
        ),
        ((name, value) for name, value in given.items() if name not in _PAIRS),
    ):
        if value is not None:
            changes[name] = _parse(_KINDS[name], value, f"{stage}.{name}")
    if "num_inference_steps" in changes:
        changes.setdefault("sigmas", None)  # of the preset: they have a count of their own
    return replace(settings, **changes)


def _parse(kind, value, name: str):
    try:
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and not isinstance(value, bool) and int(value) == float(value):
            return int(value)
        if kind is float and not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
        if kind is str and isinstance(value, str):
            return value
        if kind == tuple[int, ...]:
            return tuple(_parse(int, item, name) for item in _listed(value))
        if kind == tuple[float, ...]:
            return tuple(_parse(float, item, name) for item in _listed(value))
    except (TypeError, ValueError, OverflowError) as error:  # infinity is no whole number
        raise RequestError(f"{name} is {value!r}, expected {_spoken(kind)}") from error
    raise RequestError(f"{name} is {value!r}, expected {_spoken(kind)}")


def _listed(value):
    if isinstance(value, str):
        return [item for item in value.replace(",", " ").split() if item]
    return value if isinstance(value, Iterable) else [value]


def _spoken(kind) -> str:
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
    return plain.get(kind) or ("whole numbers" if kind == tuple[int, ...] else "numbers")


def _checkpoint_defaults(names: tuple[str, ...], release: ModelVersion | None) -> dict[str, Any]:
    if release is None:
        return {}
    known = {
        "num_inference_steps": release.steps,
        "stg_blocks_video": release.stg_blocks,
        "stg_blocks_audio": release.stg_blocks,
        "image_crf": float(release.image_crf),
        "sampler": "euler_ancestral" if release.ancestral_distilled else "euler",
    }
    return {name: known[name] for name in names}


def _with_blocks(settings: StageSettings, release: ModelVersion | None) -> StageSettings:
    """STG blocks where a scale asks for them and nobody named any."""
    blocks = release.stg_blocks if release is not None else GUIDED.stg_blocks_video
    return replace(
        settings,
        stg_blocks_video=blocks if settings.stg_blocks_video is None else settings.stg_blocks_video,
        stg_blocks_audio=blocks if settings.stg_blocks_audio is None else settings.stg_blocks_audio,
    )


def _check(settings: StageSettings, stage: str) -> None:
    if settings.schedule not in SCHEDULES:
        raise RequestError(f"{stage}.schedule is {settings.schedule!r}, expected one of {', '.join(SCHEDULES)}")
    if settings.sampler not in SAMPLERS:
        raise RequestError(f"{stage}.sampler is {settings.sampler!r}, expected one of {', '.join(SAMPLERS)}")
    for name in ("rescale_scale_video", "rescale_scale_audio"):
        if not 0 <= getattr(settings, name) <= 1:
            raise RequestError(f"{stage}.{name} is {getattr(settings, name):g}, expected 0 to 1")
    for name in ("skip_step_video", "skip_step_audio"):
        if getattr(settings, name) < 0:
            raise RequestError(f"{stage}.{name} is {getattr(settings, name)}, expected 0 (run every step) or more")
    for name in ("nag_scale_video", "nag_scale_audio"):
        if getattr(settings, name) < 0:
            raise RequestError(f"{stage}.{name} is {getattr(settings, name):g}, expected 0 (off) or more, such as 11")
    if not 0 <= settings.nag_alpha <= 1:
        raise RequestError(f"{stage}.nag_alpha is {settings.nag_alpha:g}, expected 0 (off) to 1")
    if settings.nag_tau < 1:
        raise RequestError(f"{stage}.nag_tau is {settings.nag_tau:g}, expected 1 or more")
    if not 0 <= settings.eta <= 1:
        raise RequestError(f"{stage}.eta is {settings.eta:g}, expected 0 (no fresh noise) to 1")
    if not 0 <= settings.image_strength <= 1:
        raise RequestError(f"{stage}.image_strength is {settings.image_strength:g}, expected 0 (no effect) to 1")
    if not 0 <= settings.image_crf <= 51:
        raise RequestError(f"{stage}.image_crf is {settings.image_crf:g}, expected 0 (off) to 51")
    # tells wrong step counts and sigma lists before any model is loaded
    sigmas_of(settings, tokens=schedules.MAX_TOKENS)
