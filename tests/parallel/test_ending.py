"""Nothing that is asked to end can hang: neither a rank that does not listen, nor the launcher that waits for it."""

import functools
import os
import signal
import subprocess
import sys

import pytest

from ltx2 import __main__
from ltx2.parallel import launch
from ltx2.parallel.launch import _asked_to_end, _end, _wait
from ltx2.parallel.parents import INTERRUPTED, LOST
from ltx2.parallel.ranks import LAUNCHER_VARIABLE

from .processes import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of one process to another")

DEAF = (
    "import signal, time; [signal.signal(one, signal.SIG_IGN) for one in (2, 15)]; print(flush=True); time.sleep(600)"
)
# swallows what it is asked, and goes on in a loop that nothing but a second request or the alarm ends
SWALLOWS = """
import sys, time
from ltx2.parallel.parents import end_when_asked
end_when_asked(float(sys.argv[1]))
try:
    print("here", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("asked", flush=True)
while True:
    time.sleep(0.01)
"""


def started(*arguments: str, background: bool = False) -> subprocess.Popen:
    program = [sys.executable, "-c", *arguments]
    if background:
        program = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *program]
    # whoever runs these tests in the background has the keyboard's signal ignored, which goes on to what is started
    hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=hears)
    process.stdout.readline()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ranks_that_ignore_every_request_are_ended_at_the_first_signal(number):
    said: list[str] = []
    hearing = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _asked_to_end() as asked:
            ranks = [started(DEAF), started(DEAF)]
            signal.raise_signal(number)
            assert _wait(ranks, asked, said.append) == INTERRUPTED
            _end(ranks, asked, grace_seconds=0.2)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, hearing)
    assert said == ["interrupted"] and [rank.returncode for rank in ranks] == [-signal.SIGKILL] * 2


def test_a_rank_knows_its_launcher_before_anything_is_imported():
    assert __main__.LAUNCHER_VARIABLE == LAUNCHER_VARIABLE


class Seen:
    """A rank whose state is looked at: one after the other, and the last from then on."""

    def __init__(self, *states):
        self.states = list(states)

    def poll(self):
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.mark.parametrize(
    "states, status, said",
    [
        (((LOST,), (None, None, -9)), 137, ["rank 1 was killed (signal 9): the others were ended"]),
        (((1,), (-11,)), 139, ["rank 1 was killed (signal 11): the others were ended"]),
        (((None, LOST), (LOST,), (None, None, None, 1)), 1, []),
        (((LOST,), (0,)), 1, ["the ranks lost each other: look for what they printed"]),
        (((LOST,), (None,)), 1, ["the ranks lost each other: look for what they printed"]),
        (((LOST,), (None, INTERRUPTED)), INTERRUPTED, ["interrupted"]),
    ],
)
def test_the_rank_that_is_the_reason_is_told_whichever_is_seen_first(monkeypatch, states, status, said):
    monkeypatch.setattr(launch, "REASON_SECONDS", 0.3)
    told: list[str] = []
    assert _wait([Seen(*one) for one in states], [], told.append) == status and told == said


def test_who_is_in_a_hurry_asks_twice():
    with _asked_to_end() as asked:
        ranks = [started(DEAF)]

        class Hurried(list):  # a second request comes while the ranks have their time
            looks = 0

            def __len__(self):
                self.looks += 1
                return min(self.looks, 2)

        _end(ranks, Hurried(), grace_seconds=600)
    assert ranks[0].returncode == -signal.SIGKILL and asked == []


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_a_rank_hears_one_request_and_ends_even_where_a_library_swallows_it(numbers):
    process = started(SWALLOWS, "2")
    process.send_signal(numbers[0])
    first = process.stdout.readline()
    process.send_signal(numbers[1])
    assert first == "asked\n" and process.communicate(timeout=60)[0] == ""
    assert process.returncode == -signal.SIGALRM


def test_a_rank_in_the_background_leaves_the_keyboard_alone_and_ends_when_asked():
    process = started(SWALLOWS, "2", background=True)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "asked\n" and process.returncode == -signal.SIGALRM
