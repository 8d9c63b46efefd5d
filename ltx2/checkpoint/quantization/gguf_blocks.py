"""The block formulas of GGUF: bytes of blocks → weights. Checked against the gguf package on random blocks.

Each block holds the scales and the packed integers of 32 or 256 consecutive weights. Formulas take [n, bytes] uint8 and
give [n, weights] float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .packed import Parts, weights_at_once


@dataclass(frozen=True)
class BlockType:
    """A GGUF tensor type: its name, bytes and weights of a block, and the formula (None: numbers stored as they
    are)."""

    name: str
    block_bytes: int
    block_weights: int
    formula: Callable[[torch.Tensor], torch.Tensor] | None = None
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Gguf:
    """A weight in blocks of a GGUF file."""

    block: BlockType
    pads_to: int = 1

    @property
    def name(self) -> str:
        """What people call it; see Form."""
        return self.block.name

    def fill(self, out: torch.Tensor, parts: Parts) -> None:
        """Write the weight to ``out``; see Form."""
        dequantize_blocks(self.block, parts["weight"], out.view(-1, self.block.block_weights))


def dequantize_blocks(kind: BlockType, data: torch.Tensor, out: torch.Tensor) -> None:
    """Write the weights of blocks data [n · bytes of a block] uint8 to ``out`` [n, weights of a block] on the same
    device."""
    blocks = data.view(-1, kind.block_bytes)
    step = max(1, weights_at_once(data.device) // kind.block_weights)
    for start in range(0, len(blocks), step):
        out[start : start + step] = kind.formula(blocks[start : start + step])


def _halves(data: torch.Tensor) -> torch.Tensor:
    """Pairs of bytes [n, 2k] as half-precision numbers [n, k] float32."""
    return data.contiguous().view(torch.float16).float()


def _nibbles(data: torch.Tensor) -> torch.Tensor:
    """Bytes [n, k] → [n, 2k]: all low nibbles, then all high ones."""
    return torch.cat([data & 15, data >> 4], -1)


def _fifth_bits(data: torch.Tensor) -> torch.Tensor:
    """Bits of 4 bytes [n, 4] → [n, 32], each 0 or 16, lowest bit first."""
    shifts = torch.arange(8, dtype=torch.uint8, device=data.device)
    return (data[..., None] >> shifts & 1).flatten(1) << 4


def _q4_0(b):
    return _halves(b[:, :2]) * (_nibbles(b[:, 2:]).float() - 8)


def _q4_1(b):
    scale, minimum = _halves(b[:, :4]).split(1, -1)
    return scale * _nibbles(b[:, 4:]).float() + minimum


def _q5_0(b):
    return _halves(b[:, :2]) * ((_nibbles(b[:, 6:]) | _fifth_bits(b[:, 2:6])).float() - 16)


def _q5_1(b):
    scale, minimum = _halves(b[:, :4]).split(1, -1)
    return scale * (_nibbles(b[:, 8:]) | _fifth_bits(b[:, 4:8])).float() + minimum


def _q8_0(b):
    return _halves(b[:, :2]) * b[:, 2:].contiguous().view(torch.int8).float()


def _q2_k(b):
    packed, quarters = b[:, :16], b[:, 16:80].unflatten(1, (2, 1, 32))
    scale, minimum = _halves(b[:, 80:84]).split(1, -1)
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=b.device)[:, None]
    q = (quarters >> shifts & 3).reshape(-1, 16, 16).float()
    return ((scale * (packed & 15).float())[..., None] * q - (minimum * (packed >> 4).float())[..., None]).flatten(1)


def _q3_k(b):
    high, low, scales = b[:, :32], b[:, 32:96], b[:, 96:108]
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=b.device)[:, None]
    q = (low.unflatten(1, (2, 1, 32)) >> shifts & 3).flatten(1, 2)  # [n, 8 groups, 32]
    missing = (high[:, None] >> torch.arange(8, dtype=torch.uint8, device=b.device)[:, None] & 1) ^ 1
    q = q.float() - 4 * missing.float()
    lows = _nibbles(scales[:, :8])
    highs = (scales[:, None, 8:] >> shifts & 3).flatten(1)
    scale = (lows | highs << 4).float() - 32  # [n, 16]
    return ((_halves(b[:, 108:]) * scale)[..., None] * q.reshape(-1, 16, 16)).flatten(1)


def _scales_and_minima(s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Six-bit scales and minima of eight groups from 12 bytes [n, 12]: [n, 8] each."""
    first, second, last = s[:, :4], s[:, 4:8], s[:, 8:]
    scales = torch.cat([first & 63, (last & 15) | (first >> 6 << 4)], -1)
    minima = torch.cat([second & 63, (last >> 4) | (second >> 6 << 4)], -1)
    return scales.float(), minima.float()


def _groups_of_nibbles(data: torch.Tensor) -> torch.Tensor:
    """128 bytes [n, 128] → eight groups of 32 nibbles [n, 8, 32]: low and high ones of each 32 bytes in turn."""
    quarters = data.unflatten(1, (4, 32))
    return torch.stack([quarters & 15, quarters >> 4], 2).flatten(1, 2)


def _scaled_groups(b: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    scale, minimum = _halves(b[:, :4]).split(1, -1)
    scales, minima = _scales_and_minima(b[:, 4:16])
    return ((scale * scales)[..., None] * q.float() - (minimum * minima)[..., None]).flatten(1)


def _q4_k(b):
    return _scaled_groups(b, _groups_of_nibbles(b[:, 16:]))


def _q5_k(b):
    groups = torch.arange(8, dtype=torch.uint8, device=b.device)[:, None]
    fifth = (b[:, None, 16:48] >> groups & 1) << 4  # [n, 8, 32]
    return _scaled_groups(b, _groups_of_nibbles(b[:, 48:]) | fifth)


def _q6_k(b):
    low, high, scales = b[:, :128].unflatten(1, (2, 64)), b[:, 128:192].unflatten(1, (2, 1, 32)), b[:, 192:208]
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=b.device)[:, None]
    nibbles = torch.stack([low & 15, low >> 4], 2).view(-1, 2, 4, 32)
    q = (nibbles | (high >> shifts & 3) << 4).reshape(-1, 16, 16).float() - 32
    scale = _halves(b[:, 208:]) * scales.contiguous().view(torch.int8).float()  # [n, 16]
    return (scale[..., None] * q).flatten(1)


# By the number that a GGUF header gives a type.
BLOCK_TYPES: dict[int, BlockType] = {
    0: BlockType("F32", 4, 1, dtype=torch.float32),
    1: BlockType("F16", 2, 1, dtype=torch.float16),
    30: BlockType("BF16", 2, 1, dtype=torch.bfloat16),
    2: BlockType("Q4_0", 18, 32, _q4_0),
    3: BlockType("Q4_1", 20, 32, _q4_1),
    6: BlockType("Q5_0", 22, 32, _q5_0),
    7: BlockType("Q5_1", 24, 32, _q5_1),
    8: BlockType("Q8_0", 34, 32, _q8_0),
    10: BlockType("Q2_K", 84, 256, _q2_k),
    11: BlockType("Q3_K", 110, 256, _q3_k),
    12: BlockType("Q4_K", 144, 256, _q4_k),
    13: BlockType("Q5_K", 176, 256, _q5_k),
    14: BlockType("Q6_K", 210, 256, _q6_k),
}

# Types that are not read, by name, so that people know what not to choose.
UNREAD_TYPES: dict[int, str] = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
