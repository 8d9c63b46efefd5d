"""A negative prompt on models without guidance, from the request to the latents."""

import pytest
import torch

from ltx2.errors import RequestError
from ltx2.stages.pipeline import generate, make_job
from ltx2.stages.presets import find_preset, guidance_of, nag_overrides, resolve
from ltx2.stages.request import Request
from ltx2.story.script import parse_script

STEP = {"num_inference_steps": 1}


def latent(models, negative="rain", **values):
    overrides = {stage: {**STEP, **given} for stage, given in nag_overrides(**values).items()} or {"denoise": STEP}
    overrides.pop("refine", None)
    request = Request("A lake.", negative, "ltx2_3_distilled", width=64, height=64, frames=9, overrides=overrides)
    return generate(models, request, decode_sounds=lambda *a, **k: (None,)).latent


def test_off_is_exactly_off_and_on_the_negative_prompt_counts(models):
    models = models("2.3")
    plain = latent(models, negative=None, scale=None)
    for off in ({"scale": 0}, {"scale": 1}, {"scale": 11, "alpha": 0}):
        found = latent(models, **off)
        assert torch.equal(found.video, plain.video) and torch.equal(found.audio, plain.audio)
    rain, fog = latent(models, scale=11), latent(models, "fog", scale=11)
    for stream in ("video", "audio"):
        parts = [getattr(one, stream) for one in (plain, rain, fog)]
        assert not torch.equal(parts[0], parts[1]) and not torch.equal(parts[1], parts[2])


def test_a_negative_prompt_that_no_stage_reads_is_told(models):
    def told(negative, preset="ltx2_3_distilled", **overrides):
        request = Request("A lake.", negative, preset, width=64, height=64, frames=9, overrides=overrides)
        return any("the negative prompt has no effect" in note for note in make_job(models("2.3"), request).notes)

    assert told("rain") and told("short") and told("full") and not told("") and not told(None)
    assert not told("rain", **nag_overrides(11)) and not told("rain", "ltx2_3_base")
    assert told("rain", **nag_overrides(11, alpha=0))


def test_every_stage_takes_it_and_odd_values_are_refused():
    preset = find_preset("ltx2_quality")
    settings = resolve(preset, None, nag_overrides(11, tau=3))
    for stage in (settings.denoise, settings.refine.stage):
        for stream in (guidance_of(stage).video, guidance_of(stage).audio):
            assert (stream.nag_scale, stream.nag_alpha, stream.nag_tau) == (11, 0.25, 3) and stream.uses_nag
    for values, sentence in (
        ({"scale": -1}, "nag_scale_video is -1, expected 0"),
        ({"scale": 1, "alpha": 2}, "nag_alpha is 2, expected 0"),
        ({"scale": 1, "tau": 0.5}, "nag_tau is 0.5, expected 1"),
    ):
        with pytest.raises(RequestError, match=sentence):
            resolve(preset, None, nag_overrides(**values))


def test_scripts_name_it_shortly_or_in_full():
    short, long = (parse_script(f"nag: {nag}\nsegments: [a]") for nag in ("11", "{scale: 11, tau: 3}"))
    assert short.overrides == {"denoise.nag_scale": 11, "refine.nag_scale": 11}
    assert long.overrides == short.overrides | {"denoise.nag_tau": 3, "refine.nag_tau": 3}
    own = parse_script("nag: 11\noverride: {refine.nag_scale: 0}\nsegments: [a]")
    assert own.overrides == {"denoise.nag_scale": 11, "refine.nag_scale": 0}
