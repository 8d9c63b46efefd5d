"""Prompt texts."""

import pytest

from ltx2.errors import RequestError
from ltx2.text.prompts import NEGATIVE_PRESETS, negative_prompt, segment_prompt


def test_presets_by_name_or_own_text():
    assert negative_prompt() == NEGATIVE_PRESETS["full"] == negative_prompt(" Full ")
    assert negative_prompt("none") == ""
    assert negative_prompt("no cars, please") == "no cars, please"
    assert all("  " not in text and not text.endswith(",") for text in NEGATIVE_PRESETS.values())
    for part in ("picture", "sound"):
        assert NEGATIVE_PRESETS[part] in NEGATIVE_PRESETS["full"]


def test_segment_prompt_is_one_paragraph():
    text = segment_prompt("She opens the door", style=" 35 mm film", scene='A voice says "wait!"')
    assert text == '35 mm film. A voice says "wait!" She opens the door.'
    assert segment_prompt("Rain…") == "Rain…"
    with pytest.raises(RequestError, match="needs a prompt"):
        segment_prompt("  ")
