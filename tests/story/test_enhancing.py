"""Prompts written out: once each, in the light of the ones before in their scene, and kept for every later run."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.errors import StoryError
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.enhancing import Enhancer, enhanced_script
from ltx2.story.journal import open_journal
from ltx2.story.script import parse_script
from ltx2.text.enhancement import EnhancedPrompt

from .fake import Fake

SCRIPT = """overlap: {video: 9, audio: 15}
defaults: {frames: 17}
enhance: true
segments: [a, b, {prompt: c, enhance: false}, d, {prompt: e, cut: true}, {prompt: f, seed: 5}]
"""


class Writer:
    """Writes down what it was told, in a text that holds all of it."""

    def __init__(self, identity="one"):
        self.told = []
        self.enhancer = Enhancer(self.write, identity)

    def write(self, prompt, earlier, from_image, seed):
        self.told.append((prompt, tuple(earlier), from_image, seed))
        return EnhancedPrompt(prompt, f"{prompt}!{len(earlier)}{'i' * from_image}{seed}", seed, "a Gemma")


def test_a_film_is_made_of_what_was_written_and_a_repeat_writes_nothing(tmp_path):
    script, lines = parse_script(SCRIPT), []

    def run(script):
        writer, fake = Writer(), Fake()
        options = RunOptions(enhancer=writer.enhancer)
        result = run_story(
            script, fake, work=tmp_path / "w", out=tmp_path / "film.mp4", options=options, log=lines.append
        )
        return writer.told, [task.prompt for task in fake.tasks], result

    told, made, _ = run(script)
    assert made == ["a!010", "b!110", "c", "d!310", "e!010", "f!15"]
    assert told[1] == ("b", ("a!010",), False, 10) and told[2] == ("d", ("a!010", "b!110", "c"), False, 10)
    assert told[3] == ("e", (), False, 10) and any("prompt by a Gemma, seed 10: b!110" in line for line in lines)
    again, made, result = run(script)
    assert not again and not made and not result.written
    # another scene before it changes nothing of a scene; another prompt changes those that come after it
    told, made, _ = run(parse_script(SCRIPT.replace("[a, b", "[x, {prompt: a, cut: true}, B")))
    assert [prompt for prompt, *_ in told] == ["x", "B", "d"] and made[0] == "x!010"


def test_a_picture_at_the_start_is_told(tmp_path):
    (tmp_path / "p.png").write_bytes(b"")
    text = "segments: [{prompt: a, image: p.png, enhance: true}, {prompt: b, image: {file: p.png, frame: 9}}]"
    script, writer = parse_script(text, tmp_path / "s.yaml"), Writer()
    assert script.is_enhanced and not parse_script("segments: [a]").is_enhanced
    with open_journal(tmp_path / "w") as journal:
        found = enhanced_script(script, journal, writer.enhancer, str)
    assert writer.told == [("a", (), True, 10)] and [one.prompt for one in found.segments] == ["a!0i10", "b"]


def test_another_language_model_writes_anew(tmp_path):
    script = parse_script(SCRIPT)
    for identity, expected in (("one", 5), ("two", 5), ("one", 0)):
        writer = Writer(identity)
        with open_journal(tmp_path / "w") as journal:
            enhanced_script(script, journal, writer.enhancer, str)
        assert len(writer.told) == expected


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 8))
def test_whatever_stops_it_each_prompt_is_written_once(tmp_path_factory, cuts, stop):
    """Every prompt is asked for once, though the run ends with any of them."""
    folder = tmp_path_factory.mktemp("w")
    items = ", ".join(f"{{prompt: p{n}, cut: {str(cut).lower()}}}" for n, cut in enumerate(cuts))
    script, writer = parse_script(f"enhance: true\ndefaults: {{frames: 17}}\nsegments: [{items}]"), Writer()

    def write(*told):
        if len(writer.told) == stop:
            raise KeyboardInterrupt
        return writer.write(*told)

    with open_journal(folder) as journal:
        try:
            enhanced_script(script, journal, Enhancer(write, "one"), str)
        except KeyboardInterrupt:
            assert stop < len(cuts)
    with open_journal(folder) as journal:
        enhanced_script(script, journal, writer.enhancer, str)
    assert [prompt for prompt, *_ in writer.told] == [f"p{n}" for n in range(len(cuts))]


@pytest.mark.parametrize("text", ["enhance: maybe\nsegments: [a]", "segments: [{prompt: a, enhance: 2}]"])
def test_what_is_no_wish_is_refused(text):
    with pytest.raises(StoryError, match="line 1, column .*expected true or false"):
        parse_script(text)


def test_a_damaged_entry_is_written_anew(tmp_path):
    script, writer = parse_script("enhance: true\nsegments: [a]"), Writer()
    with open_journal(tmp_path) as journal:
        enhanced_script(script, journal, writer.enhancer, str)
        key = next(journal.of("prompt"))["key"]
        for text in (None, 3, " "):
            journal.append("prompt", key=json.loads(json.dumps(key)), text=text)
            assert enhanced_script(script, journal, writer.enhancer, str).segments[0].prompt == "a!010"
    assert len(writer.told) == 4
