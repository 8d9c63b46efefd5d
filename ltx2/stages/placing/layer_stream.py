"""A network whose blocks lie in main memory: while one computes, the next is on its way."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn

from .blocks import BlockBytes, block_bytes
from .copies import Copies, Event

SLOTS = 2  # one that computes, one on its way
BLOCKS = "transformer_blocks"
HostBytes = tuple[torch.Tensor, torch.Tensor]  # of a block, plain and packed


def can_stream(network: nn.Module) -> bool:
    """Whether a network is made of blocks that run one after the other."""
    return isinstance(getattr(network, BLOCKS, None), nn.ModuleList)


class LayerStream:
    """Brings blocks to a device in the order in which they are called, again and again.

    Two slots of the device hold the block that computes and the next one; quantised bytes pass through a third place,
    and become weights on the stream that copies. hosts: the bytes of every block where copies run from; None: two
    places of main memory are filled anew from wherever they lie, such as a mapped file.
    """

    def __init__(self, blocks: Sequence[BlockBytes], copies: Copies, hosts: Sequence[HostBytes] | None) -> None:
        self._blocks, self._copies, self._kept = blocks, copies, hosts
        size = max(one.size for one in blocks)
        self._slots = [copies.device_bytes(size) for _ in range(SLOTS)]
        self._arena = copies.device_bytes(max(one.packed_bytes for one in blocks))
        # the memory may have been in use for something else until now
        copies.copy_waits(copies.computed())
        self._in_slot: list[int | None] = [None] * SLOTS
        self._arrived: list[Event] = [None] * SLOTS
        self._computed: list[Event] = [None] * SLOTS
        self._last = 0
        longest = max(one.plain_bytes for one in blocks), max(one.packed_bytes for one in blocks)
        self._staging = [] if hosts is not None else [_host_bytes(copies, longest) for _ in range(SLOTS)]
        following = [*pairwise(range(len(blocks))), (len(blocks) - 1, 0)]
        self._handles = [handle for index, after in following for handle in self._watched(index, after)]

    def _watched(self, index: int, after: int) -> Iterator:
        block = self._blocks[index].block
        yield block.register_forward_pre_hook(lambda *_: self._before(index))
        yield block.register_forward_hook(lambda *_: self._after(index, after))

    def _before(self, index: int) -> None:
        self._bring(index)
        self._copies.compute_waits(self._arrived[self._in_slot.index(index)])

    def _after(self, index: int, following: int) -> None:
        self._computed[self._in_slot.index(index)] = self._copies.computed()
        self._bring(following)

    def _bring(self, index: int) -> None:
        """Set off the copies of a block, unless it is there or on its way."""
        if index in self._in_slot:
            return
        slot = (self._last + 1) % SLOTS
        block, copies, memory = self._blocks[index], self._copies, self._slots[slot]
        plain, packed = self._staging[slot] if self._kept is None else self._kept[index]
        if self._kept is None:
            if self._arrived[slot] is not None:
                copies.host_waits(self._arrived[slot])  # what was copied from there is on the device by then
            block.fill(plain, packed)
        if self._computed[slot] is not None:
            copies.copy_waits(self._computed[slot])
        if block.plain_bytes:
            copies.copy(memory[: block.plain_bytes], plain[: block.plain_bytes])
        if block.packed_bytes:
            copies.copy(self._arena[: block.packed_bytes], packed[: block.packed_bytes])
        block.put(memory, self._arena)
        if block.dense:
            with copies.copying():
                block.dequantize(memory)
        self._arrived[slot] = copies.copied()
        self._in_slot[slot], self._last = index, slot

    def close(self) -> None:
        """Let go of all memory, once nothing is on its way into it."""
        for handle in self._handles:
            handle.remove()
        for event in self._arrived:
            if event is not None:
                self._copies.compute_waits(event)
                self._copies.host_waits(event)
        self._slots, self._staging, self._kept = [], [], None


def _host_bytes(copies: Copies, sizes: tuple[int, int]) -> HostBytes:
    return copies.host_bytes(sizes[0]), copies.host_bytes(sizes[1])


def kept_bytes(blocks: Sequence[BlockBytes], copies: Copies) -> list[HostBytes]:
    """The bytes of every block, written where copies to the device run from."""
    kept = []
    for block in blocks:
        kept.append(_host_bytes(copies, (block.plain_bytes, block.packed_bytes)))
        block.fill(*kept[-1])
    return kept


Keep = Callable[[Sequence[BlockBytes]], Sequence[HostBytes] | None]


@contextmanager
def streamed(
    network: nn.Module, device: torch.device, copies: Copies, keep: Keep, *, resident: int = 0
) -> Iterator[nn.Module]:
    """The network on a device for as long as the block runs, its blocks coming from where they are. The given one is
    never touched. keep: the bytes of its blocks where copies run from, or None (see LayerStream). resident: how many
    blocks, the first ones, are on the device throughout."""
    homes = list(getattr(network, BLOCKS))[resident:]
    of_blocks = {id(tensor) for home in homes for tensor in (*home.parameters(), *home.buffers())}
    memo: dict[int, torch.Tensor] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        here = torch.empty(0, dtype=tensor.dtype, device=device) if id(tensor) in of_blocks else tensor.to(device)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(here.detach(), requires_grad=False) if is_parameter else here
    shell = copy.deepcopy(network, memo)
    blocks = [block_bytes(home, empty) for home, empty in zip(homes, list(getattr(shell, BLOCKS))[resident:])]
    stream = LayerStream(blocks, copies, keep(blocks))
    try:
        yield shell
    finally:
        stream.close()
