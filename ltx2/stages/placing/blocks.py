"""A block as bytes: what of it is copied as it is, and what is dequantised once it is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ...checkpoint.quantization.linear import QuantizedLinear
from .copies import Copies, HostBytes

_STEP = 256  # bytes that tensors begin at a multiple of, as devices like it


class DenseLinear(nn.Module):
    """A linear layer whose weight was dequantised for it: ``weight`` [out, in] lies where somebody put it."""

    def __init__(self, packed: QuantizedLinear) -> None:
        super().__init__()
        self.packed = packed
        self.weight: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = self.packed.bias
        return F.linear(x, self.weight, None if bias is None else bias.to(x))


@dataclass(frozen=True, eq=False)
class Piece:
    """A tensor of a block in main memory, the parameter or buffer that stands for it, and where it goes."""

    home: torch.Tensor
    owner: nn.Module
    name: str
    offset: int

    def put(self, memory: torch.Tensor) -> None:
        """The tensor is where its bytes were copied to."""
        view = viewed(memory, self.offset, self.home.shape, self.home.dtype)
        known = getattr(self.owner, self.name)
        if isinstance(known, nn.Parameter):
            known.data = view
        else:
            setattr(self.owner, self.name, view)


@dataclass(frozen=True, eq=False)
class BlockBytes:
    """A block that holds nothing, and its bytes.

    plain: they are used where they were copied to; packed: those of quantised weights, which ``dense`` (the layer, and
    where its weight goes behind the plain ones) are made of.
    """

    block: nn.Module
    plain: Sequence[Piece]
    packed: Sequence[Piece]
    dense: Sequence[tuple[DenseLinear, int]]
    plain_bytes: int
    packed_bytes: int
    size: int

    def fill(self, copies: Copies, plain: HostBytes, packed: HostBytes) -> None:
        """Write the bytes to main memory."""
        for pieces, memory in ((self.plain, plain), (self.packed, packed)):
            for piece in pieces:
                memory.fill(copies, piece.offset, piece.home)

    def put(self, slot: torch.Tensor, arena: torch.Tensor) -> None:
        """The block's tensors are these bytes of a device."""
        for pieces, memory in ((self.plain, slot), (self.packed, arena)):
            for piece in pieces:
                piece.put(memory)

    @property
    def stored_bytes(self) -> int:
        """How many bytes the block takes in main memory."""
        return self.plain_bytes + self.packed_bytes

    def dequantize(self, slot: torch.Tensor) -> None:
        """Make the quantised weights, one after the other, of the packed bytes."""
        for layer, offset in self.dense:
            packed = layer.packed
            shape = torch.Size((packed.out_features, packed.in_features))
            layer.weight = viewed(slot, offset, shape, packed.compute_dtype)
            layer.weight.copy_(packed.dense(slot.device, packed.compute_dtype))


def block_bytes(home: nn.Module, shell: nn.Module) -> BlockBytes:
    """The bytes of a block, and of its empty copy, whose quantised layers are exchanged for dense ones."""
    quantised = {name: layer for name, layer in shell.named_modules() if isinstance(layer, QuantizedLinear)}
    kept = {id(bias) for layer in quantised.values() if (bias := layer.bias) is not None}
    plain: list[Piece] = []
    packed: list[Piece] = []
    ends = {True: 0, False: 0}
    tensors = {**dict(home.named_parameters()), **dict(home.named_buffers())}
    for name, tensor in tensors.items():
        stem, _, last = name.rpartition(".")
        owner = shell.get_submodule(stem)
        # a bias of a quantised layer is used after its weight was made: it stays with the plain ones
        is_plain = not _within(stem, quantised) or id(getattr(owner, last)) in kept
        (plain if is_plain else packed).append(Piece(tensor.detach(), owner, last, ends[is_plain]))
        ends[is_plain] = _aligned(ends[is_plain] + tensor.nbytes)
    dense, end = [], ends[True]
    for name, layer in quantised.items():
        stem, _, last = name.rpartition(".")
        exchanged = DenseLinear(layer)
        setattr(shell.get_submodule(stem), last, exchanged)
        dense.append((exchanged, end))
        end = _aligned(end + layer.out_features * layer.in_features * layer.compute_dtype.itemsize)
    return BlockBytes(shell, plain, packed, dense, ends[True], ends[False], end)


def viewed(memory: torch.Tensor, offset: int, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """A tensor that lies in bytes."""
    return memory[offset : offset + shape.numel() * dtype.itemsize].view(dtype).view(shape)


def _within(stem: str, layers: Mapping[str, nn.Module]) -> bool:
    parts = stem.split(".")
    return any(".".join(parts[:count]) in layers for count in range(1, len(parts) + 1))


def _aligned(size: int) -> int:
    return -(-size // _STEP) * _STEP
