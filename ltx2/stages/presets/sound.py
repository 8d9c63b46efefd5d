"""Presets of sound without a picture of its own: in one stage, for a picture that is known or for none."""

from dataclasses import replace
from typing import Any

from .dev import GUIDED
from .settings import Preset, StageSettings

# The picture is not made, so it has no size; the lengths are those of the other presets.
_SHARED: dict[str, Any] = {"width": 0, "height": 0}

SOUND_PRESETS = (
    Preset(
        "ltx2_sound",
        "sound by dev models: 30 or 40 guided steps",
        denoise=replace(GUIDED, num_inference_steps=30, stg_blocks_video=(28,), stg_blocks_audio=(28,)),
        from_checkpoint=("num_inference_steps", "stg_blocks_video", "stg_blocks_audio", "image_crf"),
        audio_from="denoise",
        negative_prompt="sound",
        **_SHARED,
    ),
    Preset(
        "ltx2_sound_fast",
        "sound by distilled models: 8 steps",
        denoise=StageSettings(num_inference_steps=8),
        from_checkpoint=("sampler", "image_crf"),
        **_SHARED,
    ),
)


def sound_preset_name(picture_preset: Preset) -> str:
    """The sound preset for a model that pictures are made by this preset with."""
    return SOUND_PRESETS[0].name if picture_preset.guided else SOUND_PRESETS[1].name
