"""Faults of the file system put into a block of code: the n-th write, sync, rename or creation fails."""

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator

STEPS = ("open", "write", "fsync", "replace", "mkdir", "unlink")
CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)


class Counter:
    """How often a step came, and whether it failed."""

    def __init__(self, call: int, code: int):
        self.call, self.code, self.count = call, code, 0

    @property
    def reached(self) -> bool:
        return self.count >= self.call

    def step(self) -> None:
        self.count += 1
        if self.count == self.call:
            raise OSError(self.code, os.strerror(self.code), "/a/path/that/nobody/gave")


class _Writer(io.FileIO):
    """A file whose writes are counted; half of the one that fails is written."""

    counter: Counter

    def write(self, data) -> int:
        try:
            self.counter.step()
        except OSError:
            super().write(memoryview(data)[: len(data) // 2])
            raise
        return super().write(data)


@contextlib.contextmanager
def failing(step: str, call: int, code: int = errno.ENOSPC) -> Iterator[Counter]:
    """Let the ``call``-th ``step`` of the block fail, in this process alone."""
    counter = Counter(call, code)
    real_open = builtins.open

    def opened(file, mode="r", *args, **keywords):
        writes = any(letter in mode for letter in "wxa+")
        if step == "open" and writes:
            counter.step()
        if step != "write" or not writes or "b" not in mode or isinstance(file, int):
            return real_open(file, mode, *args, **keywords)
        raw = _Writer(file, mode.replace("b", ""))
        raw.counter = counter
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def counted(real: Callable) -> Callable:
        def call_or_fail(*args, **keywords):
            counter.step()
            return real(*args, **keywords)

        return call_or_fail

    before = {name: getattr(os, name) for name in ("fsync", "replace", "mkdir", "unlink")}
    try:
        if step in ("open", "write"):
            builtins.open = opened
        else:
            setattr(os, step, counted(before[step]))
        yield counter
    finally:
        builtins.open = real_open
        for name, real in before.items():
            setattr(os, name, real)
