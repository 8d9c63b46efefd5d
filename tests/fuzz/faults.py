"""A disk that refuses, put into a block of code: the n-th write, sync, rename, creation or removal fails."""

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator

import av

OF_FILES = ("open", "write", "truncate")
OF_OS = ("fsync", "replace", "rename", "link", "mkdir", "unlink", "rmdir")
OF_FILMS = ("mux", "close")  # what FFmpeg writes by itself
STEPS = (*OF_FILES, *OF_OS, *OF_FILMS)
CODES = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)
PLACE = "/a/path/that/nobody/gave"


class Counter:
    """What was done, and whether a step failed: the ``call``-th, and with ``lasting`` all after it."""

    def __init__(self, call: int, code: int, lasting: bool):
        self.call, self.code, self.lasting = call, code, lasting
        self.done: list[str] = []

    def step(self, name: str) -> None:
        self.done.append(name)
        count = len(self.done)
        if count == self.call or (self.lasting and count > self.call):
            raise OSError(self.code, os.strerror(self.code), PLACE)


class _File(io.FileIO):
    """A file whose writes are counted; half of the one that fails is written."""

    step: Callable[[str], None]

    def write(self, data) -> int:
        try:
            self.step("write")
        except OSError:
            super().write(memoryview(data)[: len(data) // 2])
            raise
        return super().write(data)

    def truncate(self, size=None) -> int:
        self.step("truncate")
        return super().truncate(size)


class _Container:
    """A PyAV container that is written to."""

    def __init__(self, real, step: Callable[[str], None]):
        self._real, self._step = real, step

    def __getattr__(self, name: str):
        return getattr(self._real, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def mux(self, packets) -> None:
        self._step("mux")
        self._real.mux(packets)

    def close(self) -> None:
        self._step("close")
        self._real.close()


@contextlib.contextmanager
def failing(
    steps: str | Iterable[str], call: int, code: int = errno.ENOSPC, lasting: bool = False
) -> Iterator[Counter]:
    """Let the ``call``-th of these steps of the block fail (0: none), in this process alone."""
    steps = {steps} if isinstance(steps, str) else set(steps)
    counter = Counter(call, code, lasting)
    real_open, real_av_open = builtins.open, av.open

    def step(name: str) -> None:
        if name in steps:
            counter.step(name)

    def opened(file, mode="r", buffering=-1, *args, **keywords):
        if isinstance(file, int) or not any(letter in mode for letter in "wxa+"):
            return real_open(file, mode, buffering, *args, **keywords)
        step("open")
        if "b" not in mode:
            return real_open(file, mode, buffering, *args, **keywords)
        raw = _File(file, mode.replace("b", ""))
        raw.step = step
        if not buffering:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def av_opened(file, mode=None, **keywords):
        container = real_av_open(file, mode, **keywords)
        return _Container(container, step) if mode == "w" else container

    def counted(name: str, real: Callable) -> Callable:
        def call_or_fail(*args, **keywords):
            step(name)
            return real(*args, **keywords)

        return call_or_fail

    before = {name: getattr(os, name) for name in OF_OS}
    try:
        builtins.open = io.open = opened
        av.open = av_opened
        for name in OF_OS:
            setattr(os, name, counted(name, before[name]))
        yield counter
    finally:
        builtins.open = io.open = real_open
        av.open = real_av_open
        for name, real in before.items():
            setattr(os, name, real)
