"""Where modules live while they work, and how much memory there is and will be needed."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ..networks.layers.offload_ops import is_offloaded

Change = Callable[[str, torch.Tensor], torch.Tensor]
Kind = TypeVar("Kind", bound=nn.Module)

# Tensors as wide as a video token that one pass of the transformer holds at its peak, feed-forward and tables included
# (10 to 12 measured).
TENSORS_PER_TOKEN = 12
# What to count on where a machine does not tell.
UNKNOWN_FREE_BYTES = 4 * 2**30
# What networks hold beside their weights, about: one prompt in the language model, a clip's sound.
TEXT_BYTES = SOUND_BYTES = 2**30


@contextmanager
def on_device(module: Kind, device: torch.device | str) -> Iterator[Kind]:
    """The module on a device for as long as the block runs.

    A module that is elsewhere is copied there and the copy emptied afterwards; the one at home, which may be mapped
    straight from its file, is never touched. A module that is there already, or whose layers follow their input, is
    used as it is.
    """
    if stays(module, device):
        yield module
        return
    with temporary_copy(copy_to(module, device)) as moved:
        yield moved


@contextmanager
def temporary_copy(copied: Kind) -> Iterator[Kind]:
    """A copy that is emptied when the block ends: its memory is free then, whoever still holds the module."""
    try:
        yield copied
    finally:
        empty(copied)


def empty(copied: nn.Module) -> None:
    """Let go of a copy's memory, whoever still holds the module."""
    devices = {tensor.device.type for tensor in (*copied.parameters(), *copied.buffers())}
    for tensor in (*copied.parameters(), *copied.buffers()):
        tensor.data = tensor.data.new_empty(0)
    if "cuda" in devices:
        torch.cuda.empty_cache()


def stays(module: nn.Module, device: torch.device | str) -> bool:
    """Whether a module runs on a device from where it is: it is there, or its layers follow their input."""
    return is_on(module, device) or is_offloaded(module)


def is_on(module: nn.Module, device: torch.device | str) -> bool:
    """Whether all weights of a module are on a device."""
    device = torch.device(device)
    return all(same_device(t.device, device) for t in (*module.parameters(), *module.buffers()))


def copy_to(
    module: Kind, device: torch.device | str, dtype: torch.dtype | None = None, *, change: Change | None = None
) -> Kind:
    """A module of the same structure whose weights are copies on ``device`` (shared where they are there already).

    change: makes another weight of a parameter's name and its copy, one at a time.
    """
    memo: dict[int, torch.Tensor] = {}
    for name, parameter in module.named_parameters():
        data = parameter.detach().to(device, dtype if parameter.is_floating_point() else None)
        if change is not None:
            data = change(name, data)
        memo[id(parameter)] = nn.Parameter(data, requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to(device, dtype if buffer.is_floating_point() else None)
    return copy.deepcopy(module, memo)


def same_device(a: torch.device, b: torch.device) -> bool:
    """Whether two names mean one device; "cuda" without a number is the current one."""
    if a.type != b.type:
        return False
    if a.type != "cuda":
        return True
    current = torch.cuda.current_device()
    return (current if a.index is None else a.index) == (current if b.index is None else b.index)


def weight_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.nbytes for t in (*module.parameters(), *module.buffers()))


def free_bytes(device: torch.device | str, limit: int | None = None, module: nn.Module | None = None) -> int:
    """Memory that can still be taken on a device. limit: of its bytes, what may be taken at all; module: the network
    that works there."""
    device = torch.device(device)
    if limit is not None:
        on_card = device.type == "cuda"
        taken = torch.cuda.memory_allocated(device) if on_card else 0 if module is None else weight_bytes(module)
        return max(0, min(free_bytes(device), limit - taken))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # what torch keeps in reserve counts as free
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps" and hasattr(torch.mps, "recommended_max_memory"):
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return main_memory_bytes() if device.type == "cpu" else UNKNOWN_FREE_BYTES


def main_memory_bytes(system: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """What can still be taken of main memory: free pages and those of files, which the system gives up for others, as
    far as the group (such as a container) that this process runs in may have them."""
    available = _numbers(system).get("MemAvailable:")
    if available is not None:
        free = available * 1024
    else:
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            free = UNKNOWN_FREE_BYTES
    for folder, most, taken in (
        (group, "memory.max", "memory.current"),
        (group / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = (_numbers(folder / name).get("") for name in (most, taken))
        if limit is not None and used is not None:
            of_files = _numbers(folder / "memory.stat")
            used -= of_files.get("active_file", 0) + of_files.get("inactive_file", 0)
            free = min(free, max(0, limit - used))
    return free


def _numbers(path: Path) -> dict[str, int]:
    """Names and numbers, one a line, of a file that the system writes; a number alone has the name "". Without the file
    and where there is no number, such as a limit of "max", there is nothing."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return {}
    named = [(["", *words] if len(words) == 1 else words)[:2] for words in lines if words]
    return {name: int(number) for name, number in named if number.isdecimal()}


def denoising_bytes(
    *, width: int, video_tokens: int, batch_size: int = 1, passes: int = 1, dtype: torch.dtype = torch.bfloat16
) -> int:
    """What one call of a transformer of this width holds beside its weights, about."""
    return TENSORS_PER_TOKEN * width * video_tokens * batch_size * passes * dtype.itemsize


def passes_that_fit(
    wanted: int, free: int, *, width: int, video_tokens: int, batch_size: int, dtype: torch.dtype
) -> int:
    """How many guidance passes to stack into one call so that it fits; at least one."""
    one = denoising_bytes(width=width, video_tokens=video_tokens, batch_size=batch_size, dtype=dtype)
    return max(1, min(wanted, free // max(one, 1)))
