import argparse

import pytest
import torch

from ltx2.cli.arguments.settings import add_setting_arguments
from ltx2.config.versions import release
from ltx2.errors import RequestError, StoryError
from ltx2.sampling import schedules
from ltx2.stages.presets import (
    PRESETS,
    Settings,
    find_preset,
    guidance_of,
    override_names,
    parse_override,
    preset_for,
    resolve,
    setting_overrides,
    sigmas_of,
)
from ltx2.stages.request import Request, make_job
from ltx2.story.script import parse_script

V2_0, V2_3, V2_5 = (release(version) for version in ((2, 0), (2, 3), (2, 5)))


def resolved(name, version=V2_3, **overrides) -> Settings:
    return resolve(find_preset(name), version, overrides)


def test_the_known_presets():
    names = [preset.name for preset in PRESETS]
    assert names == [
        "ltx2_base",
        "ltx2_3_base",
        "ltx2_distilled",
        "ltx2_3_distilled",
        "ltx2_two_stage",
        "ltx2_fast",
        "ltx2_quality",
        "ltx2_mini",
        "ltx2_hq",
        "ltx2_3_template",
        "ltx2_5_template",
        "ltx2_5_detail",
    ]
    assert len({(preset.name, preset.version) for preset in PRESETS}) == len(PRESETS)
    assert all((p.frames, p.fps, p.seed) == (121, 24, 10) for p in PRESETS if p.name != "ltx2_mini")


@pytest.mark.parametrize("name", [preset.name for preset in PRESETS])
def test_sizes_fit_the_stages(name):
    made = resolved(name)
    multiple = 32 if made.refine is None else 64
    assert made.preset.width % multiple == 0 and made.preset.height % multiple == 0


def test_unknown_presets_are_told_the_known_ones():
    with pytest.raises(RequestError, match="one of ltx2_base, .*ltx2_5_detail"):
        find_preset("ltx3")
    with pytest.raises(RequestError, match="ltx2_base version 7"):
        find_preset("ltx2_base", 7)
    assert find_preset("ltx2_base", 1) is find_preset("ltx2_base")


def test_base_presets_set_real_guidance():
    settings = resolved("ltx2_base", V2_0).denoise
    guidance = guidance_of(settings)
    assert (settings.num_inference_steps, guidance.video.cfg, guidance.audio.cfg) == (40, 3.0, 7.0)
    assert (guidance.video.modality, guidance.video.stg, guidance.video.rescale) == (3.0, 1.0, 0.7)
    assert guidance.video.stg_blocks == guidance.audio.stg_blocks == (29,)


def test_checkpoint_defaults_beat_the_preset_and_lose_to_what_is_said():
    settings = resolved("ltx2_base", V2_5).denoise
    assert (settings.num_inference_steps, settings.stg_blocks_video, settings.image_crf) == (30, (28,), 18.0)
    unknown = resolve(find_preset("ltx2_base"), None).denoise
    assert (unknown.num_inference_steps, unknown.stg_blocks_video, unknown.image_crf) == (40, (29,), 33.0)
    said = resolved("ltx2_base", V2_5, denoise={"num_inference_steps": 12, "stg_blocks": [3], "image_crf": 0}).denoise
    assert (said.num_inference_steps, said.stg_blocks_audio, said.image_crf) == (12, (3,), 0.0)


def test_what_is_said_counts_even_where_it_equals_a_default():
    said = resolved("ltx2_two_stage", refine={"num_inference_steps": 3, "guidance_scale": 1.0, "add_noise": True})
    assert said.refine.stage.num_inference_steps == 3


def test_hq_keeps_its_own_step_count_and_shift():
    settings = resolved("ltx2_hq", V2_3).denoise
    assert (settings.num_inference_steps, settings.sampler, settings.distilled_lora_strength) == (15, "res_2s", 0.25)
    assert torch.equal(sigmas_of(settings, tokens=8160), schedules.dev_sigmas(15, tokens=8160))
    assert guidance_of(settings).audio.rescale == 1.0 and guidance_of(settings).video.rescale == 0.45
    assert resolved("ltx2_hq").refine.stage.distilled_lora_strength == 0.5


def test_the_distilled_2_5_model_starts_with_the_ancestral_sampler():
    assert resolved("ltx2_two_stage", V2_5).denoise.sampler == "euler_ancestral"
    assert resolved("ltx2_two_stage", V2_5).refine.stage.sampler == "euler"
    assert resolved("ltx2_two_stage", V2_3).denoise.sampler == "euler"
    assert resolved("ltx2_two_stage", V2_5, denoise={"sampler": "euler"}).denoise.sampler == "euler"


def test_few_steps_on_a_dev_preset_stay_on_the_dev_schedule():
    settings = resolved("ltx2_base", denoise={"num_inference_steps": 8}).denoise
    assert torch.equal(sigmas_of(settings, tokens=96), schedules.dev_sigmas(8))
    assert torch.equal(sigmas_of(resolved("ltx2_fast").denoise, tokens=96), schedules.distilled_sigmas(5))
    assert sigmas_of(settings, tokens=96, shift=(0.5, 1.0))[1] < schedules.dev_sigmas(8)[1]


def test_refine_runs_one_pass_unless_asked():
    stage = resolved("ltx2_base", V2_3, refine={"enabled": True}).refine.stage
    guidance = guidance_of(stage)
    assert (guidance.video.cfg, guidance.video.modality, guidance.video.stg) == (1.0, 1.0, 0.0)
    stage = resolved("ltx2_base", V2_3, refine={"enabled": True, "stg_scale_video": 1.0}).refine.stage
    assert guidance_of(stage).video.stg == 1.0 and guidance_of(stage).video.stg_blocks == (28,)


def test_overrides_reach_exactly_their_stage():
    usual = resolved("ltx2_quality")
    changed = resolved(
        "ltx2_quality",
        refine={"num_inference_steps": 2, "guidance_scale": 2, "image_crf": 5, "video_position_offset_sec": 1},
    )
    assert changed.denoise == usual.denoise
    assert (
        changed.refine.stage.num_inference_steps,
        changed.refine.stage.cfg_scale_audio,
        changed.refine.stage.image_crf,
    ) == (2, 2.0, 5.0)
    assert changed.refine.video_position_offset_sec == 1.0
    changed = resolved("ltx2_quality", denoise={"num_inference_steps": 4}, refine={"num_inference_steps": 2})
    assert (changed.denoise.num_inference_steps, changed.refine.stage.num_inference_steps) == (4, 2)


def test_a_pair_sets_both_streams_and_loses_to_one_set_by_itself():
    settings = resolved("ltx2_base", denoise={"cfg_scale_audio": 5, "guidance_scale": 2, "rescale_scale": 0}).denoise
    assert (settings.cfg_scale_video, settings.cfg_scale_audio) == (2.0, 5.0)
    assert settings.rescale_scale_video == settings.rescale_scale_audio == 0.0


def test_refine_is_switched_by_its_override():
    assert resolved("ltx2_distilled").refine is None and resolved("ltx2_distilled").audio_from == "denoise"
    assert resolved("ltx2_distilled", refine={"enabled": True}).refine.stage.num_inference_steps == 2
    assert resolved("ltx2_two_stage", refine={"enabled": False}).refine is None
    assert resolved("ltx2_two_stage").audio_from == "refine" and resolved("ltx2_hq").audio_from == "denoise"
    assert resolved("ltx2_two_stage", refine={"enabled": None, "add_noise": False}).refine.add_noise is False


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        ({"upscale": {}}, "denoise, refine"),
        ({"refine": 3}, "names with values"),
        ({"refine": {"steps": 2}}, "refine.steps is no setting of stage refine, .*num_inference_steps"),
        ({"denoise": {"enabled": True}}, "denoise.enabled is no setting"),
        ({"denoise": {"num_inference_steps": 2.5}}, "whole number"),
        ({"denoise": {"num_inference_steps": True}}, "whole number"),
        ({"denoise": {"num_inference_steps": float("inf")}}, "whole number"),
        ({"denoise": {"guidance_scale": "much"}}, "expected a number"),
        ({"refine": {"enabled": "yes"}}, "true or false"),
        ({"refine": {"num_inference_steps": 4}}, "2 or 3"),
        ({"denoise": {"num_inference_steps": 9}}, "1 to 8"),
        ({"denoise": {"sampler": "dpm"}}, "euler_ancestral"),
        ({"denoise": {"schedule": "cosine"}}, "dev, distilled"),
        ({"denoise": {"sigmas": [0.5, 0.9, 0]}}, "does not descend"),
        ({"denoise": {"sigmas": [0.9, 0.5]}}, "expected 0"),
        ({"denoise": {"rescale_scale": 2}}, "expected 0 to 1"),
        ({"denoise": {"skip_step": -1}}, "or more"),
        ({"denoise": {"image_crf": 99}}, "to 51"),
    ],
)
def test_wrong_overrides_are_told(overrides, sentence):
    with pytest.raises(RequestError, match=sentence):
        resolve(find_preset("ltx2_two_stage"), V2_3, overrides)


def test_overrides_as_text():
    assert parse_override("refine.num_inference_steps=2") == ("refine", "num_inference_steps", 2)
    assert parse_override("denoise.sampler=res_2s") == ("denoise", "sampler", "res_2s")
    assert parse_override("denoise.sigmas=[1, 0.5, 0]") == ("denoise", "sigmas", [1, 0.5, 0])
    assert resolved(
        "ltx2_base", denoise=dict([parse_override("denoise.stg_blocks=3,4")[1:]])
    ).denoise.stg_blocks_video == (
        3,
        4,
    )
    with pytest.raises(RequestError, match="STAGE.NAME=VALUE"):
        parse_override("steps=2")
    assert {"enabled", "add_noise"} <= set(override_names("refine")) - set(override_names("denoise"))


@pytest.mark.parametrize(
    "file, version, name",
    [
        ("ltx-2-19b-dev.safetensors", V2_0, "ltx2_base"),
        ("ltx-2-19b-distilled-fp8.safetensors", V2_0, "ltx2_distilled"),
        ("ltx-2.3-22b-dev.safetensors", V2_3, "ltx2_3_base"),
        ("LTX-2.5-22B-Distilled-transformer.safetensors", V2_5, "ltx2_3_distilled"),
        ("model.safetensors", V2_3, "ltx2_3_base"),
    ],
)
def test_a_preset_is_chosen_by_the_checkpoint(file, version, name):
    assert preset_for([file], version).name == name


def test_the_templates_of_2_3_and_2_5():
    for name, version, sampler, loras in (
        ("ltx2_3_template", V2_3, "euler", (0.5, 0.5)),
        ("ltx2_5_template", V2_5, "euler_ancestral", (0.0, 1.0)),
    ):
        found = resolved(name, version)
        stages = found.denoise, found.refine.stage
        assert torch.equal(sigmas_of(stages[0], tokens=1), schedules.distilled_sigmas(8))
        assert sigmas_of(stages[1], tokens=1).tolist() == pytest.approx([0.85, 0.725, 0.421875, 0])
        assert tuple(stage.distilled_lora_strength for stage in stages) == loras
        assert [(stage.sampler, stage.image_crf) for stage in stages] == [(sampler, 18)] * 2
        assert [stage.image_strength for stage in stages] == [0.7, 1.0] and found.audio_from == "refine"
        assert not resolved(name, version, refine={"num_inference_steps": 2}).refine.stage.sigmas
    with pytest.raises(RequestError, match="image_strength is 2, expected 0"):
        resolved("ltx2_3_template", denoise={"image_strength": 2})


def test_eta_of_ancestral_samplers_is_one_number_for_both_stages(models):
    given = setting_overrides(nag=(11,), eta=0.25)
    settings = resolve(find_preset("ltx2_5_template"), None, given)
    stages = (settings.denoise, settings.refine.stage)
    assert [(one.sampler, one.eta, one.nag_scale_video) for one in stages] == [("euler_ancestral", 0.25, 11)] * 2
    with pytest.raises(RequestError, match="denoise.eta is 2, expected 0"):
        resolve(find_preset("ltx2_fast"), None, setting_overrides(eta=2))
    assert setting_overrides() == {} and set(setting_overrides(eta=0.5)) == {"denoise", "refine"}
    assert parse_script("eta: 0.5\noverride: {refine.eta: 1}\nsegments: [a]").overrides == {
        "denoise.eta": 0.5,
        "refine.eta": 1,
    }

    def told(preset, **overrides):
        request = Request("A lake.", None, preset, width=64, height=64, frames=9, overrides=overrides)
        return [note for note in make_job(models("2.3"), request).notes if note.startswith("eta has no effect")]

    assert told("ltx2_fast", **setting_overrides(eta=0.5)) == [
        "eta has no effect with euler: choose euler_ancestral, or a preset that runs with it"
    ]
    assert not told("ltx2_5_template", **setting_overrides(eta=0.5)) and not told("ltx2_fast")


def test_pictures_count_by_stage():
    given = {"denoise": {"image_strength": 0.7}, "refine": {"image_strength": 1.0}}
    assert setting_overrides(image_strength=(0.7, 1.0)) == given
    assert setting_overrides(image_strength=(None, 0.5)) == {"refine": {"image_strength": 0.5}}
    parser = argparse.ArgumentParser()
    add_setting_arguments(parser.add_argument_group("request"))
    for text, pair in (("0.7,1", (0.7, 1.0)), ("0.5", (0.5, 0.5))):
        assert parser.parse_args(["--image-strength", text]).image_strength == pair
    for wrong in ("a", "1,1,1", "1,nan", ""):
        with pytest.raises(SystemExit):
            parser.parse_args(["--image-strength", wrong])
    short, long = (parse_script(f"image_strength: {said}\nsegments: [a]").overrides for said in ("0.7", "[0.7, 1]"))
    assert short == {"denoise.image_strength": 0.7, "refine.image_strength": 0.7}
    assert long == {"denoise.image_strength": 0.7, "refine.image_strength": 1.0}
    for wrong in ("2", "[0.7, 1, 1]", "[]", "firm"):
        with pytest.raises(StoryError, match="image_strength is .*expected"):
            parse_script(f"image_strength: {wrong}\nsegments: [a]")
    stages = resolve(find_preset("ltx2_quality"), None, given)
    assert (stages.denoise.image_strength, stages.refine.stage.image_strength) == (0.7, 1.0)
