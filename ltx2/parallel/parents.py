"""Processes that end with the one that started them, however that one ends, and when it asks them to."""

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable

from .. import system

LOOK_SECONDS, GRACE_SECONDS = 0.5, 3.0
# Longer than whoever asked waits, so that this is for the case that nobody is there any more.
ALARM_SECONDS = 8.0
# The exit status of a run that was asked to end, as shells have it.
INTERRUPTED = 130
# That of a rank which only knows that another one is gone.
LOST = 75


def end_with_parent(parent: int) -> None:
    """End this process when its parent is gone, killed as it may be: nobody else would, and it may fill a GPU."""
    is_gone = _watch_of(parent)
    # a process started in the background ignores the keyboard's signal
    number = signal.SIGTERM if callable(signal.getsignal(signal.SIGTERM)) else signal.SIGINT

    def watch() -> None:
        while not is_gone():
            time.sleep(LOOK_SECONDS)
        _thread.interrupt_main(number)  # files that are half written go
        time.sleep(GRACE_SECONDS)
        os._exit(1)  # it is in a place that no signal reaches

    threading.Thread(target=watch, daemon=True).start()


def _watch_of(parent: int) -> Callable[[], bool]:
    try:
        return system.parent_watch(parent)
    except OSError:  # it was quicker
        return lambda: True


def end_when_asked(alarm_seconds: float = ALARM_SECONDS) -> None:
    """The first signal that asks this process to end raises KeyboardInterrupt, once, so that half-written files go.

    Later ones change nothing, since they would break off that very work. A library may swallow the exception, or wait
    for a process that is gone: the alarm ends this one whatever it is in.
    """
    asked: list[int] = []

    def ask(number, frame):
        if not asked:
            asked.append(number)
            end_within(alarm_seconds)
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ask)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell has it for what it starts in the background
        signal.signal(signal.SIGINT, ask)


def stop_listening() -> None:
    """From here on nobody asks this process to end: it is ending."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_within(seconds: float) -> None:
    """The system ends this process after so many seconds, even in a place where Python does not run any more."""
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
