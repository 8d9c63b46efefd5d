"""What the host's console shows of a node's steps."""

import re

import pytest

from .shelf import loaded, shelf  # noqa: F401
from .test_stages import SMALL, in_stages


@pytest.fixture
def steps_shown(run, loaded, capfd):  # noqa: F811
    def made():
        capfd.readouterr()
        in_stages(run, loaded(), run("PrepareLatent", **SMALL).args[0])
        return capfd.readouterr().err

    return made


def test_steps_are_counted_with_their_time(steps_shown):
    shown = steps_shown()
    assert re.search(r"denoising: 100%.*2/2 \[\d\d:\d\d<\d\d:\d\d, .*(it/s|s/it)\]", shown)
    assert re.search(r"refining: 100%.*(it/s|s/it)\]", shown)


def test_bars_go_with_those_of_the_host(steps_shown, pack, monkeypatch):
    monkeypatch.setattr(pack.nodes.host.comfy.utils, "PROGRESS_BAR_ENABLED", False, raising=False)
    assert "denoising" not in steps_shown()


def test_an_interruption_ends_the_bar(pack, capfd):
    bar = pack.nodes.console.ConsoleBar()
    step = pack.ltx2.values.Progress
    bar(step("denoising", 0, 8))
    bar(step("denoising", 3, 8))
    bar.close()
    bar(step("video decoding", 0, 1))  # a single piece is no work to watch
    assert "3/8" in capfd.readouterr().err


def test_what_is_known_before_a_long_work_is_told_before_it(pack, caplog):
    shown = pack.nodes.shown

    class Node:
        @classmethod
        def execute(cls):
            for _ in range(2):
                pack.ltx2.stages.request._warn("the clip reaches 21.05 s")
            assert [record.getMessage() for record in caplog.records] == ["the clip reaches 21.05 s"]
            return pack.nodes.host.io.NodeOutput(1, ui={"text": ["made"]})

    assert shown.telling(Node).execute().ui["text"] == ["made", "the clip reaches 21.05 s"]
    assert len(caplog.records) == 1
