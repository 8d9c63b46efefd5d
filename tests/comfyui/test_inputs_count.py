"""Every input of a node changes what comes out, or is refused, or told: none is left out in silence."""

import pytest
import torch

from . import samples
from .made import KEPT
from .test_inputs_kept import SCRIPT, filming

PLAIN = {"preset": "ltx2_distilled", "steps": 1, "refine_steps": 0, "sampler": "euler", "two_stages": "off"}
CLIP = {
    "prompt": "A lake.", "negative_prompt": "none", "seconds": 9 / 24, "width": 64, "height": 64, "fps": 24.0,
    "preset": "by the checkpoint's name", "seed": 5, **KEPT, "audio_overlap": 9,
}  # fmt: skip


@pytest.mark.parametrize("inputs, line", [
    ({"steps": 2}, "denoise.num_inference_steps=3"),
    ({"refine_steps": 2}, "refine.num_inference_steps=3"),
    ({"sampler": "res_2s"}, "denoise.sampler=euler"),
    ({"two_stages": "on"}, "refine.enabled=false"),
    ({"image_strength": 0.7}, "denoise.image_strength=0.5"),
    ({}, "denoise.cfg_scale=2\ndenoise.cfg_scale=3"),
])  # fmt: skip
def test_two_values_of_one_setting_are_refused(run, pack, inputs, line):
    with pytest.raises(pack.ltx2.errors.RequestError, match=r"is given as .* and in overrides as .*: keep one"):
        run("Preset", **{**PLAIN, **inputs}, overrides=line)


def test_what_holds_for_all_stages_may_be_said_again_of_one(run):
    settings = run("Preset", **PLAIN, eta=0.5, nag=11.0, overrides="refine.eta=0.2\nrefine.nag_scale=5").args[0]
    assert settings.overrides["denoise"] | {"eta": 0.5, "nag_scale": 11.0} == settings.overrides["denoise"]
    assert settings.overrides["refine"] == {"enabled": False, "eta": 0.2, "nag_scale": 5}


def test_what_nothing_of_a_clip_reads_is_told(run, made):
    settings = run("Preset", **PLAIN, image_strength=0.5).args[0]
    shown = {"frames": samples.frames(9), "strength": 1.0, "attention": 1.0, "stages": "both stages"}
    seen = run("ReferenceVideo", **shown).args[0]
    asked = {**CLIP, "preset": "ltx2_fast", "settings": settings}
    told = run("Generate", **made.parts, **asked, conditions=seen).args[4].splitlines()
    expected = (
        "preset ltx2_fast has no effect: settings are connected",
        "image_strength has no effect: there is no picture",
        "a reference for both stages is seen by one: preset ltx2_distilled has no second stage",
    )
    assert set(expected) <= set(told)
    clip = run("PrepareLatent", width=64, height=64, length=9, unit="frames", fps=24.0, conditions=seen).args[0]
    denoised = run(
        "Denoise", model=made.parts["model"], latent=clip, seed=5, preset=settings, **made.texts, **made.vaes
    )
    assert set(expected[1:]) <= set(denoised.args[0].notes) and set(expected[1:]) <= set(denoised.ui["text"])
    slots = run("KeyframeSlots", number=3, frames="8, 16")
    assert slots.ui["text"] == ["number 3 has no effect: frames names 2"] and slots.args[0].slots == (8, 16)


def test_a_start_of_no_sound_is_refused(run, pack, made):
    own = run("UseAudio", audio=made.sound).args[0]
    refused = pytest.raises(pack.ltx2.errors.RequestError, match="audio_start is 2, and no sound is connected")
    with refused:
        run("Generate", **made.parts, **CLIP, audio_start=2.0, conditions=own)
    with refused:
        run(
            "Story", **made.parts, script=SCRIPT.replace("    image: picture.png\n", ""), folder="film", audio_start=2.0
        )


def test_a_mask_where_the_picture_stays_is_refused(run, pack, made):
    part = {"start": 0.2, "end": 0.5, "images": made.images, "audio": made.audio}
    with pytest.raises(pack.ltx2.errors.RequestError, match="a mask is of the picture"):
        run("Retake", **filming(made, None, what="sound", mask=torch.ones(1, 64, 64), **part))
