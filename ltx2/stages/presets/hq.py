"""The preset of dev models with their distilled LoRA: fewer, second-order steps, and a second stage."""

from dataclasses import replace

from .dev import GUIDED
from .settings import Preset, RefineSettings, StageSettings

PRESETS = (
    Preset(
        "ltx2_hq",
        "dev with the distilled LoRA: 15 second-order steps at half size, 3 at full size",
        width=1920,
        height=1088,
        denoise=replace(
            GUIDED,
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
        ),
        refine=RefineSettings(
            True,
            stage=StageSettings(
                num_inference_steps=3, schedule="refine", sampler="res_2s", distilled_lora_strength=0.5
            ),
        ),
        audio_from="denoise",
        negative_prompt="full",
    ),
)
