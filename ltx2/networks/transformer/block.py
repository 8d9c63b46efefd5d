"""One block of the transformer. Tokens are updated where they lie; nothing that has been used is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from ...config.transformer import TransformerConfig
from ..layers.adaln import Modulation, add_gated, clipped, modulated, modulated_norm, modulated_norms
from ..layers.attention import Attention, AttentionFunction, AttentionShape, FeedForward, RowBias
from ..layers.ops import TORCH_OPS, Ops
from ..layers.rope import RotaryTable
from .nag import Nag, guided_heads

Blocks = tuple[int, ...] | None  # indices; None stands for all blocks
Rows = tuple[torch.Tensor, ...]  # of a block's modulation, each [U, width]

# Which rows scale: of shift, scale, gate; of scale, shift between the streams; of the prompt's shift, scale.
SCALES, AV_SCALES, PROMPT_SCALES = slice(1, None, 3), slice(0, None, 2), slice(1, None, 2)


@dataclass(frozen=True)
class Perturbation:
    """What one entry of a batch leaves out, and in which blocks (None: in all).

    Skipped self-attention passes its values through instead (spatio-temporal guidance); a skipped attention between the
    streams adds nothing (modality guidance).
    """

    skip_video_self_attention: Blocks = ()
    skip_audio_self_attention: Blocks = ()
    skip_audio_to_video: Blocks = ()
    skip_video_to_audio: Blocks = ()

    def __bool__(self) -> bool:
        return any(blocks != () for blocks in vars(self).values())


class Skips(NamedTuple):
    """The entries of a batch that leave something out in one block; see :class:`Perturbation`."""

    video_self_attention: tuple[int, ...] = ()
    audio_self_attention: tuple[int, ...] = ()
    audio_to_video: tuple[int, ...] = ()
    video_to_audio: tuple[int, ...] = ()


def skips_of(perturbations: Sequence[Perturbation] | None, index: int) -> Skips:
    """What is left out in the block of this number."""

    def entries(name: str) -> tuple[int, ...]:
        chosen = (getattr(perturbation, f"skip_{name}") for perturbation in perturbations)
        return tuple(entry for entry, blocks in enumerate(chosen) if blocks is None or index in blocks)

    return Skips(*(entries(name) for name in Skips._fields)) if perturbations else Skips()


@dataclass(frozen=True)
class BlockStream:
    """A stream on its way through the blocks, which write to ``x`` [B, T, D]; the rest stays as it is.

    A stream that is not enabled has only what the other one listens to.
    """

    x: torch.Tensor
    enabled: bool
    rows: Modulation | None = None
    embedded: torch.Tensor | None = None
    rotary: RotaryTable | None = None
    self_bias: torch.Tensor | tuple[RowBias, ...] | None = None
    context: torch.Tensor | None = None
    context_bias: torch.Tensor | None = None
    prompt: Modulation | None = None
    negative_context: torch.Tensor | None = None
    nag: Nag | None = None
    av_rows: Modulation | None = None
    av_gate: Modulation | None = None
    av_rotary: RotaryTable | None = None


class _StreamModules(NamedTuple):
    """The modules and tables of a block that belong to one stream."""

    attention: Attention
    text_attention: Attention
    feed_forward: FeedForward
    table: torch.Tensor
    prompt_table: torch.Tensor | None


class AVBlock(nn.Module):
    """Self-attention and text attention of each stream, attention between them, feed-forward of each."""

    def __init__(
        self, config: TransformerConfig, attention: AttentionFunction, *, ops: Ops = TORCH_OPS, device=None, dtype=None
    ):
        super().__init__()
        c, to = config, {"device": device, "dtype": dtype}
        width, audio_width = c.width, c.audio_width
        self.eps = c.norm_eps

        def attend(queries: int, keys: int, heads: int, head_dim: int) -> Attention:
            shape = AttentionShape(queries, keys, heads, head_dim, c.gated_attention, c.norm_eps)
            return Attention(shape, attention=attention, ops=ops, **to)

        self.attn1 = attend(width, width, c.heads, c.head_dim)
        self.attn2 = attend(width, c.context_width, c.heads, c.head_dim)
        self.audio_attn1 = attend(audio_width, audio_width, c.audio_heads, c.audio_head_dim)
        self.audio_attn2 = attend(audio_width, c.audio_context_width, c.audio_heads, c.audio_head_dim)
        self.audio_to_video_attn = attend(width, audio_width, c.audio_heads, c.audio_head_dim)
        self.video_to_audio_attn = attend(audio_width, width, c.audio_heads, c.audio_head_dim)
        self.ff = FeedForward(width, bias=c.feed_forward_bias, ops=ops, **to)
        self.audio_ff = FeedForward(audio_width, bias=c.audio_feed_forward_bias, ops=ops, **to)

        def table(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(rows, columns, **to))

        self.scale_shift_table = table(c.block_rows, width)
        self.audio_scale_shift_table = table(c.block_rows, audio_width)
        self.prompt_scale_shift_table = table(2, c.context_width) if c.text_modulation else None
        self.audio_prompt_scale_shift_table = table(2, c.audio_context_width) if c.text_modulation else None
        self.scale_shift_table_a2v_ca_video = table(5, width)  # scale, shift for a2v; scale, shift for v2a; gate
        self.scale_shift_table_a2v_ca_audio = table(5, audio_width)

    def forward(
        self,
        video: BlockStream | None,
        audio: BlockStream | None,
        skips: Skips,
    ) -> None:
        """Update both streams in place."""
        video_parts = _StreamModules(
            self.attn1, self.attn2, self.ff, self.scale_shift_table, self.prompt_scale_shift_table
        )
        audio_parts = _StreamModules(
            self.audio_attn1,
            self.audio_attn2,
            self.audio_ff,
            self.audio_scale_shift_table,
            self.audio_prompt_scale_shift_table,
        )
        streams = (
            (video, video_parts, skips.video_self_attention),
            (audio, audio_parts, skips.audio_self_attention),
        )
        running = [(stream, parts, skip) for stream, parts, skip in streams if stream is not None and stream.enabled]
        rows = [stream.rows.with_table(parts.table, SCALES) for stream, parts, _ in running]
        for (stream, parts, skip), own in zip(running, rows):
            self._self_attention(stream, parts, own, skip)
            self._text_attention(stream, parts, own)
        if video is not None and audio is not None:
            self._between(video, audio, skips)
        for (stream, parts, _), own in zip(running, rows):
            self._feed_forward(stream, parts, own)

    def _self_attention(self, s: BlockStream, parts: _StreamModules, rows: Rows, skip: tuple[int, ...]) -> None:
        attn, pieces = parts.attention, s.rows.pieces
        shift, factor, gate = rows[:3]
        h = modulated_norm(s.x, pieces, factor, shift, self.eps)
        gates = attn.gates(h)
        if len(skip) == len(h):
            heads = attn.to_v(h)
            del h
        else:
            q, k, v = attn.query(h, s.rotary), attn.key(h, s.rotary), attn.to_v(h)
            del h
            heads = attn.attention(q, k, v, heads=attn.heads, mask=s.self_bias)
            for entry in skip:
                heads[entry] = v[entry]
            del q, k, v
        add_gated(s.x, attn.output(heads, gates), pieces, gate)

    def _text_attention(self, s: BlockStream, parts: _StreamModules, rows: Rows) -> None:
        attn, pieces = parts.text_attention, s.rows.pieces
        if parts.prompt_table is None:
            q = attn.query(self._norm(s.x))
            context = s.context
            gates = gate = None
        else:
            shift, factor, gate = rows[6:]
            h = modulated_norm(s.x, pieces, factor, shift, self.eps)
            gates = attn.gates(h)
            q = attn.query(h)
            del h
            context = _modulated_context(s, s.context, parts.prompt_table)
        heads = attn.attention(q, attn.key(context), attn.to_v(context), heads=attn.heads, mask=s.context_bias)
        if s.nag:
            context = s.negative_context
            if parts.prompt_table is not None:
                context = _modulated_context(s, context, parts.prompt_table)
            heads = guided_heads(
                heads, attn.attention(q, attn.key(context), attn.to_v(context), heads=attn.heads), s.nag
            )
        del q, context
        update = attn.output(heads, gates)
        if gate is None:
            s.x.add_(update)
        else:
            add_gated(s.x, update, pieces, gate)

    def _between(self, video: BlockStream, audio: BlockStream, skips: Skips) -> None:
        """Both directions start from the tokens as they are now: updates are added when both are known."""
        tables = self.scale_shift_table_a2v_ca_video, self.scale_shift_table_a2v_ca_audio
        directions = (  # the first one's update is kept while the second is computed: sound has far fewer tokens
            (self.video_to_audio_attn, audio, video, tables[1], 2, skips.video_to_audio),
            (self.audio_to_video_attn, video, audio, tables[0], 0, skips.audio_to_video),
        )
        running = [one for one in directions if one[1].enabled and len(one[-1]) < len(one[1].x)]
        wanted = [one[-2] for one in running]
        if not running:
            return
        inputs = [self._av_inputs(stream, table, wanted) for stream, table in zip((video, audio), tables)]
        updates = []
        for attn, to, source, table, first, skip in running:
            context = inputs[source is audio].pop(first)
            k, v = attn.key(context, source.av_rotary), attn.to_v(context)
            del context
            h = inputs[to is audio].pop(first)
            q, gates = attn.query(h, to.av_rotary), attn.gates(h)
            del h
            heads = attn.attention(q, k, v, heads=attn.heads)
            del q, k, v
            update = attn.output(heads, gates)
            del heads
            for entry in skip:
                update[entry] = 0
            # the gate's table row is the fifth, its AdaLN output the only one
            updates.append((to, update, to.av_gate.rows[:, 0] + table[4].to(update)))
            del update
        for to, update, gate in updates:
            add_gated(to.x, update, to.av_gate.pieces, gate)

    def _av_inputs(self, s: BlockStream, table: torch.Tensor, wanted: Sequence[int]) -> dict[int, torch.Tensor]:
        """What the directions whose scale and shift are rows ``first`` and the next one read of a stream, by first."""
        rows = s.av_rows.with_table(table[:4], AV_SCALES)
        modulations = [(rows[first], rows[first + 1]) for first in wanted]
        normed = modulated_norms(s.x, s.av_rows.pieces, modulations, self._norm)
        return dict(zip(wanted, normed))

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self.eps)

    def _feed_forward(self, s: BlockStream, parts: _StreamModules, rows: Rows) -> None:
        shift, factor, gate = rows[3:6]
        if s.rows.pieces[0].tokens is None:
            h = modulated_norm(s.x, s.rows.pieces, factor, shift, self.eps)
            add_gated(s.x, parts.feed_forward(h), s.rows.pieces, gate)
            return
        step = parts.feed_forward.tokens_at_once(s.x)
        for start in range(0, s.x.shape[1], step):
            x = s.x[:, start : start + step]
            pieces = clipped(s.rows.pieces, start, start + step)
            add_gated(x, parts.feed_forward(modulated_norm(x, pieces, factor, shift, self.eps)), pieces, gate)


def _modulated_context(s: BlockStream, context: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    if s.prompt is None:
        shift, scale = table.to(context)
        return torch.addcmul(shift, context, scale + 1)
    shift, factor = s.prompt.with_table(table, PROMPT_SCALES)
    return modulated(context, s.prompt.pieces, factor, shift)


def run_with_weights(
    block: AVBlock, weights: dict[str, torch.Tensor], video: BlockStream | None, audio: BlockStream | None, skips: Skips
) -> None:
    """A block on both streams, which it updates in place, with the weights of another block of the same form: what is
    compiled, once for all of them."""
    functional_call(block, weights, (video, audio, skips))
