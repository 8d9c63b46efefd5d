"""What the documents say of the demonstration model is what was measured, and meets what it was made for."""

import json
from pathlib import Path

import pytest

from benchmarks.meaning import METHODS, cases, table
from training import meaning

ROOT = Path(__file__).resolve().parents[2]
FOUND = json.loads((ROOT / "benchmarks/meaning.json").read_text("utf-8"))
CONTINUED, SILENT, PICTURE, ANEW = (method.title for method in METHODS)
SHOWN = ("cell", "motion", "colour", "tone")


def test_it_was_measured_on_prompts_that_training_never_saw():
    stories = cases(FOUND["cases"])
    assert len(stories) == 24 and all(case.subject.withheld for case in stories)
    assert len({case.subject for case in stories}) == 24


def test_the_bars_are_met():
    first, _, last = FOUND["full"][CONTINUED]["segments"]
    for segment, bars in (
        (first, {"cell": 0.9, "colour": 0.95, "shape": 0.85, "scene": 0.95, "tone": 0.95}),
        (last, {"cell": 0.8, "colour": 0.9, "tone": 0.95}),
    ):
        assert all(segment[name] >= bar for name, bar in bars.items())
    assert FOUND["full"][CONTINUED]["without_ghost"] >= 0.7 and FOUND["full"][CONTINUED]["level_step_db"] <= 1
    assert min(share for segment in FOUND["judge"]["segments"] for share in segment.values()) >= 0.99
    for other in (PICTURE, ANEW):
        assert FOUND["full"][other]["segments"][2]["cell"] < last["cell"] - 0.05
    assert min(FOUND["full"][other]["level_step_median_db"] for other in (SILENT, PICTURE, ANEW)) > 1


def test_the_report_holds_the_tables():
    rows = {"the judge on true films": FOUND["judge"], **FOUND["full"], "other prompts": FOUND["other prompts"]}
    report = (ROOT / "benchmarks/meaning.md").read_text("utf-8")
    assert table(rows) in report and table(FOUND["brief"]) in report
    assert " | ".join(f"{FOUND['other state'][name]:.2f}" for name in meaning.NAMES) in report


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.title)
def test_the_readme_shows_them(method):
    page = (ROOT / "README.md").read_text("utf-8")
    card = (ROOT / "ltx2/mini/README.md").read_text("utf-8")
    for kind in ("full", "brief"):
        found = FOUND[kind][method.title]
        shares = [f"{found['segments'][2][name]:.2f}" for name in SHOWN]
        row = " | ".join([*shares, f"{found['level_step_median_db']:.1f}"])
        assert f"| {method.title} | {row} |" in page
        assert method.title != CONTINUED or f" | {row} |" in card
