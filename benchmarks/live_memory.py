"""Bytes of tensors that are alive at the same time, whatever the device: on ``meta`` this measures real sizes for free."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts storages created while the mode is on, from creation until the last reference to them goes.

    ``live`` and ``peak`` are bytes. Tensors that existed before (weights, inputs) are not counted, nor is what a kernel
    uses inside.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known = {}  # storage address → weak reference; a dead one means that the address is free again

    def _release(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._meet(tensor, 0)
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._meet(tensor, tensor.untyped_storage().nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _meet(self, tensor: torch.Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        reference = self._known.get(storage._cdata)
        if reference is not None and reference() is storage:
            return
        self._known[storage._cdata] = weakref.ref(storage)
        if size:
            self.live += size
            weakref.finalize(storage, self._release, size)


def live_peak(work) -> int:
    """Peak bytes of the tensors that ``work()`` creates; a result that it returns counts as long as work holds it."""
    with torch.no_grad(), LiveMemory() as memory:
        work()
    return memory.peak
