"""What a script costs grows with its length and nothing else, and nothing in it raises an error of another kind."""

import tracemalloc

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltx2.errors import StoryError
from ltx2.story.script import nodes as script_nodes
from ltx2.story.script import parse_script
from ltx2.story.script import text as script_text

SIZE = 100_000


def bomb(levels: int, wide: int) -> str:
    """Aliases of aliases; every level multiplies."""
    lists = [f"&a{i} [{', '.join([f'*a{i - 1}'] * wide)}]" for i in range(1, levels)]
    return f"preset: [&a0 [x], {', '.join(lists)}]\nsegments:\n  - prompt: a\n    image: *a{levels - 1}\n"


def filled(piece: str, head: str = "", tail: str = "") -> str:
    return head + piece * ((SIZE - len(head) - len(tail)) // len(piece)) + tail


COSTLY = {
    "aliases of aliases": bomb(20, 9),
    "few aliases": bomb(8, 9),
    "a chain of aliases": bomb(300, 1),
    "itself": "segments:\n  - prompt: x\n    image: &a [*a]\n",
    "list": filled("- a\n", "segments:\n"),
    "flow list": filled("a,", "segments: [", "]"),
    "flow mapping": filled("a,", "{", "}"),
    "empty texts": filled('"",', "segments: [", "]"),
    "aliases": filled("- *a\n", "segments:\n- &a x\n"),
    "long aliases": filled("- *a\n", f"segments:\n- &a {'x' * 60000}\n"),
    "marks": filled("%TAG !a! x\n", "", "---\nsegments: [a]"),
    "keys": "".join(f"key{i}: 1\n" for i in range(9000)) + "segments: [a]",
    "words like keys": filled("promt: a\n"),
    "items like entries": filled("- promt: a\n", "segments:\n"),
    "brackets": filled("[", "preset: "),
    "dashes": filled("- ", "segments:\n  "),
    "questions": filled("? ", "segments:\n  "),
    "indentation": "".join(" " * i + "a:\n" for i in range(440)),
    "blank lines": filled("\n", "segments:\n- a", "- b"),
    "comments": filled("#\n", "segments:\n", "- b"),
    "one long line": filled(' # "', "segments:\n- a"),
    "quotes": filled('"', "segments:\n- a"),
    "open quote": filled("a\n", 'segments:\n- "'),
    "escapes": filled("\\x41", 'segments:\n- "', '"'),
    "spaces": filled(" ", "segments:\n- a", "b"),
    "colons": filled(":", "segments:\n- a"),
    "paragraphs": filled("a\nb\n\n"),
    "scenes": filled("---\n"),
    "numbers": filled("9", "seed: ", "\nsegments: [a]"),
    "images": filled("a,", "segments: [{prompt: a, image: [", "]}]"),
    "documents": filled("---\n", "segments: [a]\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_what_a_script_costs_is_counted(name, monkeypatch):
    counts = {"events": 0, "compared": 0, "files": 0}
    real_parse, real_matches = yaml.parse, script_text.difflib.get_close_matches

    def parse(*args, **keywords):
        for event in real_parse(*args, **keywords):
            counts["events"] += 1
            yield event

    def matches(*args):
        counts["compared"] += 1
        return real_matches(*args)

    def find(name):
        counts["files"] += 1
        return None

    monkeypatch.setattr(script_nodes.yaml, "parse", parse)
    monkeypatch.setattr(script_text.difflib, "get_close_matches", matches)
    text = COSTLY[name]
    assert len(text) <= SIZE
    tracemalloc.start()
    try:
        parse_script(text, find_image=find)
    except StoryError as error:
        assert "\n" not in str(error) and len(str(error)) <= 300
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert counts["events"] <= script_nodes.MAX_NODES * 1.6 and peak < 50e6, (counts, peak)
    assert counts["compared"] <= 250 and counts["files"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ("list", "paragraphs", "aliases", "comments", "one long line", "keys"))
def test_twice_the_script_is_twice_the_work(name):
    """Counted in lines of our own code that run."""
    import sys

    def work(text: str) -> int:
        count = 0

        def trace(frame, event, argument):
            nonlocal count
            if "story" not in frame.f_code.co_filename:
                return None
            count += 1
            return trace

        sys.settrace(trace)
        try:
            parse_script(text)
        except StoryError:
            pass
        finally:
            sys.settrace(None)
        return count

    text = COSTLY[name]
    half = text[: len(text) // 4].rpartition("\n")[0] if "\n" in text else text[: len(text) // 4]
    whole = text[: len(half) * 2]
    assert work(whole) < 2.5 * work(half) + 2000


PIECES = st.sampled_from(
    [
        *("segments:", "- ", "\n", "  ", "prompt: ", "a", "b c", ": ", "'", '"', "[", "]", "{", "}", "&a ", "*a", ","),
        *("!!int ", "!!str ", "# ", "#x", "|", ">", "\t", "?", "---", "...", "%YAML 1.1", "seed: ", "9" * 30, "1e999"),
        *("-1", ".inf", ".nan", "0x1", "2001-01-01", "1:30", "~", "<<: ", "image: ", "frame: ", "last", "cut: ", "yes"),
        *("\x07", "\u2028", "\ud800", "🎬", "é", "takes: ", "take: ", "hold: ", "defaults: ", "override: ", "a.b: "),
        *("x" * 300, "\r", "\ufeff", "\x85"),
    ]
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=24).map("".join))
@example("segments: &a [*a]")
@example('seed: !!int ""\nsegments: [a]')
@example("? {a: b}\n: c")
@example("? [a]\n: c\nsegments: [a]")
@example("{[a]: b}")
@example("fps: 1/0\nsegments: [a]")
@example("fps: ²\nsegments: [a]")
@example("size: ²x²\nsegments: [a]")
@example("fps: 1e300\nsegments: [a]")
@example("override: {[a]: 1}\nsegments: [a]")
def test_only_one_kind_of_error(text):
    try:
        script = parse_script(text, "script", find_image=lambda name: None)
    except StoryError as error:
        message = str(error)
        assert message.startswith("script") and len(message) <= 300 and message.isprintable()
    else:
        assert all(segment.prompt.strip() for segment in script.segments)


def test_too_many_prompts_are_told_before_each_is_looked_at(monkeypatch):
    monkeypatch.setattr(script_text, "_in_quotes", lambda text: pytest.fail("was looked at"))
    with pytest.raises(StoryError, match="line 1, column 1: the script has 50000 segments, expected at most 2000"):
        parse_script("a\n" * 50_000)
