"""Presets that run as the official ComfyUI templates of LTX-2.3 and 2.5 do: a second stage from a sigma of 0.85, and a
picture that the first stage may move away from a little."""

from typing import Any

from .settings import Preset, RefineSettings, StageSettings

REFINE_SIGMAS = (0.85, 0.725, 0.421875, 0.0)
# the templates' own: light compression of pictures, which count less while the shot is laid out
IMAGES: dict[str, Any] = {"image_crf": 18.0}
LAYOUT_STRENGTH = 0.7


def _two_stages(sampler: str, loras: tuple[float, float]) -> dict[str, Any]:
    """Both stages with one sampler. loras: strengths of the distilled LoRA, of each stage."""
    shared = {"sampler": sampler, **IMAGES}
    first = StageSettings(
        num_inference_steps=8, image_strength=LAYOUT_STRENGTH, distilled_lora_strength=loras[0], **shared
    )
    second = StageSettings(
        num_inference_steps=3, schedule="refine", sigmas=REFINE_SIGMAS, distilled_lora_strength=loras[1], **shared
    )
    return {"denoise": first, "refine": RefineSettings(True, stage=second)}


_SIZE: dict[str, Any] = {"width": 1280, "height": 704, "from_checkpoint": (), "refine_from_checkpoint": ()}

PRESETS = (
    Preset(
        "ltx2_3_template",
        "as the 2.3 templates: dev with the distilled LoRA at half strength, 8 steps at half size, 3 at full size",
        **_two_stages("euler", (0.5, 0.5)),
        **_SIZE,
    ),
    Preset(
        "ltx2_5_template",
        "as the 2.5 templates: distilled, 8 ancestral steps at half size, 3 at full size",
        **_two_stages("euler_ancestral", (0.0, 1.0)),
        **_SIZE,
    ),
)
