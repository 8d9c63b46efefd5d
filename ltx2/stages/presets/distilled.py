"""Presets of distilled models: few steps, no guidance, in one stage or two."""

from typing import Any

from .settings import Preset, RefineSettings, StageSettings

_LARGE: dict[str, Any] = {"width": 1536, "height": 1024, "from_checkpoint": ("sampler", "image_crf")}
_SMALL = {**_LARGE, "width": 768, "height": 512}


def _refine(steps: int, *, enabled: bool = True) -> RefineSettings:
    """A second stage of so many steps. Distilled models need no LoRA for it; one that is given counts in full."""
    stage = StageSettings(num_inference_steps=steps, schedule="refine", distilled_lora_strength=1.0)
    return RefineSettings(enabled, stage=stage)


_EIGHT_STEPS = StageSettings(num_inference_steps=8)
_ONE_STAGE: dict[str, Any] = {**_LARGE, "denoise": _EIGHT_STEPS, "refine": _refine(2, enabled=False)}

PRESETS = (
    Preset("ltx2_distilled", "LTX-2 distilled: 8 steps at full size", **_ONE_STAGE),
    Preset("ltx2_3_distilled", "LTX-2.3 and 2.5 distilled: 8 steps at full size", **_ONE_STAGE),
    Preset(
        "ltx2_two_stage",
        "distilled: 8 steps at half size, 2 at full size",
        denoise=_EIGHT_STEPS,
        refine=_refine(2),
        **_LARGE,
    ),
    Preset(
        "ltx2_fast",
        "distilled preview: 5 steps at half size, 2 at full size",
        denoise=StageSettings(num_inference_steps=5),
        refine=_refine(2),
        **_SMALL,
    ),
    Preset(
        "ltx2_quality",
        "distilled: 8 steps at half size, 3 at full size",
        denoise=_EIGHT_STEPS,
        refine=_refine(3),
        **_LARGE,
    ),
    # its pictures are so small that the H.264 which released models expect of one would leave little of it
    Preset(
        "ltx2_mini",
        "demonstration model: 8 steps at its own size",
        width=128,
        height=96,
        frames=49,
        denoise=StageSettings(num_inference_steps=8, image_crf=0),
        refine=_refine(2, enabled=False),
        from_checkpoint=("sampler",),
    ),
)
