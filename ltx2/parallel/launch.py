"""Starting the ranks of a run on this machine, and ending all of them when one ends badly."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .ranks import LAUNCHER_VARIABLE, STORE_VARIABLE

POLL_SECONDS = 0.05
# How long ranks may take to end by themselves once they are asked to.
GRACE_SECONDS = 3.0


def launch(arguments: Sequence[str], size: int, log: Callable[[str], None]) -> int:
    """Run ``python -m ltx2 ARGUMENTS`` as ``size`` ranks and wait for them; the exit status of the run.

    The first rank that fails ends the others within seconds; so does an interruption from the keyboard, or a request
    to terminate. Ranks print for themselves, all but the first only what went wrong; log: takes what the launcher has
    to say.
    """
    with _terminated_as_interrupted(), tempfile.TemporaryDirectory(prefix="ltx2-ranks-") as folder:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "ltx2", *arguments], env=_environment(rank, size, Path(folder) / "store")
            )
            for rank in range(size)
        ]
        try:
            return _wait(ranks, log)
        except KeyboardInterrupt:
            return 130
        finally:
            _end(ranks)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A request to terminate ends the block as the keyboard does, so that no rank is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def _wait(ranks: Sequence[subprocess.Popen], log: Callable[[str], None]) -> int:
    """Until all have ended well, or one has not."""
    while True:
        states = [rank.poll() for rank in ranks]
        failed = [(rank, state) for rank, state in enumerate(states) if state]
        if failed:
            rank, state = failed[0]
            if state < 0:
                log(f"rank {rank} was killed (signal {-state}): the others were ended")
            return state if state > 0 else 128 - state
        if all(state == 0 for state in states):
            return 0
        time.sleep(POLL_SECONDS)


def _end(ranks: Sequence[subprocess.Popen]) -> None:
    """Ask the ranks to end, and end those that do not in time; who is in a hurry interrupts once more."""
    try:
        for rank in ranks:
            if rank.poll() is None:
                with contextlib.suppress(OSError):
                    rank.send_signal(signal.SIGINT if os.name != "nt" else signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for rank in ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                rank.wait(max(0.0, deadline - time.monotonic()))
    except KeyboardInterrupt:
        pass
    finally:
        for rank in ranks:
            rank.kill()  # nothing happens to one that has ended
            rank.wait()
