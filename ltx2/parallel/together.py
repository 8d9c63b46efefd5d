"""One segment made by all ranks: rank 0 drives and reads the prompts, the others follow what it sends.

Every rank runs the same pipeline on the same request, so their latents are the same; the transformer's calls are shared
between them. At the end the picture is decoded on rank 0 while rank 1 decodes the sound.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..checkpoint.lora import Lora
from ..errors import RequestError
from ..stages import steps
from ..stages.models import Models
from ..stages.pipeline import Segment, generate
from ..stages.placement import Placement
from ..stages.request import Job, make_job
from ..values import AudioCondition, AVLatent, Progress, Waveform
from .passes import ParallelTransformer
from .ranks import Ranks
from .split import Split, check_heads, choose_split
from .wire import from_bytes, to_bytes

Report = Callable[[Progress], None] | None

PIECES_AHEAD = 2


@dataclass(frozen=True, eq=False)
class ParallelPlacement:
    """A rank's own placement, whose transformer is called by all ranks together."""

    own: Placement
    ranks: Ranks

    def device_of(self, module: nn.Module | None) -> torch.device:
        return self.own.device_of(module)

    def on(self, *modules: nn.Module, activation_bytes: int = 0) -> AbstractContextManager[tuple[Any, ...]]:
        return self.own.on(*modules, activation_bytes=activation_bytes)

    @contextlib.contextmanager
    def transformer(
        self, module: nn.Module, loras: Sequence[tuple[Lora, float]], *, activation_bytes: int = 0
    ) -> Iterator[Any]:
        with self.own.transformer(module, loras, activation_bytes=activation_bytes) as network:
            yield ParallelTransformer(network, self.ranks)

    def free_bytes(self, module: nn.Module | None = None) -> int:
        return self.own.free_bytes(module)


@dataclass(eq=False)
class Driver:
    """Rank 0's way to make segments; the others are in :func:`follow` meanwhile."""

    ranks: Ranks
    _sounds: "_AwaitedSounds | None" = field(default=None, init=False)
    _together: bool = field(default=False, init=False)

    def generate(self, models: Models, job: Job, *, progress: Report = None) -> Segment:
        """As ``stages.pipeline.generate``, by all ranks. Raises RequestError when the heads cannot be shared."""
        notes = self.notes(models, job)
        self._take_in()
        positive, negative = steps.encode_request_texts(models, job, progress=progress)
        request = replace(job.request, positive=positive, negative=negative)
        self._together = True
        self.ranks.broadcast_bytes(to_bytes(request))
        job = replace(job, request=request, notes=(*job.notes, *notes))
        segment = _run(models, job, self.ranks, progress)
        self._together = False
        if isinstance(segment.sounds, _AwaitedSounds):
            self._sounds = segment.sounds
            if not job.request.sound_only:
                segment = replace(segment, decoder=_decoding_ahead(segment.decoder))
        return segment

    def notes(self, models: Models, job: Job) -> tuple[str, ...]:
        """How the ranks share each stage, in words. Raises RequestError when the heads cannot be shared."""
        heads = models.transformer.config.heads, models.transformer.config.audio_heads
        return split_notes(job, self.ranks.size, heads)

    def end(self) -> None:
        """Let the other ranks go, unless one of them failed or was left in the middle of a segment."""
        if self._together:
            return
        self._take_in()
        self.ranks.broadcast_bytes(to_bytes(None))

    def _take_in(self) -> None:
        """Take in what another rank still has to send of the segment before."""
        if self._sounds is not None:
            self._sounds.wait()
            self._sounds = None


def follow(models: Models, ranks: Ranks) -> None:
    """What every rank but the first does: its part of each segment, until rank 0 says that there are no more."""
    while True:
        request = from_bytes(ranks.broadcast_bytes(None))
        if request is None:
            return
        _run(models, make_job(models, request), ranks, None)


def split_notes(job: Job, size: int, heads: Sequence[int]) -> tuple[str, ...]:
    """How the ranks share the work of each stage, in words."""
    found = {}
    for stage in job.stages:
        rows = steps.pass_count(stage) * job.request.batch_size
        found[stage.name] = choose_split(size, rows, heads)
    if len(set(found.values())) == 1:
        return (_spoken(next(iter(found.values()))),)
    return tuple(f"{name}: {_spoken(split)}" for name, split in found.items())


def _spoken(split: Split) -> str:
    return str(split).replace("ranks", "GPUs", 1)


def _run(models: Models, job: Job, ranks: Ranks, progress: Report) -> Segment:
    # all passes of a step in one call, so that they can be shared
    config = replace(models.config, pass_batching="always")
    shared = replace(models, config=config, host_placement=ParallelPlacement(models.placement, ranks))
    return generate(shared, job, progress=progress, decode_sounds=_sound_decoder(ranks, job.request.batch_size))


def _sound_decoder(ranks: Ranks, batch_size: int):
    """The sound is decoded on rank 1 alone, and sent to rank 0, which waits for it when it needs it."""
    if ranks.size == 1:
        return steps.decode_sounds
    source = 1

    def decode(models: Models, latent: AVLatent, audio: AudioCondition | None, *, progress: Report = None):
        awaited = _AwaitedSounds(ranks, source, batch_size)
        if ranks.rank == source:
            sounds = steps.decode_sounds(models, latent, audio, progress=progress)
            ranks.broadcast_bytes(to_bytes(sounds), source)
            return sounds
        if ranks.drives:
            return awaited
        awaited.wait()
        return awaited

    return decode


class _AwaitedSounds(Sequence):
    """The sounds of a batch, which another rank sends; the first look at one waits for them."""

    def __init__(self, ranks: Ranks, source: int, count: int):
        self._ranks, self._source, self._count = ranks, source, count
        self._found: tuple[Waveform | None, ...] | None = None

    def wait(self) -> tuple[Waveform | None, ...]:
        if self._found is None:
            self._found = from_bytes(self._ranks.broadcast_bytes(None, self._source))
        return self._found

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        return self.wait()[index]


def _decoding_ahead(decoder: Callable[..., Iterator[torch.Tensor]]) -> Callable[..., Iterator[torch.Tensor]]:
    """The decoder, whose first clip is begun at once in a thread, while the sound is still on its way."""
    pieces: queue.Queue = queue.Queue(PIECES_AHEAD)
    stopped = threading.Event()

    def put(item) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                pieces.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for piece in decoder(0, None):
                put((piece, None))
                if stopped.is_set():
                    return
            put((None, None))
        except BaseException as error:  # noqa: BLE001 (raised again, as it is, by whoever takes the pieces)
            if stopped.is_set():
                raise
            put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    used = False

    def ahead(index: int, report: Report) -> Iterator[torch.Tensor]:
        nonlocal used
        if index != 0 or used:
            yield from decoder(index, report)
            return
        used = True
        try:
            while True:
                piece, error = pieces.get()
                if error is not None:
                    raise error
                if piece is None:
                    return
                yield piece
        finally:
            stopped.set()

    return ahead


def check_size(size: int, heads: Sequence[int]) -> None:
    """Raise RequestError when ``size`` ranks cannot work together on a model with these heads."""
    if size < 1:
        raise RequestError(f"--gpus is {size}, expected 1 or more")
    check_heads(size, 1, heads)
