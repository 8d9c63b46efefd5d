"""A network whose blocks lie in main memory: while one computes, the next is on its way."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn

from ...errors import is_out_of_memory
from ...networks.layers.typed_modules import list_of
from ..memory import empty
from .blocks import BlockBytes, DenseLinear, block_bytes
from .copies import Copies, Event, HostBytes

SLOTS = 2  # one that computes, one on its way
# What the blocks that run one after the other are called: of a transformer, of a language model.
BLOCKS = ("transformer_blocks", "layers")


def blocks_of(network: nn.Module) -> nn.ModuleList | None:
    """The blocks that a network is made of, in the order in which they run; None: it is made of something else."""
    found = (getattr(network, name, None) for name in BLOCKS)
    return next((blocks for blocks in found if isinstance(blocks, nn.ModuleList) and len(blocks)), None)


def coming(count: int, blocks_on_device: int) -> list[int]:
    """Which of ``count`` blocks come again and again where ``blocks_on_device`` stay: evenly between those,
    so that the bus is at work while they compute."""
    come = count - blocks_on_device
    return [(turn + 1) * count // come - 1 for turn in range(come)]


@dataclass(eq=False)
class SetAside:
    """The bytes of a network's blocks where copies run from: written when a block is first brought, kept for all
    passes, stages and segments. room: how many bytes may still be set aside; other blocks do without."""

    room: float
    blocks: dict[int, tuple[HostBytes, HostBytes]] = field(default_factory=dict)

    def of(self, index: int, block: BlockBytes, copies: Copies) -> tuple[HostBytes, HostBytes] | None:
        """Plain and packed bytes of a block; None where there is no room for them."""
        if index in self.blocks:
            return self.blocks[index]
        if block.stored_bytes > self.room:
            return None
        try:
            made = HostBytes(copies, block.plain_bytes), HostBytes(copies, block.packed_bytes)
        except RuntimeError as error:  # a system may allow less of it than is free
            if not is_out_of_memory(error) and "CUDA error" not in str(error):
                raise
            self.room = 0
            for _ in range(min(SLOTS, len(self.blocks))):
                self.blocks.popitem()  # leaves room for what the others pass through
            return None
        block.fill(copies, *made)
        self.blocks[index], self.room = made, self.room - block.stored_bytes
        return made


@dataclass(eq=False)
class Slot:
    """A place of the device for one block, and one for its packed bytes. index: of the block that is there or on its
    way. staging: main memory that blocks without bytes set aside pass through. is_read: a block computes from here, and
    has not said yet when it is done."""

    memory: torch.Tensor
    packed: torch.Tensor
    staging: tuple[HostBytes, HostBytes] | None = None
    index: int | None = None
    copied: Event = None
    arrived: Event = None
    computed: Event = None
    is_read: bool = False


class LayerStream:
    """Brings blocks to a device in the order in which they are called, again and again.

    Two slots of the device hold the block that computes and the next one; quantised bytes become weights on a stream of
    their own, while the block before computes and the one behind is copied. blocks: by their number in the network.
    aside: of it, what is set aside; blocks without go through two places of main memory, filled anew from wherever
    they lie, such as a mapped file.
    """

    def __init__(self, blocks: dict[int, BlockBytes], copies: Copies, aside: SetAside) -> None:
        self._blocks, self._copies, self._aside = blocks, copies, aside
        size, packed = (max(sizes) for sizes in zip(*((one.size, one.packed_bytes) for one in blocks.values())))
        self._slots = [Slot(copies.device_bytes(size), copies.device_bytes(packed)) for _ in range(SLOTS)]
        # the memory may have been in use for something else until now
        copies.copy_waits(copies.computed())
        self._last = 0
        order = list(blocks)
        following = [*pairwise(order), (order[-1], order[0])]
        self._handles = [handle for index, after in following for handle in self._watched(index, after)]

    def _watched(self, index: int, after: int) -> Iterator:
        block = self._blocks[index].block
        yield block.register_forward_pre_hook(lambda *_: self._before(index))
        yield block.register_forward_hook(lambda *_: self._after(index, after))

    def _before(self, index: int) -> None:
        slot = self._copy_in(index)
        self._copies.compute_waits(slot.arrived)
        slot.is_read = True

    def _after(self, index: int, following: int) -> None:
        slot = next(one for one in self._slots if one.index == index)
        slot.computed, slot.is_read = self._copies.computed(), False
        # behind the last block comes the first of the next pass; after the last pass it is one copy too many
        self._copy_in(following)

    def _copy_in(self, index: int) -> Slot:
        """Set off the copies of a block, unless it is there or on its way."""
        found = next((slot for slot in self._slots if slot.index == index), None)
        if found is not None:
            return found
        turn = (self._last + 1) % SLOTS
        slot, block, copies = self._slots[turn], self._blocks[index], self._copies
        slot.index = None  # whatever breaks off from here on, nothing whole is there
        with torch.inference_mode(False):  # memory that outlives the pass is written to in later ones
            plain, packed = self._aside.of(index, block, copies) or self._staged(slot, block)
        if slot.is_read:  # its block broke off; what it had begun may still be running
            slot.computed, slot.is_read = copies.computed(), False
        if slot.arrived is not None:
            copies.copy_waits(slot.arrived)
        packed.copy_to(copies, slot.packed[: block.packed_bytes])  # while the slot may still be computed from
        if slot.computed is not None:
            copies.copy_waits(slot.computed)
        plain.copy_to(copies, slot.memory[: block.plain_bytes])
        slot.copied = slot.arrived = copies.copied()
        block.put(slot.memory, slot.packed)
        if block.dense:
            copies.unpack_waits(slot.copied)
            with copies.unpacking():
                block.dequantize(slot.memory)
            slot.arrived = copies.unpacked()
        slot.index, self._last = index, turn
        return slot

    def _staged(self, slot: Slot, block: BlockBytes) -> tuple[HostBytes, HostBytes]:
        """The bytes of a block in the main memory of a slot."""
        if slot.staging is None:
            longest = [max(sizes) for sizes in zip(*((b.plain_bytes, b.packed_bytes) for b in self._blocks.values()))]
            slot.staging = HostBytes(self._copies, longest[0]), HostBytes(self._copies, longest[1])
        if slot.copied is not None:
            self._copies.host_waits(slot.copied)  # what was copied from there is on the device by then
        block.fill(self._copies, *slot.staging)
        return slot.staging

    def close(self) -> None:
        """Let go of all memory, once nothing is on its way into it or out of it."""
        for handle in self._handles:
            handle.remove()
        # of all that was given, a copy that broke off included
        for event in (self._copies.copied(), self._copies.unpacked()):
            self._copies.compute_waits(event)
            if any(slot.staging is not None for slot in self._slots):
                self._copies.host_waits(event)
        self._slots = []


@contextmanager
def streamed(
    network: nn.Module, device: torch.device, copies: Copies, aside: SetAside, *, blocks_on_device: int = 0
) -> Iterator[nn.Module]:
    """The network on a device for as long as the block runs, its blocks coming from where they are. The given one is
    never touched. aside: what of its blocks is set aside where copies run from. blocks_on_device: how many stay there
    throughout."""
    homes = list_of(nn.Module, blocks_of(network) or nn.ModuleList())
    come = coming(len(homes), blocks_on_device)
    of_blocks = {id(tensor) for index in come for tensor in (*homes[index].parameters(), *homes[index].buffers())}
    # a table that is no parameter, such as that of words, stays where it is
    memo: dict[int, torch.Tensor] = {
        id(tensor): tensor
        for module in network.modules()
        for tensor in vars(module).values()
        if isinstance(tensor, torch.Tensor)
    }
    for tensor in (*network.parameters(), *network.buffers()):
        here = torch.empty(0, dtype=tensor.dtype, device=device) if id(tensor) in of_blocks else tensor.to(device)
        here = here.detach()  # an object of its own, which can be emptied
        memo[id(tensor)] = nn.Parameter(here, requires_grad=False) if isinstance(tensor, nn.Parameter) else here
    shell = copy.deepcopy(network, memo)
    empties = list_of(nn.Module, blocks_of(shell) or nn.ModuleList())
    stream = LayerStream({index: block_bytes(homes[index], empties[index]) for index in come}, copies, aside)
    try:
        yield shell
    finally:
        stream.close()
        _emptied(shell)


def _emptied(shell: nn.Module) -> None:
    for layer in shell.modules():
        if isinstance(layer, DenseLinear):
            layer.weight = None
    empty(shell)


def stored_bytes(network: nn.Module) -> int:
    """How many bytes all blocks of a network take in main memory."""
    return sum(tensor.nbytes for tensor in (blocks_of(network) or nn.ModuleList()).parameters())
