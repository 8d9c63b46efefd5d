"""A story's segments made by worker processes of this machine; and, run as a program, one of these workers.

A worker loads the models once. Requests come to it as bytes; frames go back through a file in a folder that both know,
named by the hash of their content, the rest as bytes.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import StoryError
from ..parallel.pool import LocalPool, Pool, serve
from ..parallel.wire import from_bytes, to_bytes
from ..stages.pipeline import generate
from ..stages.request import make_job
from ..story.from_pipeline import request_of
from ..story.tasks import MadeSegment, SegmentTask
from ..values import AVLatent
from . import options

CHUNK = 16  # frames


class WorkerGenerator:
    """A generator for ``run_story`` that has a pool's workers make the segments."""

    def __init__(self, pool: Pool, exchange: Path, draft: bool = False) -> None:
        self._pool, self._exchange, self._draft = pool, exchange, draft
        self.tell: Callable[[SegmentTask, str], None] = lambda task, where: None

    def __call__(self, task: SegmentTask) -> MadeSegment:
        """Have one segment made. Raises TaskFailed with the worker's own sentence, WorkerLost when workers died on
        it."""
        request = to_bytes(replace(request_of(task), draft=self._draft))
        answer = from_bytes(self._pool.submit(request, lambda where: self.tell(task, where)).result())
        frames = _taken(self._exchange / answer["frames"], answer["frames"], tuple(answer["shape"]))
        return MadeSegment(frames, answer["audio"].audio, answer["sound"], tuple(answer["notes"]))


def local_pool(args: argparse.Namespace, exchange: Path) -> LocalPool:
    """Workers with the models that a command line names: one a GPU, or as many as are asked for on a CPU."""
    given = {name: value for name, value in vars(args).items() if _is_plain(value)}
    setup = {"args": given, "exchange": str(exchange), "threads": torch.get_num_threads()}
    gpus = torch.cuda.device_count() if (args.device or options.default_device()) == "cuda" else 0
    # results depend on how many threads share a sum: as many as here
    places = [{"CUDA_VISIBLE_DEVICES": str(number % gpus)} if gpus else {} for number in range(args.workers)]
    return LocalPool([sys.executable, "-m", __name__], json.dumps(setup).encode(), places)


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(item is None or isinstance(item, (str, int, float)) for item in items)


def _taken(path: Path, digest: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Frames from the file that a worker left, which goes afterwards. Raises StoryError for other content."""
    frames = np.memmap(path, np.uint8, "r", shape=shape)
    try:
        found = hashlib.sha256()
        for first in range(0, len(frames), CHUNK):
            found.update(np.ascontiguousarray(frames[first : first + CHUNK]))
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
    exchange, models = Path(given["exchange"]), options.load(argparse.Namespace(**given["args"]))

    def make(task: bytes) -> bytes:
        segment = generate(models, make_job(models, from_bytes(task)))
        digest, shape, temp = hashlib.sha256(), [0, 0, 0, 3], exchange / f"{os.getpid()}.part"
        with open(temp, "wb") as file:
            for piece in segment.frames():
                digest.update(np.ascontiguousarray(piece))
                file.write(np.ascontiguousarray(piece))
                shape = [shape[0] + len(piece), *piece.shape[1:]]
        os.replace(temp, exchange / digest.hexdigest())
        answer = {"frames": digest.hexdigest(), "shape": shape, "notes": list(segment.notes)}
        return to_bytes(answer | {"audio": AVLatent(None, segment.latent.audio), "sound": segment.sound})

    return make


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    serve(set_up, sys.stdin.buffer, answers)
