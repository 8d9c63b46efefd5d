"""Adaptive layer norm: shifts, scales and gates that depend on each token's timestep.

Tokens share few timesteps, so the modulation is computed for each distinct one and looked up for runs of tokens as they
are processed: nothing as large as tokens × rows × width ever exists.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .ops import TORCH_OPS, Ops
from .typed_modules import dict_of

SINUSOID_WIDTH = 256
TOKENS_AT_ONCE = 2048
MOST_RUNS = 32  # above it, one lookup a token is cheaper than one operation a run


class AdaLN(nn.Module):
    """From timesteps to ``rows`` modulation vectors of ``width``, as ltx-core's and diffusers' AdaLN-single."""

    def __init__(self, width: int, rows: int, *, ops: Ops = TORCH_OPS, device=None, dtype=None):
        super().__init__()
        to = {"device": device, "dtype": dtype}
        layers = {"linear_1": ops.Linear(SINUSOID_WIDTH, width, **to), "linear_2": ops.Linear(width, width, **to)}
        self.emb = nn.ModuleDict({"timestep_embedder": nn.ModuleDict(layers)})
        self.linear = ops.Linear(width, rows * width, **to)
        self.rows = rows

    def forward(self, timesteps: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """timesteps [U] (0…1000) → modulation [U, rows, width] and embedded timestep [U, width], computed in
        ``dtype``."""
        layers = dict_of(nn.Module, self.emb["timestep_embedder"])
        hidden = layers["linear_1"](sinusoid(timesteps).to(dtype))
        embedded = layers["linear_2"](F.silu(hidden))
        return self.linear(F.silu(embedded)).unflatten(-1, (self.rows, -1)), embedded


def sinusoid(timesteps: torch.Tensor) -> torch.Tensor:
    """Cosines, then sines of timesteps [U] at 128 frequencies from 1 down to nearly 1/10000: [U, 256] float32."""
    half = SINUSOID_WIDTH // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps.float()[:, None] * torch.exp(steps * (-math.log(10000.0) / half))
    return torch.cat([angles.cos(), angles.sin()], -1)


@dataclass(frozen=True)
class ModulationPiece:
    """Consecutive tokens and which distinct timestep each has: ``index`` [B or 1, 1 or number of tokens]."""

    tokens: slice
    index: torch.Tensor


def clipped(pieces: Sequence[ModulationPiece], start: int, end: int) -> list[ModulationPiece]:
    """The pieces of tokens start…end, counted from start."""
    out = []
    for piece in pieces:
        first, last = max(piece.tokens.start, start), min(piece.tokens.stop, end)
        if first < last:
            own = slice(first - piece.tokens.start, last - piece.tokens.start)
            out.append(
                ModulationPiece(
                    slice(first - start, last - start),
                    piece.index if piece.index.shape[1] == 1 else piece.index[:, own],
                )
            )
    return out


@dataclass(frozen=True)
class DistinctTimesteps:
    """The different timesteps of a stream, ``values`` [U], and where they hold."""

    values: torch.Tensor
    pieces: tuple[ModulationPiece, ...]


def distinct_timesteps(timesteps: torch.Tensor, tokens: int) -> DistinctTimesteps:
    """Sort out timesteps [B, tokens] (or [B, 1]: one for all tokens of a sample)."""
    values, index = torch.unique(timesteps.float().cpu(), return_inverse=True)  # the pieces are laid out on the CPU
    if index.shape[0] > 1 and bool((index == index[:1]).all()):
        index = index[:1]
    changes = (index[:, 1:] != index[:, :-1]).any(0).nonzero().flatten() + 1
    if len(changes) < MOST_RUNS:
        edges = [0, *changes.tolist(), tokens]
        runs = list(zip(edges, edges[1:]))
    else:
        runs = [(0, tokens)]
    pieces = []
    for start, end in runs:
        rows = index[:, start : start + 1] if len(changes) < MOST_RUNS else index
        rows = rows.to(timesteps.device)
        for first in range(start, end, TOKENS_AT_ONCE):
            part = slice(first, min(first + TOKENS_AT_ONCE, end))
            pieces.append(ModulationPiece(part, rows if rows.shape[1] == 1 else rows[:, part]))
    return DistinctTimesteps(values.to(timesteps.device), tuple(pieces))


@dataclass(frozen=True)
class Modulation:
    """AdaLN output ``rows`` [U, N, width] and the tokens that each of the U belongs to."""

    rows: torch.Tensor
    pieces: tuple[ModulationPiece, ...]

    def row(self, table: torch.Tensor, index: int) -> torch.Tensor:
        """One row with a block's learned table [N, width] added: [U, width]."""
        return self.rows[:, index] + table[index].to(self.rows)


def modulated_norm(
    x: torch.Tensor,
    pieces: Sequence[ModulationPiece],
    scale: torch.Tensor,
    shift: torch.Tensor,
    eps: float,
    norm: Callable[..., torch.Tensor] = F.rms_norm,
) -> torch.Tensor:
    """norm(x) · (1 + scale) + shift, with x [B, T, D] and scale, shift [U, D] looked up for each token."""
    out = torch.empty_like(x)
    scale = scale + 1
    for piece in pieces:
        part = norm(x[:, piece.tokens], x.shape[-1:], eps=eps)
        torch.addcmul(shift[piece.index], part, scale[piece.index], out=out[:, piece.tokens])
    return out


def modulated(
    x: torch.Tensor, pieces: Sequence[ModulationPiece], scale: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """x · (1 + scale) + shift, without a norm."""
    out = torch.empty_like(x)
    scale = scale + 1
    for piece in pieces:
        torch.addcmul(shift[piece.index], x[:, piece.tokens], scale[piece.index], out=out[:, piece.tokens])
    return out


def add_gated(x: torch.Tensor, update: torch.Tensor, pieces: Sequence[ModulationPiece], gate: torch.Tensor) -> None:
    """x += gate · update in place, with x, update [B, T, D] and gate [U, D]."""
    for piece in pieces:
        x[:, piece.tokens].addcmul_(update[:, piece.tokens], gate[piece.index])
