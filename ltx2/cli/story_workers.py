"""A story's segments made by worker processes of this machine; and, run as a program, one of these workers.

A worker loads the models once. Requests and frames go through files in a folder that both know, named by the hash of
their content; where there is no such folder, as bytes with the rest.
"""

import argparse
import contextlib
import hashlib
import json
import platform
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import system
from ..errors import StoryError
from ..parallel.pool import LocalPool, Pool, serve
from ..parallel.ray_pool import RayPool
from ..parallel.wire import from_bytes, to_bytes
from ..stages.pipeline import generate
from ..stages.request import make_job
from ..story.from_pipeline import request_of
from ..story.sentences import as_story_error, shown
from ..story.tasks import MadeSegment, SegmentTask
from ..values import AVLatent
from . import options

CHUNK = 16  # frames
HERE = "here"  # in place of a cluster's address


class WorkerGenerator:
    """A generator for ``run_story`` that has a pool's workers make the segments."""

    def __init__(self, pool: Pool, exchange: Path | None, draft: bool = False) -> None:
        self._pool, self._exchange, self._draft = pool, exchange, draft
        self.tell: Callable[[SegmentTask, str], None] = lambda task, where: None

    def __call__(self, task: SegmentTask) -> MadeSegment:
        """Have one segment made. Raises TaskFailed with the worker's own sentence, WorkerLost when workers died on
        it."""
        request = to_bytes(replace(request_of(task), draft=self._draft))
        if self._exchange is None:
            return self._answered(self._done(request, task))
        given = _left_request(request, self._exchange)
        try:
            return self._answered(self._done(given.name.encode(), task))
        finally:
            given.unlink(missing_ok=True)

    def _done(self, asked: bytes, task: SegmentTask) -> bytes:
        answer = self._pool.submit(asked, lambda where: self.tell(task, where))
        system.wait_for([answer])
        return answer.result()

    def _answered(self, data: bytes) -> MadeSegment:
        answer = from_bytes(data)
        before = None if answer["before"] is None else self._received(answer["before"])
        return MadeSegment(
            self._received(answer["frames"]),
            answer["audio"].audio,
            answer["sound"],
            tuple(answer["notes"]),
            answer["rounds"],
            before,
            answer["drift"],
        )

    def _received(self, frames: Any) -> Iterable:
        if self._exchange is None:
            return (frames,)
        return _taken(self._exchange / frames["name"], frames["name"].partition("-")[0], tuple(frames["shape"]))


def local_pool(args: argparse.Namespace, exchange: Path) -> LocalPool:
    """Workers with the models that a command line names: one a GPU, or as many as are asked for on a CPU."""
    gpus = torch.cuda.device_count() if (args.device or options.default_device()) == "cuda" else 0
    # results depend on how many threads share a sum: as many as here
    places = [{"CUDA_VISIBLE_DEVICES": str(number % gpus)} if gpus else {} for number in range(args.workers)]
    return LocalPool([sys.executable, "-m", __name__], _setup(args, exchange), places)


def ray_pool(args: argparse.Namespace, exchange: Path | None = None) -> RayPool:
    """Workers on a Ray cluster, one for each of its GPUs, or on clusters without as many as are asked for. exchange: a
    folder that all machines see. Raises MissingPackageError and RequestError."""
    device = args.device or options.default_device()
    return RayPool(
        set_up,
        _setup(args, exchange),
        address=None if args.ray == HERE else args.ray,
        gpus=1 if device == "cuda" else 0,
        size=args.workers if args.workers > 1 else None,
    )


def _setup(args: argparse.Namespace, exchange: Path | None) -> bytes:
    given = {name: value for name, value in vars(args).items() if _is_plain(value)}
    place = None if exchange is None else str(exchange.absolute())
    return json.dumps({"args": given, "exchange": place, "threads": torch.get_num_threads()}).encode()


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(item is None or isinstance(item, (str, int, float)) for item in items)


def _taken(path: Path, digest: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Frames from the file that a worker left, which goes afterwards. Raises StoryError for other content."""
    frames = np.memmap(path, np.uint8, "r", shape=shape)
    try:
        found = hashlib.sha256()
        for first in range(0, len(frames), CHUNK):
            found.update(frames[first : first + CHUNK].tobytes())
        if found.hexdigest() != digest:
            raise StoryError("frames came damaged from a worker: run the story again")
        for first in range(0, len(frames), CHUNK):
            yield np.array(frames[first : first + CHUNK])
    finally:
        del frames
        path.unlink(missing_ok=True)


def set_up(setup: bytes) -> Callable[[bytes], bytes]:
    """Load the models of a worker; returns what makes a segment."""
    given = json.loads(setup)
    torch.set_num_threads(given["threads"])
    models = options.load(argparse.Namespace(**given["args"]))

    exchange = None if given["exchange"] is None else Path(given["exchange"])

    def make(task: bytes) -> bytes:
        request = from_bytes(task if exchange is None else _request(exchange, task.decode()))
        segment = generate(models, make_job(models, request))

        def sent(frames: Iterable[np.ndarray]) -> Any:
            return np.concatenate(list(frames)) if exchange is None else _left(frames, exchange)

        base = segment.base
        answer = {"frames": sent(segment.frames()), "before": None if base is None else sent(base.frames())}
        answer |= {"notes": list(segment.notes), "rounds": segment.rounds, "drift": segment.drift_reference}
        return to_bytes(answer | {"audio": AVLatent(None, segment.latent.audio), "sound": segment.sound})

    return make


def _left_request(request: bytes, exchange: Path) -> Path:
    """A request as a file in a folder, named by its content; the same may be asked for by several at once."""
    path = exchange / f"{hashlib.sha256(request).hexdigest()}-{uuid.uuid4().hex}"
    with as_story_error(f"a request cannot be left in {shown(exchange.parent)}"):
        path.write_bytes(request)
    return path


def _request(exchange: Path, name: str) -> bytes:
    """A request that lies in a folder. Raises StoryError where it is not there whole."""
    with as_story_error(f"{platform.node()} does not see the requests in {shown(exchange.parent)}"):
        found = (exchange / name).read_bytes()
    if hashlib.sha256(found).hexdigest() != name.partition("-")[0]:
        raise StoryError(f"a request came damaged to {platform.node()}: run the story again")
    return found


def _left(frames: Iterable[np.ndarray], exchange: Path) -> dict[str, Any]:
    """Frames as a file in a folder, and what finds them there."""
    digest, shape, temp = hashlib.sha256(), [0, 0, 0, 3], exchange / f"{uuid.uuid4().hex}.part"
    with as_story_error(f"frames cannot be left in {shown(exchange.parent)}"), contextlib.ExitStack() as undone:
        undone.callback(temp.unlink, missing_ok=True)  # a full disk needs the room
        with open(temp, "wb") as file:
            for piece in frames:
                digest.update(piece.tobytes())
                file.write(piece.tobytes())
                shape = [shape[0] + len(piece), *piece.shape[1:]]
        undone.pop_all()
    # two segments may have the same frames, and the file of each goes when it was read
    name = f"{digest.hexdigest()}-{uuid.uuid4().hex}"
    system.replace(temp, exchange / name)
    return {"name": name, "shape": shape}


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    serve(set_up, sys.stdin.buffer, answers)
