"""Every setting of a stage changes what the stage makes."""

import functools
from dataclasses import fields

import numpy as np
import pytest
import torch

from ltx2.stages.pipeline import encode_texts, generate
from ltx2.stages.presets import StageSettings
from ltx2.stages.request import Request
from ltx2.values import ImageCondition

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
# under which each of them has something to do; what is of guidance only with several passes a step
AROUND = {
    "num_inference_steps": 3,
    "schedule": "dev",
    "sampler": "euler_ancestral",
    "nag_scale": 5,
    "image_strength": 0.5,
}
GUIDED = {"num_inference_steps": 2, "stg_blocks": [0]}
OF_GUIDANCE = ("cfg_scale", "modality_scale", "stg_", "rescale_scale", "skip_step")
ANOTHER = {
    "num_inference_steps": 4,
    "schedule": "distilled",
    "sigmas": [1, 0.6, 0.3, 0],
    "shift_by_size": True,
    "sampler": "euler",
    **{f"{name}_{stream}": 2 for name in ("cfg_scale", "modality_scale", "stg_scale") for stream in ("video", "audio")},
    **{f"{name}_{stream}": 1 for name in ("rescale_scale", "skip_step") for stream in ("video", "audio")},
    **{f"stg_blocks_{stream}": [1] for stream in ("video", "audio")},
    **{f"nag_scale_{stream}": 2 for stream in ("video", "audio")},
    "image_crf": 51,
    "image_strength": 1,
    "distilled_lora_strength": 1,
    "nag_alpha": 1,
    "nag_tau": 1,
    "eta": 0,
}


@pytest.fixture(scope="module")
def made(models):
    """Latents of a tiny clip with these overrides."""
    tiny = models("2.3")
    texts = encode_texts(tiny, ("a lake", "blur"))
    return functools.partial(latents_of, tiny, texts)


def latents_of(models, texts, preset, **overrides):
    positive, negative = texts
    given = Request(
        positive=positive,
        negative=negative,
        width=64,
        height=64,
        frames=9,
        preset=preset,
        overrides=overrides,
        images=(ImageCondition(PICTURE),),
    )
    latent = generate(models, given, decode_sounds=lambda *_, **__: (None,)).latent
    return torch.cat([latent.video.flatten(), latent.audio.flatten()])


@pytest.mark.slow
def test_each_setting_reaches_its_stage(made):
    """Whether a sampler, a pass or a picture reads it: none is kept on the way from the request to there."""
    assert set(ANOTHER) == {field.name for field in fields(StageSettings)}
    bases = {"ltx2_3_distilled": AROUND, "ltx2_3_base": GUIDED}
    plain = {preset: made(preset, denoise=around) for preset, around in bases.items()}
    unheard = []
    for name, value in ANOTHER.items():
        preset = "ltx2_3_base" if name.startswith(OF_GUIDANCE) else "ltx2_3_distilled"
        if torch.equal(plain[preset], made(preset, denoise=bases[preset] | {name: value})):
            unheard.append(name)
    assert not unheard


def test_the_second_stage_has_settings_of_its_own(made):
    first = {"num_inference_steps": 1}
    again = {"sampler": "euler_ancestral", "num_inference_steps": 2}
    plain = made("ltx2_fast", denoise=first, refine=again)
    for name, value in (("eta", 0), ("nag_scale", 5), ("image_strength", 0.5), ("num_inference_steps", 3)):
        assert not torch.equal(plain, made("ltx2_fast", denoise=first, refine=again | {name: value}))
