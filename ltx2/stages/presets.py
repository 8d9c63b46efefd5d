"""Presets by name, and what reaches each stage: explicit settings beat the checkpoint's defaults, which beat the
preset's.

The first four are the reference pipeline's; numbers checked against FastVideo 0.2.1 and the models' own pipelines.
"""

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from ..config.versions import ModelVersion
from ..errors import RequestError
from ..sampling import schedules
from ..sampling.guidance import Guidance, StreamGuidance, passes
from ..sampling.samplers import SAMPLERS

STAGES = ("denoise", "refine")
SCHEDULES = ("dev", "distilled", "refine")


@dataclass(frozen=True)
class StageSettings:
    """How one stage denoises.

    schedule: ``dev``, ``distilled`` (1 to 8 steps) or ``refine`` (2 or 3); sigmas: an explicit list instead.
    shift_by_size: the dev schedule is shifted for this very clip's token count rather than for 4096 tokens. stg_blocks:
    None takes the checkpoint's. image_crf: H.264 quality for conditioning pictures. distilled_lora_strength: of the
    LoRA that makes a dev model fit for few steps, on this stage's copy of the transformer.
    """

    num_inference_steps: int = 8
    schedule: str = "distilled"
    sigmas: tuple[float, ...] | None = None
    shift_by_size: bool = False
    sampler: str = "euler"
    cfg_scale_video: float = 1.0
    cfg_scale_audio: float = 1.0
    modality_scale_video: float = 1.0
    modality_scale_audio: float = 1.0
    stg_scale_video: float = 0.0
    stg_scale_audio: float = 0.0
    stg_blocks_video: tuple[int, ...] | None = None
    stg_blocks_audio: tuple[int, ...] | None = None
    rescale_scale_video: float = 0.0
    rescale_scale_audio: float = 0.0
    skip_step_video: int = 0
    skip_step_audio: int = 0
    image_crf: float = 33.0
    distilled_lora_strength: float = 0.0


@dataclass(frozen=True)
class RefineSettings:
    """Whether a second stage at twice the size follows, and how. add_noise False starts it from the upsampled latents
    as they are.

    video_position_offset_sec: None takes the request's.
    """

    enabled: bool = False
    add_noise: bool = True
    video_position_offset_sec: float | None = None
    stage: StageSettings = StageSettings(num_inference_steps=3, schedule="refine", distilled_lora_strength=1.0)


@dataclass(frozen=True)
class Preset:
    """A named set of defaults.

    from_checkpoint: settings of the first stage that the checkpoint's release overrules. audio_from: the stage whose
    sound is heard when there are two.
    """

    name: str
    title: str
    width: int
    height: int
    denoise: StageSettings
    refine: RefineSettings = RefineSettings()
    from_checkpoint: tuple[str, ...] = ("image_crf",)
    audio_from: str = "refine"
    negative_prompt: str = ""
    version: int = 1
    frames: int = 121
    fps: int = 24
    seed: int = 10

    @property
    def guided(self) -> bool:
        return self.denoise.schedule == "dev"


_GUIDED = StageSettings(
    num_inference_steps=40,
    schedule="dev",
    cfg_scale_video=3.0,
    cfg_scale_audio=7.0,
    modality_scale_video=3.0,
    modality_scale_audio=3.0,
    stg_scale_video=1.0,
    stg_scale_audio=1.0,
    stg_blocks_video=(29,),
    stg_blocks_audio=(29,),
    rescale_scale_video=0.7,
    rescale_scale_audio=0.7,
)
_DEV_DEFAULTS = ("num_inference_steps", "stg_blocks_video", "stg_blocks_audio", "image_crf")
_DISTILLED_DEFAULTS = ("sampler", "image_crf")
_GUIDED_2_3 = replace(_GUIDED, num_inference_steps=30, stg_blocks_video=(28,), stg_blocks_audio=(28,))
_HQ = replace(
    _GUIDED,
    num_inference_steps=15,
    shift_by_size=True,
    sampler="res_2s",
    stg_scale_video=0.0,
    stg_scale_audio=0.0,
    stg_blocks_video=None,
    stg_blocks_audio=None,
    rescale_scale_video=0.45,
    rescale_scale_audio=1.0,
    distilled_lora_strength=0.25,
)
# Distilled models need no LoRA to refine.
_PLAIN_REFINE = StageSettings(num_inference_steps=3, schedule="refine")


def _refine(steps: int, *, enabled: bool = True) -> RefineSettings:
    return RefineSettings(enabled=enabled, stage=replace(_PLAIN_REFINE, num_inference_steps=steps))


PRESETS: tuple[Preset, ...] = (
    Preset("ltx2_base", "LTX-2 dev: 40 guided steps", 768, 512, _GUIDED, from_checkpoint=_DEV_DEFAULTS,
    audio_from="denoise",
           negative_prompt="full"),
    Preset("ltx2_3_base", "LTX-2.3 and 2.5 dev: 30 guided steps", 768, 512, _GUIDED_2_3, from_checkpoint=_DEV_DEFAULTS,
           audio_from="denoise", negative_prompt="full"),
    Preset("ltx2_distilled", "LTX-2 distilled: 8 steps at full size", 1536, 1024, StageSettings(), refine=_refine(2,
    enabled=False),
           from_checkpoint=_DISTILLED_DEFAULTS),
    Preset("ltx2_3_distilled", "LTX-2.3 and 2.5 distilled: 8 steps at full size", 1536, 1024, StageSettings(),
           refine=_refine(2, enabled=False), from_checkpoint=_DISTILLED_DEFAULTS),
    Preset("ltx2_two_stage", "distilled: 8 steps at half size, 2 at full size", 1536, 1024, StageSettings(),
    refine=_refine(2),
           from_checkpoint=_DISTILLED_DEFAULTS),
    Preset("ltx2_fast", "distilled preview: 5 steps at half size, 2 at full size", 768, 512,
    StageSettings(num_inference_steps=5),
           refine=_refine(2), from_checkpoint=_DISTILLED_DEFAULTS),
    Preset("ltx2_quality", "distilled: 8 steps at half size, 3 at full size", 1536, 1024, StageSettings(),
    refine=_refine(3),
           from_checkpoint=_DISTILLED_DEFAULTS),
    Preset("ltx2_hq", "dev with the distilled LoRA: 15 second-order steps at half size, 3 at full size", 1920, 1088,
    _HQ,
           refine=RefineSettings(True, stage=replace(_PLAIN_REFINE, sampler="res_2s", distilled_lora_strength=0.5)),
           audio_from="denoise", negative_prompt="full"),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a request's stages run with, after all defaults: refine is None when there is one stage only."""

    preset: Preset
    denoise: StageSettings
    refine: RefineSettings | None

    @property
    def audio_from(self) -> str:
        return "denoise" if self.refine is None else self.preset.audio_from

    def __str__(self) -> str:
        guided = "guided " if len(passes(guidance_of(self.denoise))) > 1 else ""
        first = f"preset {self.preset.name}: {_steps(self.denoise)} {guided}steps"
        return first if self.refine is None else f"{first} at half size, {_steps(self.refine.stage)} at full size"


def find_preset(name: str, version: int | None = None) -> Preset:
    """The preset of a name, in its newest version unless one is given. Raises RequestError listing the known ones."""
    named = [preset for preset in PRESETS if preset.name == name and version in (None, preset.version)]
    if not named:
        known = ", ".join(f"{p.name} (version {p.version})" for p in PRESETS)
        wanted = name if version is None else f"{name} version {version}"
        raise RequestError(f"there is no preset {wanted}, expected one of {known}")
    return max(named, key=lambda preset: preset.version)


def preset_for(file_names: Iterable[str], release: ModelVersion) -> Preset:
    """The preset for a checkpoint when none was named. Dev and distilled files differ in nothing but their names."""
    old = release.name == "2.0"
    if any("distilled" in name.lower() for name in file_names):
        return find_preset("ltx2_distilled" if old else "ltx2_3_distilled")
    return find_preset("ltx2_base" if old else "ltx2_3_base")


def resolve(
    preset: Preset, release: ModelVersion | None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Settings of each stage. overrides: by stage (``denoise``, ``refine``) and name, each reaching that stage only.

    release: the checkpoint's, None when it is unknown. ``guidance_scale``, ``modality_scale``, ``stg_scale``,
    ``stg_blocks``, ``rescale_scale`` and ``skip_step`` set both streams where the same mapping does not set one by
    itself. None leaves a setting alone. Raises RequestError for unknown stages, names and values.
    """
    overrides = overrides or {}
    for stage, given in overrides.items():
        if stage not in STAGES:
            raise RequestError(f"override of stage {stage!r}, expected one of {', '.join(STAGES)}")
        if not isinstance(given, Mapping):
            raise RequestError(f"overrides of stage {stage} are {given!r}, expected names with values")
    refine_values = dict(overrides.get("refine", {}))
    top = {name: refine_values.pop(name) for name in _REFINE_ONLY if name in refine_values}
    denoise = replace(preset.denoise, **_checkpoint_defaults(preset, release))
    refine = preset.refine.stage
    if release is not None:
        refine = replace(refine, image_crf=float(release.image_crf))
    denoise = _override(denoise, overrides.get("denoise", {}), "denoise")
    refine = _override(refine, refine_values, "refine")
    top = {
        name: _parse(_REFINE_ONLY[name], value, f"refine.{name}") for name, value in top.items() if value is not None
    }
    settings = replace(preset.refine, stage=refine, **top)
    settings = replace(settings, stage=_with_blocks(refine, release))
    plan = Settings(preset, _with_blocks(denoise, release), settings if settings.enabled else None)
    for stage, checked in (("denoise", plan.denoise), ("refine", plan.refine and plan.refine.stage)):
        if checked is not None:
            _check(checked, stage)
    return plan


def _steps(settings: StageSettings) -> int:
    return settings.num_inference_steps if settings.sigmas is None else len(settings.sigmas) - 1


def guidance_of(settings: StageSettings) -> Guidance:
    def stream(name: str) -> StreamGuidance:
        def value(key: str):
            return getattr(settings, f"{key}_{name}")

        return StreamGuidance(
            cfg=value("cfg_scale"),
            modality=value("modality_scale"),
            stg=value("stg_scale"),
            rescale=value("rescale_scale"),
            stg_blocks=value("stg_blocks") or (),
            skip_step=value("skip_step"),
        )

    return Guidance(stream("video"), stream("audio"))


def sigmas_of(settings: StageSettings, *, tokens: int, shift: tuple[float, float] | None = None) -> torch.Tensor:
    """A stage's sigma list. tokens: of its video latent, guides not counted; shift: of the dev schedule at 1024 and
    4096 tokens."""
    if settings.sigmas is not None:
        return schedules.check_sigmas(settings.sigmas, to_zero=True)
    if settings.schedule == "refine":
        return schedules.refine_sigmas(settings.num_inference_steps)
    if settings.schedule == "distilled":
        return schedules.distilled_sigmas(settings.num_inference_steps)
    base, high = shift or (schedules.BASE_SHIFT, schedules.MAX_SHIFT)
    return schedules.dev_sigmas(
        settings.num_inference_steps,
        tokens=tokens if settings.shift_by_size else schedules.MAX_TOKENS,
        base_shift=base,
        max_shift=high,
    )


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


# ---------------------------------------------------------------------------------------------------------------

_PAIRS = {
    "guidance_scale": "cfg_scale",
    "modality_scale": "modality_scale",
    "stg_scale": "stg_scale",
    "stg_blocks": "stg_blocks",
    "rescale_scale": "rescale_scale",
    "skip_step": "skip_step",
}
_KINDS = {
    **{f.name: f.type for f in fields(StageSettings)},
    "stg_blocks_video": tuple[int, ...],
    "stg_blocks_audio": tuple[int, ...],
    "sigmas": tuple[float, ...],
}
_REFINE_ONLY = {"enabled": bool, "add_noise": bool, "video_position_offset_sec": float}


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
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} is {value!r}, expected {_spoken(kind)}") from error
    raise RequestError(f"{name} is {value!r}, expected {_spoken(kind)}")


def _listed(value):
    if isinstance(value, str):
        return [item for item in value.replace(",", " ").split() if item]
    return value if isinstance(value, Iterable) else [value]


def _spoken(kind) -> str:
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
    return plain.get(kind) or ("whole numbers" if kind == tuple[int, ...] else "numbers")


def _checkpoint_defaults(preset: Preset, release: ModelVersion | None) -> dict[str, Any]:
    if release is None:
        return {}
    known = {
        "num_inference_steps": release.steps,
        "stg_blocks_video": release.stg_blocks,
        "stg_blocks_audio": release.stg_blocks,
        "image_crf": float(release.image_crf),
        "sampler": "euler_ancestral" if release.ancestral_distilled else "euler",
    }
    return {name: known[name] for name in preset.from_checkpoint}


def _with_blocks(settings: StageSettings, release: ModelVersion | None) -> StageSettings:
    """STG blocks where a scale asks for them and nobody named any."""
    blocks = release.stg_blocks if release is not None else _GUIDED.stg_blocks_video
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
    if not 0 <= settings.image_crf <= 51:
        raise RequestError(f"{stage}.image_crf is {settings.image_crf:g}, expected 0 (off) to 51")
    # tells wrong step counts and sigma lists before any model is loaded
    sigmas_of(settings, tokens=schedules.MAX_TOKENS)
