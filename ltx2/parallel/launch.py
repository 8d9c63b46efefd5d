"""Starting the ranks of a run on this machine, and ending all of them when one ends badly."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .. import system
from ..atomic_files import held_folder
from .parents import INTERRUPTED, LOST
from .ranks import LAUNCHER_VARIABLE, STORE_VARIABLE

POLL_SECONDS = 0.05
# How long ranks may take to end by themselves once they are asked to.
GRACE_SECONDS = 5.0
# How long the rank that is the reason is waited for, when others have missed it.
REASON_SECONDS = 3.0
# What Windows ends a process with that broke down begins here.
CRASHED = 0xC0000000


def launch(arguments: Sequence[str], size: int, log: Callable[[str], None]) -> int:
    """Run ``python -m ltx2 ARGUMENTS`` as ``size`` ranks and wait for them; the exit status of the run.

    The first rank that fails ends the others within seconds; so does an interruption from the keyboard, or a request
    to terminate. Ranks print for themselves, all but the first only what went wrong; log: takes what the launcher has
    to say.
    """
    # what a launcher that was killed left there goes with the next one
    with _asked_to_end() as asked, held_folder(tempfile.gettempdir()) as folder:
        folder.chmod(0o700)
        ranks: list[subprocess.Popen] = []
        try:
            for rank in range(size):
                environment = _environment(rank, size, folder / "store")
                ranks.append(subprocess.Popen([sys.executable, "-m", "ltx2", *arguments], env=environment))
            return _wait(ranks, asked, log)
        finally:
            _end(ranks, asked)


@contextlib.contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """The signals that asked this process to end during the block, as they come.

    Nothing is raised: an exception could come between any two steps, even while a lock of ``subprocess`` is held, and
    whoever waits for that lock afterwards waits for ever. A shell that starts a run in the background has it ignore
    the keyboard; that stays.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    numbers = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, lambda number, frame: asked.append(number)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(rank: int, size: int, store: Path) -> dict[str, str]:
    own = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        STORE_VARIABLE: store,
        LAUNCHER_VARIABLE: os.getpid(),
    }
    return {**os.environ, **{name: str(value) for name, value in own.items()}}


def _wait(ranks: Sequence[subprocess.Popen], asked: Sequence[int], log: Callable[[str], None]) -> int:
    """Until all have ended well, or one has not, or somebody asked for the end. Of several that end badly the one that
    was the reason is told: what it did to the others may be seen first."""
    deadline = math.inf
    while True:
        statuses = [rank.poll() for rank in ranks]
        if asked:
            log("interrupted")
            return INTERRUPTED
        failed = [(rank, status) for rank, status in enumerate(statuses) if status]
        reasons = [one for one in failed if one[1] != LOST]
        if reasons:
            return _log_end(*min(reasons, key=lambda one: 0 < one[1] < CRASHED), log)
        if failed:
            deadline = min(deadline, time.monotonic() + REASON_SECONDS)
            if time.monotonic() >= deadline or None not in statuses:
                log("the ranks lost each other: look for what they printed")
                return 1
        if all(status == 0 for status in statuses):
            return 0
        time.sleep(POLL_SECONDS)


def _log_end(rank: int, status: int, log: Callable[[str], None]) -> int:
    """Tell how a rank ended that did not end well; the exit status of the run."""
    if status < 0:
        log(f"rank {rank} was killed (signal {-status}): the others were ended")
        return 128 - status
    if status >= CRASHED:
        log(f"rank {rank} crashed (status {status:#x}): the others were ended")
        return 1
    if status == INTERRUPTED:
        log("interrupted")
    return status


def _end(ranks: Sequence[subprocess.Popen], asked: Sequence[int], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask the ranks to end, and end those that do not in time; who is in a hurry asks once more."""
    heard = len(asked)
    if not (system.WINDOWS and asked):  # there the keyboard asks every process itself, and this would kill them
        for rank in ranks:
            with contextlib.suppress(OSError):
                rank.terminate()  # nothing happens to one that has ended
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and len(asked) == heard and any(rank.poll() is None for rank in ranks):
        time.sleep(POLL_SECONDS)
    for rank in ranks:
        with contextlib.suppress(OSError):
            rank.kill()
    for rank in ranks:
        # one that a driver holds cannot even be killed, and is not waited for
        with contextlib.suppress(subprocess.TimeoutExpired):
            rank.wait(grace_seconds)
