"""The story script: what it means, and that every mistake is told with its line."""

from fractions import Fraction
from pathlib import Path

import pytest

from ltx2.errors import StoryError
from ltx2.story import script as story_script
from ltx2.story.script import StoryImage, parse_script, read_script


def test_the_documented_example(tmp_path):
    text = "\n".join(line[4:] for line in story_script.__doc__.splitlines() if line.startswith("    "))
    for name in ("street.jpg", "depth.mp4", "song.wav", "detail.safetensors", "maria.wav"):
        (tmp_path / name).write_bytes(b"x")
    script = parse_script(text, tmp_path / "story.yaml")
    assert (
        script.fps == 24
        and (script.width, script.height) == (768, 512)
        and script.seed == 10
        and script.preset == "ltx2_fast"
    )
    assert (
        script.drift_correction.colour == 0.5
        and script.noise.video == 0
        and script.overrides == {"denoise.num_inference_steps": 6}
    )
    first, second, third = script.segments
    assert (
        first.prompt == "A harbour at dawn, gulls call."
        and first.frames == 121
        and first.negative == "blurry, watermark"
    )
    assert (second.frames, second.seed, second.strength) == (97, 77, 0.9)
    assert (second.takes, second.take) == (3, None) and third.takes == 1
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
  - {prompt: four, cut: yes, image: [a.png, {file: a.png, frame: 24, attention: 0.5}]}
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
    "text, place, words",
    [
        ("", None, "is empty"),
        ("fps: 24", (1, 1), "no segments"),
        ("[a, b]\nsegments: [a]", (2, 1), "not YAML"),
        ("fps: 24\nsegments: []", (2, 11), "is empty"),
        ("fps: 24\nsegments: abc", (2, 11), "no list"),
        ("fps: 0\nsegments: [a]", (1, 6), "fps is '0', expected a positive number"),
        ("fps: fast\nsegments: [a]", (1, 6), "fps is 'fast'"),
        ("\nsize: 768\nsegments: [a]", (2, 7), "WIDTHxHEIGHT"),
        ("seed: -1\nsegments: [a]", (1, 7), "whole number"),
        ("seed: yes\nsegments: [a]", (1, 7), "whole number"),
        ("seed: 99999999999999999999\nsegments: [a]", (1, 7), "whole number"),
        ("seed: 2024-01-01\nsegments: [a]", (1, 7), "whole number"),
        ('seed: !!int ""\nsegments: [a]', (1, 7), "seed is empty, expected a whole number"),
        ('fps: !!float ""\nsegments: [a]', (1, 6), "positive number"),
        ("seed: !!timestamp foo\nsegments: [a]", (1, 7), "remove the mark"),
        ("override: {denoise.x: !!timestamp foo}\nsegments: [x]", (1, 23), "remove the mark"),
        ("preset: 5\nsegments: [a]", (1, 9), "expected text"),
        ("overlap: {video: 10}\nsegments: [a]", (1, 18), "8k\\+1"),
        ("overlap: 9\nsegments: [a]", (1, 10), "no mapping"),
        ("hold: {colour: 2}\nsegments: [a]", (1, 16), "0 to 1"),
        ("hold: {colour: 1}\ndrift_correction: {colour: 1}\nsegments: [a]", (1, 7), "older name"),
        ("override: {steps: 5}\nsegments: [a]", (1, 12), "STAGE.NAME"),
        ("override: {a.b: [[1]]}\nsegments: [a]", (1, 18), "is a list, expected one value"),
        ("takes: 0\nsegments: [a]", (1, 8), "from 1 to 100"),
        ("sise: 64x64\nsegments: [a]", (1, 1), "did you mean size"),
        ("sise: 64x64\nA harbour.", (1, 1), "did you mean size"),
        ("segments:\n  - prompt: a\n    secnds: 3", (3, 5), "unknown entry 'secnds': did you mean seconds"),
        ("segments:\n  - promt: a\n    seconds: 3", (2, 5), "unknown entry 'promt': did you mean prompt"),
        ("segments:\n  - A harbour.\n    seconds: 3", (3, 5), "write `- prompt: …` on line 2"),
        ("segments:\n  - seconds: 3", (2, 5), "no prompt"),
        ("segments:\n  - prompt: ''", (2, 13), "expected text"),
        ("segments:\n  - [a]\n  - - b", (3, 5), "no mapping"),
        ("segments:\n  - prompt: a\n    seconds: -1", (3, 14), "above 0"),
        ("segments:\n  - prompt: a\n    seconds: .nan", (3, 14), "expected a number"),
        ("segments:\n  - prompt: a\n    frames: 120", (3, 13), "use 113 or 121"),
        ("segments:\n  - prompt: a\n    frames: 121\n    seconds: 5", (3, 13), "give one of them"),
        ("segments:\n  - prompt: a\n    prompt: b", (3, 5), "prompt twice"),
        ("segments:\n  - prompt: a\n    cut: maybe", (3, 10), "true or false"),
        ("segments:\n  - prompt: a\n    cut: !!bool foo", (3, 10), "true or false"),
        ("segments:\n  - prompt: a\n    strength: 1.5", (3, 15), "0 to 1"),
        ("segments:\n  - prompt: a\n    image: nothing.png", (3, 12), "is not there"),
        ("segments:\n  - prompt: a\n    image: p.jpg@-1", (3, 12), "write {file: …, frame: …}"),
        ("segments:\n  - prompt: a\n    image: {file: X.png, frame: -2}", (3, 33), "a frame number from 0, or last"),
        (
            "segments:\n  - prompt: a\n    image: [X.png, X.png]",
            (3, 20),
            "two images stand at frame 0: keep one of them",
        ),
        (
            "segments:\n  - {prompt: a, frames: 17, image: [{file: X.png, frame: 16}, {file: X.png, frame: -1}]}",
            (2, 63),
            "two images stand at frame 16, the last one: keep one",
        ),
        (
            "segments:\n  - {prompt: a, frames: 9, image: [{file: X.png, frame: last}, {file: X.png, frame: -1}]}",
            (2, 64),
            "two images stand at frame 8, the last one: keep one",
        ),
        ("segments:\n  - prompt: a\n    image: &a [*a]", (3, 16), "put the text in quotes"),
        (f"segments:\n  - prompt: a\n    image: {'a' * 5000}", (3, 12), "is not there"),
        ("segments:\n  - a\n  - {prompt: b, frames: 9}", (3, 5), "make it longer"),
        ("segments:\n  - {prompt: a, frames: 9}\n  - b", (3, 5), "segment before has 9"),
        ("segments:\n  - a\n  - {prompt: b, image: X.png}", (3, 24), "say cut: true"),
        ("segments:\n  - {prompt: b, image: {file: X.png, frame: 500}}", (2, 45), "frames 0 to 120"),
        ("segments:\n  - {prompt: b, image: {frame: 5}}", (2, 24), "no file"),
        ("segments:\n  - image: [b", None, "not YAML"),
        ('segments:\n  - image: "C:\\pics\\a.png"', (2, 15), "write / in paths, or use single quotes"),
        ('segments:\n  - image: "C:\\users\\a.png"', (2, 17), "write / in paths, or use single quotes"),
        ("segments: *x", (1, 11), "not YAML"),
        ("segments: !!python/object/apply:os.system [ls]", (1, 11), "plain list"),
        ("!!set {fps, segments}", (1, 1), "plain mapping"),
        ("fps: !!python/name:os.system 24\nsegments: [a]", (1, 6), "remove the mark"),
        ("preset: " + "[" * 2000, None, "nested deeper than"),
        ("segments:\n  - " + "x" * 70000, (2, 5), "at most 65536"),
        ("segments:\n\t- a", (2, 1), "use spaces"),
        ("fps: 24\n---\nsegments: [a]", (2, 1), "second document"),
    ],
)
def test_mistakes_are_told_with_line_column_and_fix(tmp_path, text, place, words):
    (tmp_path / "X.png").write_bytes(b"x")
    path = tmp_path / "s.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(StoryError, match=words) as caught:
        read_script(path)
    message = str(caught.value)
    assert "s.yaml" in message and "\n" not in message and len(message) <= 300
    if place is not None:
        assert ", line {}, column {}: ".format(*place) in message
    # a node's input has no path, and none is made up
    with pytest.raises(StoryError) as caught:
        parse_script(text, "script", find_image=lambda name: tmp_path / name if name == "X.png" else None)
    assert str(caught.value).startswith("script") and str(tmp_path) not in str(caught.value)


def test_files_that_are_no_scripts(tmp_path):
    for content in (b"\xff\xfe\x00", b"\x00\x01", b"segments: [\xed\xa0\x80]"):
        (tmp_path / "s.yaml").write_bytes(content)
        with pytest.raises(StoryError):
            read_script(tmp_path / "s.yaml")
    with pytest.raises(StoryError, match="cannot be read"):
        read_script(tmp_path / "none.yaml")
    with pytest.raises(StoryError, match="cannot be read"):
        read_script(tmp_path)
    with pytest.raises(StoryError, match="expected at most 2000"):
        parse_script("segments:\n" + "  - a\n" * 2001)
    (tmp_path / "s.yaml").write_bytes(b"a\n" * 2**20)
    with pytest.raises(StoryError, match="at most 1048576"):
        read_script(tmp_path / "s.yaml")
    with pytest.raises(StoryError, match="line 2, column 3: the character U\\+D800"):
        parse_script("a\nb \ud800")


def test_the_example_in_the_documentation():
    text = (Path(__file__).resolve().parents[2] / "docs" / "story.md").read_text("utf-8")
    script = parse_script(text.split("```yaml\n")[1].split("```")[0])
    assert (
        [s.frames for s in script.segments] == [121, 97, 121]
        and script.segments[2].negative == "night"
        and script.segments[2].cut
    )


def test_loras_of_a_film(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    text = (
        "lora: [a.safetensors, 'a.safetensors:0.5@1', {file: b.safetensors, strength: -1, stage: 2}]\nsegments: [one]\n"
    )
    found = parse_script(text, tmp_path / "s.yaml").loras
    assert [(one.path.name, one.strength, one.stage) for one in found] == [
        ("a.safetensors", 1.0, None),
        ("a.safetensors", 0.5, 1),
        ("b.safetensors", -1.0, 2),
    ]
    elsewhere = parse_script(text, tmp_path / "s.yaml", find_image=lambda name: None, find_lora=lambda name: Path(name))
    assert elsewhere.loras[0].path == Path("a.safetensors")
    for lora, words in (
        ("c.safetensors", "the LoRA 'c.safetensors' is not there: check its name"),
        ("a.safetensors@3", "for stage 3, expected 1 or 2"),
        ("{file: a.safetensors, stage: 3}", "stage is '3', expected 1 or 2"),
        ("{strength: 1}", "the LoRA has no file: add `file:`"),
        ("'a.safetensors:1e9'", "has strength 1e.09, expected a number from -100 to 100"),
        ("{file: a.safetensors, strength: 101}", "strength is '101', expected -100 to 100"),
        ("{file: a.safetensors, strenght: 1}", "did you mean strength"),
    ):
        with pytest.raises(StoryError, match=words):
            parse_script(f"lora: {lora}\nsegments: [one]\n", tmp_path / "s.yaml")
