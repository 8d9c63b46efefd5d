"""Prompt texts."""

from ltx2.text.prompts import NEGATIVE_PRESETS, negative_prompt


def test_presets_by_name_or_own_text():
    assert negative_prompt() == NEGATIVE_PRESETS["full"] == negative_prompt(" Full ")
    assert negative_prompt("none") == ""
    assert negative_prompt("no cars, please") == "no cars, please"
    assert all("  " not in text and not text.endswith(",") for text in NEGATIVE_PRESETS.values())
    for part in ("picture", "sound"):
        assert NEGATIVE_PRESETS[part] in NEGATIVE_PRESETS["full"]
