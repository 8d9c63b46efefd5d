"""Workers that do tasks: processes of this machine. A task and its result are bytes.

A worker is a program that reads one message that sets it up and then tasks, and writes one answer for each; nothing
but bytes travels. A worker that dies is started anew and its task goes to whoever is free, at most :data:`TRIES` times.
"""

import contextlib
import os
import queue
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import BinaryIO, Protocol, cast

from .. import system
from ..errors import Ltx2Error, sentence_of
from .parents import end_with_parent

TRIES = 3
_LENGTH = struct.Struct("<cQ")
_DONE, _FAILED = b"d", b"f"


class TaskFailed(Ltx2Error):
    """A worker did a task and raised: the message is the worker's own sentence. Trying again would not help."""


class WorkerLost(Ltx2Error):
    """Workers died on a task as often as they may."""


Begun = Callable[[str], None] | None


class Pool(Protocol):
    """Somewhere to do tasks."""

    size: int

    def submit(self, task: bytes, begun: "Begun" = None) -> Future:
        """A future of the answer's bytes. It raises TaskFailed or WorkerLost. begun: is called with the name of each
        worker that begins it, from that worker's thread."""

    def close(self) -> None:
        """End the workers. Tasks that wait are cancelled, those that run are given up."""


def serve(set_up: Callable[[bytes], Callable[[bytes], bytes]], source: BinaryIO, sink: BinaryIO) -> None:
    """A worker's life: set up by the first message, then an answer to each task, until the source ends or the process
    that started it, also in the middle of a task.

    Errors of the package, of the file system and of memory are answers too; others end the worker, so that whoever
    waits sees it die.
    """
    end_with_parent(os.getppid())
    try:
        _serve(set_up, source, sink)
    except (BrokenPipeError, KeyboardInterrupt):
        return  # nobody is there for an answer


def _serve(set_up: Callable[[bytes], Callable[[bytes], bytes]], source: BinaryIO, sink: BinaryIO) -> None:
    message = _read(source)
    if message is None:
        return
    try:
        handler = set_up(message[1])
    except Exception as error:
        if (sentence := sentence_of(error)) is None:
            raise
        _write(sink, _FAILED, sentence.encode())
        return
    _write(sink, _DONE, b"")
    while (message := _read(source)) is not None:
        try:
            kind, answer = _DONE, handler(message[1])
        except Exception as error:
            if (sentence := sentence_of(error)) is None:
                raise
            kind, answer = _FAILED, sentence.encode()
        _write(sink, kind, answer)


def _read(source: BinaryIO) -> tuple[bytes, bytes] | None:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    kind, length = _LENGTH.unpack(head)
    data = source.read(length)
    return (kind, data) if len(data) == length else None


def _write(sink: BinaryIO, kind: bytes, data: bytes) -> None:
    sink.write(_LENGTH.pack(kind, len(data)))
    sink.write(data)
    sink.flush()


class _Worker:
    """One process, started when it is first needed and again after it died."""

    def __init__(self, name: str, command: Sequence[str], setup: bytes, environment: Mapping[str, str]):
        self.name = name
        self._command, self._setup, self._environment = command, setup, environment
        self.process: subprocess.Popen | None = None

    def do(self, task: bytes, begun: Begun = None) -> tuple[bytes, bytes] | None:
        """Kind and bytes of the answer, or None when the process died."""
        try:
            if self.process is None:
                self._start()
                ready = self._exchange(self._setup)
                if ready is None or ready[0] == _FAILED:
                    self.stop()
                    return ready
            if begun is not None and self.process is not None:
                begun(f"{self.name}, process {self.process.pid}")
            answer = self._exchange(task)
        except OSError:
            answer = None
        if answer is None:
            self.stop()
        return answer

    def _start(self) -> None:
        environment = {**os.environ, **self._environment}
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, **system.apart()
        )

    def _exchange(self, data: bytes) -> tuple[bytes, bytes] | None:
        process = cast("subprocess.Popen[bytes]", self.process)
        _write(cast(BinaryIO, process.stdin), b"t", data)
        return _read(cast(BinaryIO, process.stdout))

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()


class LocalPool:
    """Worker processes of this machine.

    command: starts a worker, which speaks as :func:`serve` does; setup: the message that each gets first. environments:
    what each worker's environment has beside this one's, such as the GPU it sees; their number is the pool's size.
    """

    def __init__(self, command: Sequence[str], setup: bytes, environments: Sequence[Mapping[str, str]]):
        self.size = len(environments)
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._closed = threading.Event()
        self._workers = [
            _Worker(f"worker {number}", command, setup, environment)
            for number, environment in enumerate(environments, 1)
        ]
        self._threads = [threading.Thread(target=self._run, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def submit(self, task: bytes, begun: Begun = None) -> Future:
        future: Future = Future()
        self._tasks.put((task, future, 1, begun))
        return future

    def processes(self) -> list[int]:
        """Process numbers of the workers that run."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def close(self) -> None:
        self._closed.set()
        for worker in self._workers:
            worker.stop()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, worker: _Worker) -> None:
        while True:
            item = self._tasks.get()
            if item is None or self._closed.is_set():
                if item is not None:
                    item[1].cancel()
                return
            task, future, tries, begun = item
            if tries == 1 and not future.set_running_or_notify_cancel():
                continue
            try:
                answer = worker.do(task, begun)
            except BaseException as error:  # such as of who is told that it begins: nobody waits for ever
                future.set_exception(error)
                continue
            if self._closed.is_set():
                _resolve(future, error=WorkerLost("the run was ended"))
            elif answer is None and tries < TRIES:
                self._tasks.put((task, future, tries + 1, begun))
            elif answer is None:
                _resolve(future, error=WorkerLost(f"{TRIES} workers died on it: look for what they printed"))
            elif answer[0] == _FAILED:
                _resolve(future, error=TaskFailed(answer[1].decode("utf-8", "replace")))
            else:
                _resolve(future, answer[1])


def _resolve(future: Future, result: bytes | None = None, error: BaseException | None = None) -> None:
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
