"""The processes that make one segment together: who they are, and what they tell each other."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ..errors import Ltx2Error, RequestError
from .parents import ALARM_SECONDS, end_when_asked, end_with_parent, end_within, stop_listening

TIMEOUT_SECONDS = 1800.0
# Names the file over which ranks of one machine find each other, so that no port has to be free.
STORE_VARIABLE = "LTX2_RANKS_STORE"
# Names the process that started the ranks; they end when it is gone.
LAUNCHER_VARIABLE = "LTX2_RANKS_LAUNCHER"


@dataclass(frozen=True, eq=False)
class Ranks:
    """This process among those of a run.

    rank: from 0, which drives; size: how many there are; device: the one this rank computes on. groups: by their
    members, made once by all ranks in the same order, since a later one would need every rank again.
    """

    rank: int
    size: int
    device: torch.device
    groups: "dict[tuple[int, ...], dist.ProcessGroup]"

    @property
    def drives(self) -> bool:
        """Whether this is the rank that talks to the user and writes files."""
        return self.rank == 0

    def group(self, members: Sequence[int]) -> "dist.ProcessGroup":
        """The process group of some ranks, which :func:`joined` has made."""
        return self.groups[tuple(members)]

    def broadcast_bytes(self, data: bytes | None, source: int = 0) -> bytes:
        """Bytes of one rank on all of them."""
        own = self.rank == source
        count = torch.tensor([len(data) if own else 0], dtype=torch.int64, device=self.device)
        dist.broadcast(count, source)
        if own:
            # a copy, since tensors over read-only bytes may not be written to
            payload = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self.device) if data else None
        else:
            payload = torch.empty(int(count), dtype=torch.uint8, device=self.device)
        if int(count):
            dist.broadcast(payload, source)
        return data if own else bytes(payload.cpu().numpy().tobytes())

    def agree(self, error: BaseException | None, stage: str) -> None:
        """Wait for all ranks at the end of a stage; raises on each of them when one has failed."""
        flag = torch.tensor([0 if error is None else 1], dtype=torch.int64, device=self.device)
        flags = [torch.zeros_like(flag) for _ in range(self.size)]
        dist.all_gather(flags, flag)
        failed = [rank for rank, one in enumerate(flags) if int(one)]
        if error is not None:
            raise error
        if failed:
            raise RankFailed(f"rank {failed[0]} failed during {stage}: see what it printed")


class RankFailed(Ltx2Error):
    """Another rank of the run has failed; its own message says why."""


def given_ranks() -> int | None:
    """How many ranks the environment says there are (as torchrun and our own launcher set it), or None."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    return int(os.environ["WORLD_SIZE"])


def launched() -> bool:
    """Whether our own launcher started this process as a rank; it tells the user what there is to tell of the end."""
    return LAUNCHER_VARIABLE in os.environ


def follows() -> bool:
    """Whether the environment says that this process is a rank other than the first."""
    return os.environ.get("RANK", "0") != "0" and (given_ranks() or 1) > 1


@contextlib.contextmanager
def joined(device: str | torch.device, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[Ranks]:
    """This process as one of the ranks that the environment names, until the block ends.

    device: ``cuda`` takes the GPU of the local rank. Raises RequestError where there are fewer GPUs than local ranks.
    """
    if launched():
        end_when_asked()
        end_with_parent(int(os.environ[LAUNCHER_VARIABLE]))
    device = local_device(device)
    backend = backend_of(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    where: dict[str, Any] = {}
    if STORE_VARIABLE in os.environ:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        # made here: the address of a file cannot hold every letter of a folder's name
        store = dist.FileStore(os.environ[STORE_VARIABLE], size)
        where = {"store": store, "rank": rank, "world_size": size}
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds), **where)
    try:
        rank, size = dist.get_rank(), dist.get_world_size()
        groups = {members: dist.new_group(members) for members in _all_members(size)}
        yield Ranks(rank, size, device, groups)
    except BaseException:
        if launched():
            end_within(ALARM_SECONDS)  # the others wait for this one until it has ended
        raise
    finally:
        if launched():
            stop_listening()  # the launcher asks all to end when one does; who is ending by itself need not hear it
        # ends the process's own part at once: waiting for ranks that may be gone would hang
        dist.destroy_process_group()


def backend_of(device: torch.device) -> str:
    """How processes with this kind of device talk to each other. Raises RequestError where PyTorch was built without
    that."""
    on_cards = device.type == "cuda"
    if not dist.is_available() or not (dist.is_nccl_available() if on_cards else dist.is_gloo_available()):
        missing = "NCCL, through which GPUs talk to each other" if on_cards else "what processes talk to each other by"
        raise RequestError(
            f"this PyTorch comes without {missing}, as on Windows: leave --gpus out, or give a story --workers"
        )
    return "nccl" if on_cards else "gloo"


def local_device(device: str | torch.device) -> torch.device:
    """The device of this rank: ``cuda`` becomes the GPU of its number on this machine."""
    device = torch.device(device)
    if device.type != "cuda" or device.index is not None:
        return device
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise RequestError(f"rank {local} of this machine has no GPU: there are {count}, start at most that many ranks")
    return torch.device("cuda", local)


def _all_members(size: int) -> list[tuple[int, ...]]:
    """Every group that a split may need: runs of neighbours for tokens, steps through the ranks for passes."""
    found: dict[tuple[int, ...], None] = {}
    for parts in (n for n in range(1, size + 1) if size % n == 0):
        for first in range(0, size, parts):
            found[tuple(range(first, first + parts))] = None
        for first in range(parts):
            found[tuple(range(first, size, parts))] = None
    return list(found)
