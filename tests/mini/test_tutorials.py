"""Commands that the documents show: those that name the demonstration model run as they stand, all others are ones that
the command line takes."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from ltx2.cli import VERBS, main
from ltx2.media import read_video
from training import meaning

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "ltx2/mini/README.md", "training/README.md", "docs", "web/docs")
LATER = ("state show ball.png", "story --status film")  # of first-steps.md, on what its other commands made


def pages() -> list[Path]:
    return [
        path for name in PAGES for path in (sorted((ROOT / name).rglob("*.md")) if "." not in name else [ROOT / name])
    ]


def commands(page: Path) -> list[str]:
    """What follows ``ltx2`` where a line or inline code begins with it and says more than the verb."""
    text = re.sub(r"\\\n\s*", "", page.read_text("utf-8"))
    found = re.findall(r"(?m)(?:^ {4}|^|`)(?:\.venv/bin/)?ltx2 ([a-z]+ [^`\n]*[^`\s])", text)
    return [re.sub(r"\s+#\s.*", "", words) for words in found]


def with_mini(page: Path) -> list[str]:
    later = LATER if page.name == "first-steps.md" else ()
    return [words for words in commands(page) if "mini" in shlex.split(words) or words in later]


@pytest.mark.slow
@pytest.mark.parametrize("page", [*filter(with_mini, pages())], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_work_as_they_are_shown(tmp_path, monkeypatch, page):
    """One after another, in a folder like a clone, with the script that first-steps.md has the reader write."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (script,) = re.findall(r"(?s)```yaml\n(.*?)```", (ROOT / "docs/first-steps.md").read_text("utf-8"))
    (tmp_path / "film.yaml").write_text(script, "utf-8")
    monkeypatch.chdir(tmp_path)
    for words in with_mini(page):
        given = shlex.split(words)
        try:
            assert main(given) == 0, words
        except SystemExit as end:  # what only tells ends by itself
            assert not end.code, words
        if "--out" in given:
            frames = read_video(given[given.index("--out") + 1]).frames
            assert meaning.look(np.asarray(frames[-1], np.float32) / 255).cell is not None, words


def test_the_commands_are_found():
    found = {str(page.relative_to(ROOT)): len(with_mini(page)) for page in pages()}
    assert found["README.md"] >= 2 and found["docs/first-steps.md"] >= 9 and found["ltx2/mini/README.md"] >= 1


def test_the_command_line_knows_what_is_shown():
    """Verbs and options of all commands; what a reader fills in is left alone."""
    verbs = argparse.ArgumentParser().add_subparsers()
    for verb in VERBS:
        importlib.import_module(f"ltx2.cli.{verb}").add_parser(verbs)
    for page in pages():
        for words in commands(page):
            verb, *given = shlex.split(words)
            known = verbs.choices[verb]._option_string_actions
            assert not [word for word in given if word.startswith("--") and word not in known], (page.name, words)
