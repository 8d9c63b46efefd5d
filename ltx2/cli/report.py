"""What a verb tells: bars while it works, and its result as text or as one JSON document."""

import argparse
import json
import os
import select
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

from ..stages.pipeline import Segment
from ..stages.request import Job
from ..values import Progress

# The time that a step takes, also where it takes less than a second, and what is left of the work.
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_inv_fmt}, {remaining} left"
UNREAD = 128 + 13  # exit status of what wrote into a pipe that nobody reads, as shells count it
UNITS = {"denoising": "step", "refining": "step", "doubling": "step"}


class Bars:
    """Progress as bars with the time that a step takes and that is left, one for each piece of work in turn. Use it in
    a ``with`` block."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._work: tuple[str, int] | None = None

    def __enter__(self) -> "Bars":
        """The bars themselves."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the last bar as far as it came."""
        self._close()

    def __call__(self, report: Progress) -> None:
        """Move the bar of the work that is reported."""
        work = (report.stage, report.total)
        if self._bar is not None and self._work != work:
            self._close()
        if self._bar is None:
            self._work = work
            self._bar = tqdm(
                desc=report.stage,
                total=report.total,
                unit=UNITS.get(report.stage, "part"),
                bar_format=BAR,
                disable=None,  # silent where nobody looks, such as in a log file
                leave=True,
                dynamic_ncols=True,
            )
        self._bar.update(report.done - self._bar.n)
        if report.done >= report.total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def open_streams() -> None:
    """Make sure that standard output and error are there, so that nothing else is opened in their place, and take any
    text: what their encoding lacks is escaped."""
    for name in ("stdin", "stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115 (until the end)
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def is_unread() -> bool:
    """Whether standard output is a pipe whose reader has gone; what was to be written is then let go."""
    try:
        sys.stdout.flush()
        # what failed to be written may be forgotten already, and then a second try tells nothing
        gone = hasattr(select, "poll") and _is_broken(sys.stdout.fileno())
    except BrokenPipeError:
        gone = True
    except (OSError, ValueError):
        return False
    if gone:
        # or it would be tried once more, and told, when Python ends
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return gone


def _is_broken(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, for verbs that report."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")


def print_result(args: argparse.Namespace, result: Any, lines: Iterable[object]) -> None:
    """The result of a verb on standard output: one JSON document where that is wished, else lines of text."""
    if args.json:
        print(json.dumps(result, indent=1))
        return
    for line in lines:
        print(line)


def made_of(job: Job, segment: Segment, clips: Iterable[Mapping[str, Any]], notes: Iterable[str]) -> dict[str, Any]:
    """What a verb that makes a segment has to report.

    clips: of each clip its ``file``, ``seed`` and ``state``; notes: what was adjusted or chosen.
    """
    size = segment.geometry
    return {
        "clips": [dict(clip) for clip in clips],
        "preset": job.settings.preset.name,
        "width": size.width,
        "height": size.height,
        "frames": size.frames,
        "fps": str(size.fps),
        "seconds": float(size.seconds),
        "spent_seconds": {stage: round(taken, 3) for stage, taken in segment.seconds.items()},
        "peak_bytes": segment.peak_bytes,
        "notes": list(notes),
    }
