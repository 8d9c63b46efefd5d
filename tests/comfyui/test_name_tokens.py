"""Names of what is saved: tokens as the host's own save nodes have them, and characters that every system takes."""

from datetime import datetime
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.atomic_files import is_portable_below

NOW = datetime(2026, 3, 7, 9, 5, 4)
HIDDEN = SimpleNamespace(
    prompt={
        "1": {"class_type": "KSampler", "inputs": {"seed": 77, "steps": ["2", 0]}, "_meta": {"title": "First pass"}},
        "2": {"class_type": "Text", "inputs": {"value": 'a/b:"c"\n' + "x" * 300}, "_meta": {"title": "Words 2.0"}},
        "3": {"class_type": "KSampler", "inputs": {"seed": 5}, "_meta": {"title": "Second pass"}},
    },
    extra_pnginfo={"workflow": {"nodes": [{"id": 3, "properties": {"Node name for S&R": "mine"}, "title": "Last"}]}},
)
TOKENS = {
    "%width%x%height%": "64x32",
    "%year%-%month%-%day%_%hour%.%minute%.%second%": "2026-03-07_09.05.04",
    "%date:yyyy-MM-dd%/%date:hhmmss%": "2026-03-07/090504",
    "%date:d.M.yy h-m-s%": "7.3.26 9-5-4",
    "%date:hh:mm%": "09_05",
    "%batch_num%": "0",
    "%KSampler.seed%": "77",
    "%First pass.seed%": "77",
    "%Second pass.seed%": "5",
    "%mine.seed%": "5",
    "%Last.seed%": "5",
    "a%Words 2.0.value%": "aa_b__c__" + "x" * 92,
    "100% sure": "100% sure",
    "film\\part": "film/part",
    "ab: c?/d:": "ab_ c_/d_",
    "con/aux.x": "_con/_aux.x",
    "a. /b ": "a/b",
}


@pytest.mark.parametrize("text", TOKENS)
def test_a_token_stands_for_what_it_does_in_the_hosts_own_nodes(pack, text):
    names = pack.nodes.names
    assert names.resolve_name(text, HIDDEN, (64, 32), NOW)[0] == TOKENS[text]


@pytest.mark.parametrize("text", ("%KSampler.steps%", "%nobody.seed%", "%KSampler.cfg%", "%unknown%"))
def test_a_token_that_stands_for_nothing_stays_and_is_told(pack, text):
    name, notes = pack.nodes.names.resolve_name(text, HIDDEN, (64, 32), NOW)
    assert name == text and len(notes) == 1 and text in notes[0]


WORDS = st.lists(st.one_of(st.sampled_from(list(TOKENS)), st.text(max_size=5)), max_size=4).map("".join)


@settings(max_examples=300, deadline=None)
@given(WORDS, st.sampled_from([HIDDEN, None, SimpleNamespace(), SimpleNamespace(prompt=7, extra_pnginfo=[1])]))
def test_any_name_becomes_one_that_every_system_takes_or_one_that_is_refused(pack, text, hidden):
    name, _ = pack.nodes.names.resolve_name(text, hidden, (64, 32), NOW)
    assert not set(name) & set('<>"|?*') and ":" not in name[2:]
    if pack.nodes.host.below("/nowhere", name) is not None:
        # dots and empty parts fall away where the folders are made
        parts = [part for part in name.split("/") if part not in ("", ".", "..") and not part.startswith("~")]
        assert all(is_portable_below(part) or not part.isprintable() or len(part.encode()) > 200 for part in parts)


def test_every_node_that_writes_fills_tokens_in(run, made, folders):
    assert run("SaveState", state=made.state, filename_prefix="s/%width%", form="PNG card").args[1].startswith("s/64_")
    file = run("DecodeToFile", latent=made.finished, filename_prefix="%width%x%height%/%date:yyyy%", **made.vaes).args[
        1
    ]
    assert file.startswith(f"64x64/{datetime.now().year}_0")
    assert (folders / "output" / file.removesuffix(" [output]")).is_file()
