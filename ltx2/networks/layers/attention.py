"""Multi-head attention with normed queries and keys, rotary positions and a gate per head; and the feed-forward
part."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .ops import TORCH_OPS, Ops
from .rope import RotaryTable, rotate_into, rotated
from .slices import tokens_at_once
from .typed_modules import dict_of

AttentionFunction = Callable[..., torch.Tensor]

DEAR_LAYER_TOKENS = 16384


class RowStrength(NamedTuple):
    """How strongly the tokens ``start`` to ``stop`` look at all tokens: strengths 0…1 [1 or stop - start, T]."""

    start: int
    stop: int
    strengths: torch.Tensor


class RowBias(NamedTuple):
    """The same, as what is added to the logits of these rows: bias [1, 1, 1 or rows, T]."""

    start: int
    stop: int
    bias: torch.Tensor | None


def by_rows(function: "AttentionFunction") -> "AttentionFunction":
    """An attention that also takes a mask in parts: a tuple of :class:`RowBias` that covers all rows in order."""

    @functools.wraps(function)
    def attend(q, k, v, *, heads: int, mask=None):
        if not isinstance(mask, tuple):
            return function(q, k, v, heads=heads, mask=mask)
        parts = [function(q[:, part.start : part.stop], k, v, heads=heads, mask=part.bias) for part in mask]
        return torch.cat(parts, dim=1)

    return attend


@by_rows
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled dot-product attention. q [B, T, heads·d], k and v [B, S, heads·d], mask additive [B, 1, T or 1, S] → [B,
    T, heads·d]. A mask may be given by rows."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B, heads, ·, d]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class AttentionShape(NamedTuple):
    """Widths of one attention: of the queries' tokens, of the keys' and values' tokens, and of the heads.

    gated: whether each head has a factor of its own; eps: of the norms of queries and keys.
    """

    width: int
    context_width: int
    heads: int
    head_dim: int
    gated: bool
    eps: float


class Attention(nn.Module):
    """Weights of one attention.

    The steps are methods of their own, so that a caller can let go of the input before the largest buffers are made.
    """

    def __init__(
        self,
        shape: AttentionShape,
        *,
        attention: AttentionFunction = attention,
        ops: Ops = TORCH_OPS,
        device=None,
        dtype=None,
    ):
        super().__init__()
        to = {"device": device, "dtype": dtype}
        width, context_width, heads, head_dim, gated, eps = shape
        inner = heads * head_dim
        self.heads = heads
        self.attention = attention
        self.to_q = ops.Linear(width, inner, **to)
        self.to_k = ops.Linear(context_width, inner, **to)
        self.to_v = ops.Linear(context_width, inner, **to)
        self.q_norm = ops.RMSNorm(inner, eps=eps, **to)  # over all heads together
        self.k_norm = ops.RMSNorm(inner, eps=eps, **to)
        self.to_gate_logits = ops.Linear(width, heads, **to) if gated else None
        self.to_out = nn.ModuleList([ops.Linear(inner, width, **to)])

    def query(self, x: torch.Tensor, rotary: RotaryTable | None = None) -> torch.Tensor:
        """Queries [B, T, heads·d] of tokens, normed and rotated."""
        return _normed_and_rotated(self.to_q(x), self.q_norm, rotary)

    def key(self, context: torch.Tensor, rotary: RotaryTable | None = None) -> torch.Tensor:
        """Keys [B, S, heads·d] of a context, normed and rotated."""
        return _normed_and_rotated(self.to_k(context), self.k_norm, rotary)

    def gates(self, x: torch.Tensor) -> torch.Tensor | None:
        """Factor of each head, 0…2, from the query's input: [B, T, heads, 1], or None where the model has none."""
        return None if self.to_gate_logits is None else self.to_gate_logits(x).sigmoid_().mul_(2)[..., None]

    def output(self, heads: torch.Tensor, gates: torch.Tensor | None) -> torch.Tensor:
        """Gate the heads [B, T, heads·d] (which are written to) and project them back: [B, T, width]."""
        if gates is not None:
            heads.unflatten(-1, (self.heads, -1)).mul_(gates)
        return self.to_out[0](heads)

    def forward(
        self,
        x: torch.Tensor,
        context: torch.Tensor,
        *,
        rotary: RotaryTable | None = None,
        context_rotary: RotaryTable | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend from x [B, T, width] to context [B, S, context_width]: [B, T, width]."""
        q, k, v = self.query(x, rotary), self.key(context, context_rotary), self.to_v(context)
        heads = self.attention(q, k, v, heads=self.heads, mask=mask)
        del q, k, v
        return self.output(heads, self.gates(x))


def _normed_and_rotated(x: torch.Tensor, norm: nn.Module, rotary: RotaryTable | None) -> torch.Tensor:
    """Norm and rotate in place, slice by slice: x is a projection that nobody else holds."""
    step = tokens_at_once(x)
    if torch.compiler.is_compiling() or (rotary is None and x.shape[1] <= step):
        return norm(x) if rotary is None else rotated(norm(x), rotary)
    for start in range(0, x.shape[1], step):
        tokens = slice(start, start + step)
        part = norm(x[:, tokens])
        if rotary is None:
            x[:, tokens] = part
        else:
            rotate_into(x[:, tokens], part, rotary, tokens)
    return x


class FeedForward(nn.Module):
    """Two layers with a tanh GELU between, four times as wide inside."""

    def __init__(self, width: int, *, bias: bool, ops: Ops = TORCH_OPS, device=None, dtype=None):
        super().__init__()
        to = {"device": device, "dtype": dtype, "bias": bias}
        widen = nn.ModuleDict({"proj": ops.Linear(width, 4 * width, **to)})
        self.net = nn.ModuleDict({"0": widen, "2": ops.Linear(4 * width, width, **to)})

    def tokens_at_once(self, x: torch.Tensor) -> int:
        """Hidden tokens are four times as wide, so they are made for some at a time; for more of them where each call
        of a layer has its price: one that brings its weight from elsewhere or makes it of a stored form."""
        own = type(self.net["2"]).forward is nn.Linear.forward
        return tokens_at_once(x) if own else DEAR_LAYER_TOKENS

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = dict_of(nn.Module, self.net["0"])["proj"](x)
        # in place: the hidden tokens are the largest buffer of the whole network
        return self.net["2"](torch.ops.aten.gelu_(hidden, approximate="tanh"))


def additive_context_mask(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """From a 0/1 mask [B, S] to what is added to the logits: [B, 1, 1, S]; None where nothing is masked."""
    if mask is None or bool((mask == 1).all()):
        return None
    return ((mask.float() - 1) * torch.finfo(dtype).max).to(dtype)[:, None, None]


def additive_row_masks(rows: Sequence[RowStrength], like: torch.Tensor) -> tuple[RowBias, ...]:
    """From strengths by rows to what is added to their logits, in the type and on the device of ``like``."""
    return tuple(
        RowBias(row.start, row.stop, additive_attention_mask(row.strengths[None].to(like.device), like.dtype))
        for row in rows
    )


def additive_attention_mask(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """From strengths 0…1 [B, T or 1, T] to their logarithms [B, 1, T or 1, T]; 0 shuts off; None where nothing is
    masked."""
    if mask is None or bool((mask == 1).all()):
        return None
    limits = torch.finfo(dtype)
    logs = mask.to(dtype).clamp(min=limits.tiny).log_()
    return logs.masked_fill_(mask <= 0, limits.min)[:, None]
