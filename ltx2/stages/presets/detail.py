"""The preset of LTX-2.5's released keyframe pipeline: no guidance, a second stage that looks at the first one's result
with the release's detailing LoRA, and the sound of the first."""

from .settings import Preset, RefineSettings, StageSettings

PRESETS = (
    Preset(
        "ltx2_5_detail",
        "2.5 dev with the distilled LoRA, and its detailing LoRA at stage 2: 8 steps at half size, 3 at full size",
        width=1280,
        height=704,
        denoise=StageSettings(num_inference_steps=8, distilled_lora_strength=1.0),
        refine=RefineSettings(
            True,
            stage=StageSettings(num_inference_steps=3, schedule="refine", distilled_lora_strength=1.0),
            detail=True,
        ),
        audio_from="denoise",
    ),
)
