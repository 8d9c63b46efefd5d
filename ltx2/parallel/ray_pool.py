"""The same workers on a Ray cluster: one actor a GPU. Ray is optional: ``pip install ltx2-continuum[ray]``."""

import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ..errors import MissingPackageError, sentence_of
from .pool import TRIES, Begun, TaskFailed, WorkerLost

READY_SECONDS = 20  # until an actor that does not say who it is is passed over, for a while
PATIENCE_SECONDS = 600  # until a task for which no actor answers is given up


def require_ray() -> Any:
    """The Ray module. Raises MissingPackageError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            "a story on a Ray cluster needs Ray: install it with `pip install ltx2-continuum[ray]`"
        ) from error
    return ray


class RayPool:
    """One actor for each worker that the cluster has room for.

    set_up: called once in each actor with ``setup``, gives what answers tasks (as in :func:`.pool.serve`). address: of
    a running cluster; None starts one on this machine. gpus: of each actor, 0 on machines without; size: how many
    actors, None takes as many as the cluster has GPUs (or processors).
    """

    def __init__(
        self,
        set_up: Callable[[bytes], Callable[[bytes], bytes]],
        setup: bytes,
        *,
        address: str | None = None,
        gpus: float = 0,
        size: int | None = None,
    ) -> None:
        self._ray = ray = require_ray()
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        resources = ray.cluster_resources()
        self.size = size or max(1, int(resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1)))

        class Worker:
            def __init__(self, setup: bytes) -> None:
                self._handler: Callable[[bytes], bytes] | None = None
                self._setup = setup

            def name(self) -> str:
                return f"{platform.node()}, process {os.getpid()}"

            def do(self, task: bytes) -> tuple[bool, bytes]:
                try:
                    if self._handler is None:
                        self._handler = set_up(self._setup)
                    return True, self._handler(task)
                except Exception as error:
                    message = sentence_of(error)
                    if message is None:
                        raise
                    return False, message.encode()

        actor = ray.remote(num_gpus=gpus, num_cpus=1, max_restarts=-1, max_task_retries=0)(Worker)
        # a handle knows nothing of set_up, which each actor calls where it lives
        self._actors: list[Any] = [actor.remote(setup) for _ in range(self.size)]
        self._free = list(self._actors)
        self._room = threading.Condition()

    def submit(self, task: bytes, begun: Begun = None) -> Future:
        """See :class:`.pool.Pool`."""
        future: Future = Future()
        threading.Thread(target=self._answer, args=(task, future, begun), daemon=True).start()
        return future

    def close(self) -> None:
        """End the actors; a cluster that was running goes on."""
        for actor in self._actors:
            self._ray.kill(actor, no_restart=True)

    def _answer(self, task: bytes, future: Future, begun: Begun) -> None:
        """Whatever happens, nobody waits for ever."""
        try:
            self._do(task, future, begun)
        except BaseException as error:
            future.set_exception(error)

    def _do(self, task: bytes, future: Future, begun: Begun) -> None:
        if not future.set_running_or_notify_cancel():
            return
        deaths, since = 0, time.monotonic()
        while deaths < TRIES and time.monotonic() - since < PATIENCE_SECONDS:
            with self._room:
                self._room.wait_for(lambda: self._free)
                actor = self._free.pop(0)
            try:
                name = self._named(actor)
                if name is None:
                    continue  # its machine is gone, or not there yet: another one
                if begun is not None:
                    begun(name)
                good, answer = self._ray.get(actor.do.remote(task))
            except self._ray.exceptions.RayError:
                deaths, since = deaths + 1, time.monotonic()
                continue
            finally:
                with self._room:
                    self._free.append(actor)
                    self._room.notify()
            if good:
                future.set_result(answer)
            else:
                future.set_exception(TaskFailed(answer.decode("utf-8", "replace")))
            return
        why = f"{TRIES} workers died on it" if deaths else "no worker of the cluster answers"
        future.set_exception(WorkerLost(f"{why}: look at the cluster's logs"))

    def _named(self, actor: Any) -> str | None:
        """Who an actor is, None where it does not answer in time."""
        try:
            return self._ray.get(actor.name.remote(), timeout=READY_SECONDS)
        except self._ray.exceptions.RayError:
            time.sleep(0.2)
            return None
