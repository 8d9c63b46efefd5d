"""Where we differ from FastVideo on purpose: each difference is there, and is the only one of its kind."""

import inspect

import pytest

import ltx2
from ltx2.stages import presets
from ltx2.stages.request import Request

from .adapter import DIFFERENCES, ContinuationState, InMemorySessionStore, check_overrides


def snapshots_are_copies():
    store, given = InMemorySessionStore(), ContinuationState("ltx2.v1", {"x": [1]})
    store.store("a", given)
    found = store.snapshot("a")
    assert found == given and found is not given and found.payload["x"] is not given.payload["x"]


def one_model_family():
    assert list(inspect.signature(presets.find_preset).parameters) == ["name", "version"]
    assert isinstance(presets.PRESETS, tuple)


def more_presets():
    assert len(presets.PRESETS) > 4


def overrides_name_the_setting():
    with pytest.raises(ValueError) as caught:
        check_overrides("ltx2_base", {"denoise": {"height": 720}})
    assert str(caught.value).startswith("denoise.height ")


def every_stage_takes_overrides():
    assert presets.override_names("denoise") and presets.override_names("refine")


def overrides_are_checked_whole():
    with pytest.raises(ValueError, match="image_crf"):
        check_overrides("ltx2_two_stage", {"refine": {"image_crf": 99}})


def requests_carry_no_state():
    assert (
        "state" not in Request.__dataclass_fields__ and callable(ltx2.condition_next) and callable(ltx2.capture_state)
    )


def no_dotted_run_config():
    assert presets.parse_override("refine.image_crf=18") == ("refine", "image_crf", 18)


HELD = [value for name, value in list(globals().items()) if name in DIFFERENCES]


@pytest.mark.parametrize("difference", HELD, ids=lambda call: call.__name__)
def test_differences_are_as_listed(difference):
    difference()


def test_every_difference_is_held_and_explained():
    assert {call.__name__ for call in HELD} == set(DIFFERENCES)
    assert all(len(words) == 3 and all(words) for words in DIFFERENCES.values())
