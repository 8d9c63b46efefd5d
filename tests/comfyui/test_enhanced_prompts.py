"""Prompts written out by Gemma, as nodes show and use them."""

import importlib
import sys

import pytest

from .conftest import PACK_NAME
from .shelf import loaded, shelf  # noqa: F401
from .test_story_node import SCRIPT
from .test_story_node import story as story

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def few_words(pack, monkeypatch):
    """A tiny Gemma never ends by itself."""
    engine = importlib.import_module(f"{PACK_NAME}.ltx2.stages.given.enhanced")
    writer = sys.modules[f"{PACK_NAME}.ltx2.text.writer"]
    monkeypatch.setitem(engine.SAMPLING, "prose", writer.TextSampling(max_new_tokens=4))


def test_what_was_written_is_read_and_shown(run, loaded, pack):  # noqa: F811
    encoder = loaded("2.3")["text_encoder"]
    plain = run("EncodePrompt", text_encoder=encoder, prompt="a lake", negative_prompt="none")
    assert plain.args[2] == "a lake" and not plain.ui["text"]
    written = run("EncodePrompt", text_encoder=encoder, prompt="a lake", negative_prompt="none", enhance=True)
    text = written.args[2]
    assert text not in ("", "a lake") and written.ui["text"][0].endswith(f": {text}")
    read = run("EncodePrompt", text_encoder=encoder, prompt=text, negative_prompt="none").args[0]
    assert read.context.video.equal(written.args[0].context.video) and not read.context.video.equal(
        plain.args[0].context.video
    )


def test_a_gemma_that_reads_only_says_what_to_connect(run, loaded, pack):  # noqa: F811
    errors = sys.modules[f"{PACK_NAME}.ltx2.errors"]
    encoder = loaded("2.5")["text_encoder"]
    with pytest.raises(errors.RequestError, match="cannot write them: connect the text of .*TextGenerateLTX2Prompt"):
        run("EncodePrompt", text_encoder=encoder, prompt="a lake", negative_prompt="none", enhance=True)
    with pytest.raises(errors.RequestError, match="the prompt is empty"):
        run("EncodePrompt", text_encoder=encoder, prompt=" ", negative_prompt="none", enhance=True)


def test_a_story_keeps_what_was_written(story, folders):
    first = story(enhance=True)
    told = [line for line in first.args[2].splitlines() if "prompt by" in line]
    assert len(told) == 2 and "2 segments made" in first.args[2]
    again = story("enhance: true\n" + SCRIPT)
    assert "prompt by" not in again.args[2] and "0 segments made, 2 kept" in again.args[2]
    assert "2 segments made" in story().args[2]
