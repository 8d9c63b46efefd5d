"""Presets and the overrides of their stages, as FastVideo's tests of them ask."""

import pytest

from ltx2.stages.presets import PRESETS, override_names

from .adapter import check_overrides, preset_named

REFINE_OVERRIDES = {"num_inference_steps", "guidance_scale", "image_crf", "video_position_offset_sec"}


def test_the_published_names_are_there():
    assert {"ltx2_base", "ltx2_3_base", "ltx2_distilled", "ltx2_two_stage"} <= {preset.name for preset in PRESETS}
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)


def test_the_published_numbers():
    base, distilled, two = (preset_named(name) for name in ("ltx2_base", "ltx2_distilled", "ltx2_two_stage"))
    assert (base.height, base.width) == (512, 768)
    assert distilled.denoise.num_inference_steps == 8 and distilled.denoise.cfg_scale_video == 1.0
    assert not distilled.refine.enabled and two.refine.enabled
    assert two.refine.stage.num_inference_steps == 2 and two.refine.stage.cfg_scale_video == 1.0


def test_presets_are_found_by_name_and_version():
    assert preset_named("ltx2_base") is preset_named("ltx2_base", 1)
    with pytest.raises(ValueError, match="nope"):
        preset_named("nope")
    with pytest.raises(ValueError, match="version"):
        preset_named("ltx2_base", 99)


@pytest.mark.parametrize(
    "override",
    ({"num_inference_steps": 3}, {"guidance_scale": 1.0}, {"image_crf": 18}, {"video_position_offset_sec": 2.5}, {}),
    ids=str,
)
def test_what_may_be_overridden_in_the_second_stage(override):
    found = check_overrides("ltx2_two_stage", {"refine": override})
    where = {**vars(found.refine.stage), **vars(found.refine), "guidance_scale": found.refine.stage.cfg_scale_video}
    assert {name: where[name] for name in override} == override


def test_the_published_overrides_are_known():
    assert set(override_names("refine")) >= REFINE_OVERRIDES | {"enabled", "add_noise"}
    assert set(override_names("denoise")) >= {"num_inference_steps", "guidance_scale"}


def test_both_wirings_of_the_second_stage():
    assert check_overrides("ltx2_two_stage", {"refine": {"enabled": False}}).refine is None
    assert check_overrides("ltx2_two_stage", {"refine": {"add_noise": False}}).refine.add_noise is False
    assert check_overrides("ltx2_distilled", {"refine": {"enabled": True}}).refine.enabled


@pytest.mark.parametrize(
    "overrides, words",
    [
        ({"bogus": {}}, "bogus"),
        ({"nope": {"a": 1}}, "denoise"),  # the stages that there are
        ({"denoise": {"height": 720}}, "denoise.height"),
        ({"denoise": {"bad_key": 1}}, "guidance_scale"),  # the names that there are
        ({"denoise": "not a dict"}, "not a dict"),
        ({"refine": {"bogus_field": 1}}, "refine.bogus_field"),
        ({"refine": {"num_inference_steps": "many"}}, "num_inference_steps"),
    ],
)
def test_what_may_not_is_named(overrides, words):
    with pytest.raises(ValueError, match=words):
        check_overrides("ltx2_two_stage", overrides)


def test_nothing_given_changes_nothing():
    preset = preset_named("ltx2_two_stage")
    assert check_overrides("ltx2_two_stage", {}) == check_overrides("ltx2_two_stage", {"denoise": {}, "refine": {}})
    assert check_overrides("ltx2_two_stage", {}).preset == preset
