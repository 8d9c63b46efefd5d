"""Adaptive layer norm: shifts, scales and gates that depend on each token's timestep.

Tokens share few timesteps, so the modulation is computed for each distinct one and looked up for runs of tokens as they
are processed: nothing as large as tokens × rows × width ever exists.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .ops import TORCH_OPS, Ops
from .slices import tokens_at_once
from .typed_modules import dict_of

SINUSOID_WIDTH = 256
DENSE_ROWS = 8
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


# Which distinct timestep: one for all tokens of all clips, or [B or 1, 1 or number of tokens].
Row = int | torch.Tensor


@dataclass(frozen=True)
class ModulationPiece:
    """Consecutive tokens, or None for all there are, and which distinct timestep each has."""

    tokens: slice | None
    row: Row

    def part(self, start: int, stop: int) -> Row:
        """The row of tokens start…stop of the stream."""
        if isinstance(self.row, int) or self.row.shape[1] == 1:
            return self.row
        return self.row[:, start - self.tokens.start : stop - self.tokens.start]


def clipped(pieces: Sequence[ModulationPiece], start: int, end: int) -> list[ModulationPiece]:
    """The pieces of tokens start…end, counted from start."""
    out = []
    for piece in pieces:
        first, last = max(piece.tokens.start, start), min(piece.tokens.stop, end)
        if first < last:
            out.append(ModulationPiece(slice(first - start, last - start), piece.part(first, last)))
    return out


@dataclass(frozen=True)
class DistinctTimesteps:
    """The different timesteps of a stream, ``values`` [U], and where they hold."""

    values: torch.Tensor
    pieces: tuple[ModulationPiece, ...]


def distinct_timesteps(timesteps: torch.Tensor, tokens: int, *, dense: bool = False) -> DistinctTimesteps:
    """Sort out timesteps [B, tokens] (or [B, 1]: one for all tokens of a clip).

    dense: one piece with an index for each token, whatever they are, and values filled up to a round number: what a
    compiled network reads is then alike for every clip.
    """
    values, index = torch.unique(timesteps.float().cpu(), return_inverse=True)  # the pieces are laid out on the CPU
    if index.shape[0] > 1 and bool((index == index[:1]).all()):
        index = index[:1]
    if dense:
        values = F.pad(values, (0, -len(values) % DENSE_ROWS))
        # a tensor of its own and never a view: a compiled graph tells the two apart
        whole = ModulationPiece(
            None, index.expand(-1, tokens).clone(memory_format=torch.contiguous_format).to(timesteps.device)
        )
        return DistinctTimesteps(values.to(timesteps.device), (whole,))
    changes = (index[:, 1:] != index[:, :-1]).any(0).nonzero().flatten() + 1
    few = len(changes) < MOST_RUNS
    edges = [0, *(changes.tolist() if few else ()), tokens]
    pieces = []
    for start, end in zip(edges, edges[1:]):
        rows = index[:, start : start + 1] if few else index
        one = rows.numel() == 1
        pieces.append(ModulationPiece(slice(start, end), int(rows) if one else rows.to(timesteps.device)))
    return DistinctTimesteps(values.to(timesteps.device), tuple(pieces))


@dataclass(frozen=True)
class Modulation:
    """AdaLN output ``rows`` [U, N, width] and the tokens that each of the U belongs to."""

    rows: torch.Tensor
    pieces: tuple[ModulationPiece, ...]

    def with_table(self, table: torch.Tensor, factors: slice) -> tuple[torch.Tensor, ...]:
        """Its rows with a block's learned table [N, width] added, each [U, width]; to those that scale, ``factors``,
        1 is added, so that they are what the normed tokens are multiplied with."""
        rows = self.rows + table.to(self.rows)
        rows[:, factors].add_(1)
        return rows.unbind(1)


def modulated_norm(
    x: torch.Tensor,
    pieces: Sequence[ModulationPiece],
    factor: torch.Tensor,
    shift: torch.Tensor,
    eps: float,
    norm: Callable[..., torch.Tensor] = F.rms_norm,
) -> torch.Tensor:
    """norm(x) · factor + shift, with x [B, T, D] and factor, shift [U, D] looked up for each token."""
    return modulated_norms(x, pieces, [(factor, shift)], lambda part: norm(part, x.shape[-1:], eps=eps))[0]


def modulated_norms(
    x: torch.Tensor,
    pieces: Sequence[ModulationPiece],
    modulations: Sequence[tuple[torch.Tensor, torch.Tensor]],
    norm: Callable[[torch.Tensor], torch.Tensor],
) -> list[torch.Tensor]:
    """norm(x) · factor + shift for each (factor, shift): the norm is taken once."""
    if pieces[0].tokens is None:
        part, row = norm(x), pieces[0].row
        return [torch.addcmul(shift[row], part, factor[row]) for factor, shift in modulations]
    outs = [torch.empty_like(x) for _ in modulations]
    # few enough to be worked on at once are normed at once, whatever their timesteps
    known = norm(x) if x.shape[1] <= tokens_at_once(x) else None
    for row, part, *parts in _parts(pieces, [x if known is None else known, *outs]):
        normed = norm(part) if known is None else part
        for out, (factor, shift) in zip(parts, modulations):
            torch.addcmul(shift[row], normed, factor[row], out=out)
    return outs


def modulated(
    x: torch.Tensor, pieces: Sequence[ModulationPiece], factor: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """x · factor + shift, without a norm."""
    return modulated_norms(x, pieces, [(factor, shift)], lambda part: part)[0]


def add_gated(x: torch.Tensor, update: torch.Tensor, pieces: Sequence[ModulationPiece], gate: torch.Tensor) -> None:
    """x += gate · update in place, with x, update [B, T, D] and gate [U, D]."""
    if pieces[0].tokens is None:
        x.addcmul_(update, gate[pieces[0].row])
        return
    # nothing lies between: only rows that are looked up token by token are made for some at a time
    for row, part, change in _parts(pieces, [x, update], whole=True):
        part.addcmul_(change, gate[row])


def _parts(
    pieces: Sequence[ModulationPiece], tensors: Sequence[torch.Tensor], *, whole: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Rows, and the tokens of each tensor [B, T, D] that they are of, as many as are worked on at once; whole: pieces
    that share a row stay in one."""
    step = tokens_at_once(tensors[0])
    if tensors[0].shape[1] <= step:
        counts = [piece.tokens.stop - piece.tokens.start for piece in pieces]
        yield from zip((piece.row for piece in pieces), *(tensor.split(counts, 1) for tensor in tensors))
        return
    for piece in pieces:
        first, last = piece.tokens.start, piece.tokens.stop
        shared = isinstance(piece.row, int) or piece.row.shape[1] == 1
        size = last - first if whole and shared else step
        for start in range(first, last, size):
            stop = min(start + size, last)
            yield piece.part(start, stop), *(tensor[:, start:stop] for tensor in tensors)
