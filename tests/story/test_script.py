"""The story script: what it means, and that every mistake is told with its line."""

from fractions import Fraction
from pathlib import Path

import pytest

from ltx2.errors import StoryError
from ltx2.story import script as story_script
from ltx2.story.script import StoryImage, parse_script, read_script


def test_the_documented_example(tmp_path):
    text = "\n".join(line[4:] for line in story_script.__doc__.splitlines() if line.startswith("    "))
    (tmp_path / "street.jpg").write_bytes(b"x")
    script = parse_script(text, tmp_path / "story.yaml")
    assert (
        script.fps == 24
        and (script.width, script.height) == (768, 512)
        and script.seed == 10
        and script.preset == "ltx2_fast"
    )
    assert (
        script.hold.colour == 0.5 and script.noise.video == 0 and script.overrides == {"denoise.num_inference_steps": 6}
    )
    first, second, third = script.segments
    assert (
        first.prompt == "A harbour at dawn, gulls call."
        and first.frames == 121
        and first.negative == "blurry, watermark"
    )
    assert (second.frames, second.seed, second.strength) == (97, 77, 0.9)
    assert third.cut and third.images == (StoryImage(tmp_path / "street.jpg"),)
    assert script.total_frames == 121 + 88 + 121 and "3 segments" in str(script)


def test_defaults_and_forms(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    text = """
fps: 23.976
defaults: {frames: 49, strength: 0.5}
segments:
  - one
  - {prompt: two, seconds: 4.004}
  - prompt: >
      three, on
      two lines
    image: {file: a.png, frame: last, strength: 0.7}
  - {prompt: four, cut: yes, image: [a.png, {file: a.png, frame: 24}]}
"""
    script = parse_script(text, tmp_path / "s.yaml")
    assert script.fps == Fraction(24000, 1001)
    assert [s.frames for s in script.segments] == [49, 97, 49, 49] and script.segments[
        2
    ].prompt == "three, on two lines"
    assert script.segments[2].images[0] == StoryImage(tmp_path / "a.png", None, 0.7)
    assert [i.frame for i in script.segments[3].images] == [0, 24]
    assert [s.line for s in script.segments] == [5, 6, 7, 11]


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("", None, "is empty"),
        ("fps: 24", 1, "no segments"),
        ("- a\n- b", 1, "no mapping"),
        ("fps: 24\nsegments: []", 2, "is empty"),
        ("fps: 24\nsegments: abc", 2, "no list"),
        ("fps: 0\nsegments: [a]", 1, "fps is '0', expected a positive number"),
        ("fps: fast\nsegments: [a]", 1, "fps is 'fast'"),
        ("\nsize: 768\nsegments: [a]", 2, "WIDTHxHEIGHT"),
        ("seed: -1\nsegments: [a]", 1, "whole number"),
        ("seed: yes\nsegments: [a]", 1, "whole number"),
        ("preset: 5\nsegments: [a]", 1, "expected text"),
        ("overlap: {video: 10}\nsegments: [a]", 1, "8k\\+1"),
        ("overlap: 9\nsegments: [a]", 1, "no mapping"),
        ("hold: {colour: 2}\nsegments: [a]", 1, "0 to 1"),
        ("override: {steps: 5}\nsegments: [a]", 1, "STAGE.NAME"),
        ("segments:\n  - prompt: a\n    secnds: 3", 3, "unknown entry 'secnds': did you mean seconds"),
        ("segments:\n  - seconds: 3", 2, "no prompt"),
        ("segments:\n  - prompt: ''", 2, "expected text"),
        ("segments:\n  - prompt: 12", 2, "quotes"),
        ("segments:\n  - [a]", 2, "no mapping"),
        ("segments:\n  - prompt: a\n    seconds: -1", 3, "above 0"),
        ("segments:\n  - prompt: a\n    seconds: .nan", 3, "expected a number"),
        ("segments:\n  - prompt: a\n    frames: 120", 3, "use 113 or 121"),
        ("segments:\n  - prompt: a\n    frames: 121\n    seconds: 5", 3, "give one of them"),
        ("segments:\n  - prompt: a\n    prompt: b", 3, "prompt twice"),
        ("segments:\n  - prompt: a\n    cut: maybe", 3, "true or false"),
        ("segments:\n  - prompt: a\n    strength: 1.5", 3, "0 to 1"),
        ("segments:\n  - prompt: a\n    image: nothing.png", 3, "does not exist"),
        ("segments:\n  - a\n  - {prompt: b, frames: 9}", 3, "make it longer"),
        ("segments:\n  - {prompt: a, frames: 9}\n  - b", 3, "segment before has 9"),
        ("segments:\n  - a\n  - {prompt: b, image: X.png}", 3, "say cut: true"),
        ("segments:\n  - {prompt: b, image: {file: X.png, frame: 500}}", 2, "frames 0 to 120"),
        ("segments:\n  - {prompt: b, image: {frame: 5}}", 2, "no file"),
        ("segments:\n  - a: [b", 2, "not YAML"),
        ("segments: *x", 1, "not YAML"),
        ("segments: !!python/object/apply:os.system [ls]", 1, "plain list"),
        ("!!set {fps, segments}", 1, "plain mapping"),
        ("fps: !!python/name:os.system 24\nsegments: [a]", 1, "cannot read"),
        ("a: " + "[" * 2000, None, "not YAML"),
        ("segments:\n  - " + "x" * 70000, 2, "at most 65536"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path, text, line, words):
    (tmp_path / "X.png").write_bytes(b"x")
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(StoryError, match=words) as caught:
        read_script(path)
    message = str(caught.value)
    assert "s.yaml" in message and "\n" not in message and len(message) < 400
    if line is not None:
        assert f", line {line}:" in message


def test_files_that_are_no_scripts(tmp_path):
    for content in (b"\xff\xfe\x00", b"\x00\x01"):
        (tmp_path / "s.yaml").write_bytes(content)
        with pytest.raises(StoryError):
            read_script(tmp_path / "s.yaml")
    with pytest.raises(StoryError, match="cannot be read"):
        read_script(tmp_path / "none.yaml")
    with pytest.raises(StoryError, match="expected at most 10000"):
        parse_script("segments:\n" + "  - a\n" * 10001)


def test_anchors_that_multiply_are_harmless():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(StoryError, match="unknown entry 'a0'"):
        parse_script(bomb + "segments: *a39\n")
    assert isinstance(parse_script("defaults: &d {seconds: 3}\nsegments:\n  - {prompt: a}\n").path, Path)


def test_the_example_in_the_documentation():
    text = (Path(__file__).resolve().parents[2] / "docs" / "story.md").read_text("utf-8")
    script = parse_script(text.split("```yaml\n")[1].split("```")[0])
    assert (
        [s.frames for s in script.segments] == [121, 97, 121]
        and script.segments[2].negative == "night"
        and script.segments[2].cut
    )
