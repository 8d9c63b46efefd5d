"""Scripts that are changed segment by segment: all else in them stays as it was typed."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx2.errors import StoryError
from ltx2.story.script import parse_script
from ltx2.story.script.editing import (
    add_segment,
    entries_as_written,
    move_segment,
    remove_segment_entry,
    set_entries,
)

LIST = """# the harbour film
fps: 24
size: 768x512   # small
defaults: {seconds: 5}
segments:
  # morning
  - A harbour at dawn: gulls call # far away
  # noon
  - prompt: >-
      The camera rises
      over the roofs.
    seconds: 4      # short
    image: {file: street.jpg, frame: last}

  - {prompt: "A street # full", cut: true, seed: 77}
"""
PROSE = "seed: 3\n# by hand\n\nA harbour at dawn: gulls call.\n\nThe camera rises,\nslowly.\n\n---\n\nA street.\n"
FORMS = {
    "list": LIST,
    "flush list": "segments:\n- one\n- prompt: two\n  seed: 4\n- three\nseed: 30\n",
    "prose": PROSE,
    "lines": "one: a man\ntwo\nthree # four\n",
    "brackets": "{fps: 25, segments: [one, {prompt: two, strength: 0.5}, three]}",
    "nothing but dashes": "- one\n- two\n- three\n",
}
PROMPTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(str.strip)


def prompts(text):
    return [segment.prompt for segment in parse_script(text, find_image=lambda name: name).segments]


@functools.cache
def contents(text):
    script = parse_script(text, find_image=lambda name: name)
    return [(s.prompt, s.frames, s.seed, s.strength, s.images, s.cut, s.takes, s.take) for s in script.segments]


@pytest.mark.parametrize("form", FORMS)
@given(prompt=PROMPTS, index=st.integers(0, 2), to=st.integers(0, 2))
def test_only_what_is_changed_becomes_different(form, prompt, index, to):
    text = FORMS[form]
    before = contents(text)
    after = contents(set_entries(text, index, {"prompt": prompt, "seconds": 3, "seed": 9, "take": None}))
    assert after[index][0] == prompt.strip() and after[index][1:3] == (73, 9) and after[index][3:] == before[index][3:]
    assert after[:index] + after[index + 1 :] == before[:index] + before[index + 1 :]
    moved = list(before)
    moved.insert(to, moved.pop(index))
    assert contents(move_segment(text, index, to)) == moved
    assert contents(remove_segment_entry(text, index)) == before[:index] + before[index + 1 :]
    added = add_segment(text, index, {"prompt": prompt, "cut": True})
    assert contents(added)[:index] + contents(added)[index + 1 :] == before and prompts(added)[index] == prompt.strip()
    # there and back
    assert contents(remove_segment_entry(added, index)) == before


def test_all_other_lines_stay_as_they_were_typed():
    changed = set_entries(LIST, 1, {"seconds": 6, "prompt": 'He says: "hello" #1 🎬'})
    gone = (">-", "camera", "roofs", "seconds: 4", "image")
    kept = [line for line in LIST.split("\n") if line and not any(word in line for word in gone)]
    left = iter(changed.split("\n"))
    assert all(line in left for line in kept)
    assert "# short" in changed and "# noon" in changed and "seconds: 4" not in changed
    assert entries_as_written(changed)[1] == {
        "prompt": 'He says: "hello" #1 🎬', "seconds": 6, "image": {"file": "street.jpg", "frame": "last"},
    }  # fmt: skip
    # a segment takes the comments before it with it
    assert move_segment(LIST, 0, 1).index("# noon") < move_segment(LIST, 0, 1).index("# morning")
    assert "# morning" not in remove_segment_entry(LIST, 0)
    assert add_segment(LIST, 9, {"prompt": "The end."}).startswith(LIST.rstrip("\n"))


def test_a_length_of_one_kind_replaces_the_other_and_frames_are_a_length():
    assert entries_as_written(set_entries("segments:\n  - {prompt: a, seconds: 2}\n", 0, {"frames": 25}))[0] == {
        "prompt": "a", "frames": 25,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: set_entries(LIST, 7, {"seed": 1}), "segment 8 is not there: the script has segments 1 to 3"),
        (lambda: set_entries(LIST, 0, {"colour": 1}), "a segment has no entry 'colour'"),
        (lambda: set_entries(LIST, 0, {"prompt": " "}), "expected text"),
        (lambda: set_entries(LIST, 0, {"seconds": -1}), "expected a length in seconds"),
        (lambda: set_entries(LIST, 0, {"prompt": None}), "has no prompt"),
        (lambda: remove_segment_entry("one\n", 0), "cannot be removed"),
        (lambda: move_segment(LIST, 0, 3), "segment 4 is not there"),
        (lambda: set_entries("segments: 3", 0, {}), "segments is empty or no list"),
    ],
)
def test_what_it_refuses(change, expected):
    with pytest.raises(StoryError, match=expected):
        change()


def test_pictures_with_settings_are_written_as_a_person_would():
    text = "defaults: {frames: 17}\nsegments:\n  - one\n  - two\n"
    first, second = {"file": "a.png", "frame": "last"}, {"file": "b c.png", "frame": 9, "strength": 0.5}
    changed = set_entries(text, 1, {"image": [first, second]})
    assert 'image: [{file: "a.png", frame: "last"}, {file: "b c.png", frame: 9, strength: 0.5}]' in changed
    assert entries_as_written(changed)[1]["image"] == [first, second]
    assert set_entries(set_entries(changed, 1, {"image": first}), 1, {"image": None}) == set_entries(
        text, 1, {"image": None}
    )
    with pytest.raises(StoryError, match="two images stand at frame 16"):
        set_entries(text, 1, {"image": [first, {**second, "frame": 16}]})
