"""Scripts as people type them."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.errors import StoryError
from ltx2.story.script import parse_script
from ltx2.story.script.reading import SEGMENT_ENTRIES, STORY_ENTRIES


def prompts(text, **more):
    return [segment.prompt for segment in parse_script(text, **more).segments]


AS_TYPED = [
    'A man says: "hello"',
    '"Hello," says the man, "it is late."',
    "'Tis night: the wind's up",
    "[VISUAL]: a boat [SPEECH]: ahoy",
    "{softly} she sings",
    "*door creaks* he turns",
    "&c. and so on",
    "!important: rain",
    "> she looks up",
    "| a line of light",
    "50% off, 12:30 sharp",
    "# 1 on the list"[2:],
    "Room #5, #harbour",
    "C# minor, then silence",
    "🎬 A harbour 🌊: gulls — “calls”",
    "12",
    "yes",
    "null",
    "~",
    "2024-01-01",
    "narrator: it was a dark night",
    "image of a boat: blue",
    "? what is that",
    "@home, `code`, %done",
    "-5 degrees, ice",
    "a, b, c,",
    "back\\slash \\n",
    "ends with a colon:",
    "tab\there",
]


@pytest.mark.parametrize("typed", AS_TYPED)
def test_a_prompt_is_what_was_typed(typed):
    assert prompts(f"segments:\n  - {typed}\n  - second") == [typed, "second"]
    assert prompts(f"fps: 24\nsegments:\n- {typed}\n- second\nseed: 3") == [typed, "second"]
    assert prompts(f"- {typed}\n- second") == [typed, "second"]
    script = parse_script(f"segments:\n  - prompt: {typed}\n    seconds: 4\n    negative: {typed}\n  - b")
    assert (script.segments[0].prompt, script.segments[0].negative, script.segments[0].frames) == (typed, typed, 97)
    assert parse_script(f"negative: {typed}\nsegments: [a]").segments[0].negative == typed


def test_comments_need_a_space_on_both_sides():
    assert prompts('segments:\n  - A harbour.   # dawn\n  # nothing\n  - Room #5 # top\n  - say "a # b"') == [
        "A harbour.",
        "Room #5",
        'say "a # b"',
    ]


def test_texts_over_several_lines():
    text = """
segments:
  - A man walks
    through the rain: he says "hi"

    and goes.
  - prompt: The camera rises: slowly,
      then fast.
    seconds: 4
  - prompt: >
      three: on
      two lines
    cut: yes
  - "quoted: over
    lines"
"""
    script = parse_script(text)
    assert [s.prompt for s in script.segments] == [
        'A man walks through the rain: he says "hi"\nand goes.',
        "The camera rises: slowly, then fast.",
        "three: on two lines",
        "quoted: over lines",
    ]
    assert [s.line for s in script.segments] == [3, 7, 10, 14] and script.segments[2].cut


def test_brackets_over_several_lines_stay_yaml():
    script = parse_script('segments: [\n  {prompt: "a: b",\n   seconds: 4},\n  c]\nseed: 4')
    assert [s.prompt for s in script.segments] == ["a: b", "c"] and script.seed == 4
    script = parse_script("segments:\n  - {\n      prompt: a,\n      seconds: 4\n    }\n  - b")
    assert [s.frames for s in script.segments] == [97, 121]


def test_prose_is_a_script():
    lines = 'A harbour at dawn: gulls call.\nThe camera rises.\n# not this\nA street, "hello".\n'
    assert prompts(lines) == ["A harbour at dawn: gulls call.", "The camera rises.", 'A street, "hello".']
    paragraphs = "A harbour\nat dawn.\n\nThe camera rises\nover the roofs.\n\nThe end."
    assert prompts(paragraphs) == ["A harbour at dawn.", "The camera rises over the roofs.", "The end."]
    assert prompts("A harbour.\n\nRoofs.\n\n\nThe end.") == ["A harbour.", "Roofs.", "The end."]
    script = parse_script("fps: 25\nsize: 64x64\ndefaults:\n  seconds: 4\n\nA harbour.\nRoofs.")
    assert (script.fps, script.width) == (25, 64)
    assert [s.prompt for s in script.segments] == ["A harbour.", "Roofs."] and script.segments[0].line == 6
    assert prompts("segments:\n  A harbour.\n  Roofs.\nseed: 4") == ["A harbour.", "Roofs."]
    assert prompts("segments: |\n  A harbour.\n  Roofs.") == ["A harbour.", "Roofs."]
    assert prompts("1. A harbour\n   at dawn.\n2. Roofs.\n\n3) The end.") == [
        "A harbour at dawn.",
        "Roofs.",
        "The end.",
    ]
    assert prompts("* A harbour\n• Roofs") == ["A harbour", "Roofs"]


def test_a_line_of_dashes_starts_a_scene():
    script = parse_script("A harbour.\nRoofs.\n---\nA street.\nThe end.")
    assert [(s.prompt, s.cut) for s in script.segments] == [
        ("A harbour.", False),
        ("Roofs.", False),
        ("A street.", True),
        ("The end.", False),
    ]


def test_errors_in_prose_stand_where_they_were_typed():
    with pytest.raises(ValueError, match=r"script.yaml, line 4, column 3: the segment has"):
        parse_script("defaults: {frames: 9}\n\nA\n  B")


WORDS = st.text(string.ascii_letters + string.digits + " :#\"'-?!,.&*[]{}|>%@`ä🎬", min_size=1, max_size=40)


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS.map(lambda s: f"A{s}".strip()), min_size=1, max_size=5))
def test_any_line_that_begins_as_a_sentence_is_a_prompt(lines):
    """Whatever stands behind a capital letter is kept, but for a comment."""
    want = [line.partition(" # ")[0].removesuffix(" #").strip() for line in lines if line.count('"') == 0]
    lines = [line for line in lines if line.count('"') == 0]
    if lines:
        assert prompts("segments:\n" + "".join(f"  - {line}\n" for line in lines)) == want
        assert prompts("\n".join(lines)) == [line for line in lines]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted({*STORY_ENTRIES, *SEGMENT_ENTRIES} - {"prompt"})),
    st.sampled_from((str.lower, str.upper, str.capitalize)),
    st.sampled_from(("{}: {}", "{}:{}", "{} = {}", "{}：{}", "“{}”: {}", "{} :  {},", "**{}:** {}")),
    st.sampled_from(("5", "5s", "0.5", "24", "1280x704", "1280×704", "true", "no", "")),
    st.sampled_from(
        ("{}\nA ball.\nIt rolls.", "A ball.\n{}\nIt rolls.", "- A ball.\n- {}", "- prompt: A ball.\n   {}")
    ),
)
def test_a_setting_never_becomes_a_part_of_a_prompt(key, case, form, value, script):
    """In whatever case, with whatever sign and wherever it is written: it is read, or refused with its place."""
    line = form.format(case(key), value)
    try:
        found = prompts(script.format(line))
    except StoryError as error:
        assert str(error).startswith("script.yaml, line ") and len(str(error)) <= 300
    else:
        assert all(prompt in ("A ball.", "It rolls.") for prompt in found)


@pytest.mark.parametrize(
    "text, words",
    [
        ("scenes:\n- a\n- b", "line 1, column 1: the list of a story is called segments, not scenes"),
        ("prompt,seconds\na,3", "line 1, column 1: this is the head of a table"),
        ("A ball.\n```yaml\nb", "line 2, column 1: a line of ```"),
        ("seconds: 4\nA ball.", "line 1, column 1: seconds is of a segment.*write `defaults: {seconds: …}`"),
        ("Segments:\n- a", "did you mean segments"),
        ("segments:\n- Prompt: a\n  Seconds: 3", "line 2, column 3.*did you mean prompt"),
        ("segments:\n- {<<: *d, prompt: b}", "nothing before it is marked &d"),
        ('segments:\n- prompt: "C:\\pics"', r"line 2, column \d+: not YAML, in double quotes"),
        ('["\\ud83d"]', "line 1, column \\d+: not YAML"),
    ],
)
def test_what_was_meant_as_yaml_is_not_taken_for_prose(text, words):
    with pytest.raises(StoryError, match=words):
        parse_script(text)


def test_what_programs_and_pages_write():
    """JSON of any indent and with escapes, numbers in quotes, units, Markdown, blanks of web pages."""
    want = [("a: b # c", 73, True), ("\U0001f600 b", 121, False)]
    for indent in (None, 1, "\t"):
        segments = [{"prompt": "a: b # c", "seconds": "3", "cut": "true"}, "\U0001f600 b"]
        for text in (json.dumps({"seed": "4", "size": [64, 96], "segments": segments}, indent=indent), None):
            found = parse_script(text or json.dumps(segments, indent=indent))
            assert [(s.prompt, s.frames, s.cut) for s in found.segments] == want
            assert (found.seed, found.width, found.height) == ((4, 64, 96) if text else (10, None, None))
    text = "```yaml\nfps:\u00a024\nsegments:\n\u00a0\u00a0-\ta\n\u00a0\u00a0- prompt: b\n    seconds: 3 s\n```\n"
    assert [(s.prompt, s.frames) for s in parse_script(text).segments] == [("a", 121), ("b", 73)]
    assert prompts("# Film\n\n## Scene 1\n\nA ball.\n\n## Scene 2\n\nIt rolls.") == ["A ball.", "It rolls."]
    assert prompts("segments:\n  1: a\n  2: b") == ["a", "b"]
    assert prompts("segments:\n- 'tis the season\n- b") == ["'tis the season", "b"]
