"""Bytes of tensors that are alive at the same time, whatever the device: on ``meta`` this measures real sizes for
free."""

import weakref
from collections.abc import Iterable, Iterator

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveMemory(TorchDispatchMode):
    """Counts storages created while the mode is on, from creation until the last reference to them goes.

    ``live`` and ``peak`` are bytes. Tensors that existed before (weights, inputs) are not counted, nor is what a kernel
    uses inside.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known = {}  # address of a storage → weak reference to it; a dead one means that the address is free again

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for tensor in _tensors((args, tuple((kwargs or {}).values()))):
            storage = tensor.untyped_storage()
            if not self._knows(storage):
                self._known[storage._cdata] = weakref.ref(storage)
        out = function(*args, **(kwargs or {}))
        for tensor in _tensors(out if isinstance(out, (tuple, list)) else (out,)):
            storage = tensor.untyped_storage()
            if not self._knows(storage):
                size = storage.nbytes()
                self._known[storage._cdata] = weakref.ref(storage, lambda _, size=size: self._release(size))
                self.live += size
        self.peak = max(self.peak, self.live)
        return out

    def _knows(self, storage) -> bool:
        reference = self._known.get(storage._cdata)
        return reference is not None and reference() is storage

    def _release(self, size: int) -> None:
        self.live -= size


def _tensors(values: Iterable) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def live_peak(work) -> int:
    """Peak bytes of the tensors that ``work()`` creates; a result that it returns counts as long as work holds it."""
    with torch.no_grad(), LiveMemory() as memory:
        work()
    return memory.peak
