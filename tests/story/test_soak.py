"""What ``make soak`` watches over hours, seen in a short story; and that the watching sees what grows."""

import sys
import tracemalloc

import pytest

from benchmarks import soak

from .fake import Fake
from .test_chain import run, story

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


class Watched(Fake):
    """Takes a sample before each segment; leaky: keeps a file open and some memory each time."""

    def __init__(self, leaky=False):
        super().__init__()
        self.samples, self.traced, self.kept, self.leaky = [], [], [], leaky

    def __call__(self, task):
        self.samples.append(soak.sample())
        self.traced.append(tracemalloc.get_traced_memory()[0])
        if self.leaky:
            self.kept.append((open("/dev/null"), bytes(50_000)))  # noqa: SIM115
        made = super().__call__(task)
        self.tasks.clear()  # which hold frames
        return made


def watched(tmp_path, leaky):
    generate = Watched(leaky)
    tracemalloc.start()
    try:
        run(story(24, frames=17), tmp_path, generate)
    finally:
        tracemalloc.stop()
        for file, _ in generate.kept:
            file.close()
    files, threads = ([getattr(one, name) for one in generate.samples] for name in ("files", "threads"))
    return soak.growth(generate.traced), soak.growth(files), soak.growth(threads)


def test_nothing_grows_with_the_segments(tmp_path):
    traced, files, threads = watched(tmp_path, leaky=False)
    # a segment's record and its lines of the journal stay, for as long as the story is told
    assert traced < 12_000 and abs(files) < 1e-6 and abs(threads) < 1e-6


def test_what_grows_is_seen(tmp_path):
    traced, files, _ = watched(tmp_path, leaky=True)
    assert traced > 45_000 and files == pytest.approx(1)


def test_a_table_tells_the_growth_of_each_column():
    samples = [soak.Sample(2**20 * (100 + n), 2**20 * 50, 7, 2) for n in range(40)]
    said = soak.table("rounds", samples)
    assert said.splitlines()[2] == "| 1 | 100.0 | 50.0 | 7 | 2 |"
    assert said.splitlines()[-1] == "| growth each, from 11 on | +1024.0 KiB | +0.0 KiB | +0.000 | +0.000 |"
