"""Presets of dev models: many steps, all guidance."""

from dataclasses import replace
from typing import Any

from .settings import Preset, StageSettings

GUIDED = StageSettings(
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
_SHARED: dict[str, Any] = {
    "width": 768,
    "height": 512,
    "from_checkpoint": ("num_inference_steps", "stg_blocks_video", "stg_blocks_audio", "image_crf"),
    "audio_from": "denoise",
    "negative_prompt": "full",
}

PRESETS = (
    Preset("ltx2_base", "LTX-2 dev: 40 guided steps", denoise=GUIDED, **_SHARED),
    Preset(
        "ltx2_3_base",
        "LTX-2.3 and 2.5 dev: 30 guided steps",
        denoise=replace(GUIDED, num_inference_steps=30, stg_blocks_video=(28,), stg_blocks_audio=(28,)),
        **_SHARED,
    ),
)
