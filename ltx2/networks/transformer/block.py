"""One block of the transformer. Tokens are updated where they lie; nothing that has been used is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...config.transformer import TransformerConfig
from ..layers.adaln import Modulation, add_gated, clipped, modulated, modulated_norm
from ..layers.attention import Attention, AttentionFunction, AttentionShape, FeedForward, RowBias
from ..layers.ops import TORCH_OPS, Ops
from ..layers.rope import RotaryTable
from .nag import Nag, guided_heads

Blocks = tuple[int, ...] | None  # indices; None stands for all blocks


@dataclass(frozen=True)
class Perturbation:
    """What one sample of a batch leaves out, and in which blocks (None: in all).

    Skipped self-attention passes its values through instead (spatio-temporal guidance); a skipped attention between the
    streams adds nothing (modality guidance).
    """

    skip_video_self_attention: Blocks = ()
    skip_audio_self_attention: Blocks = ()
    skip_audio_to_video: Blocks = ()
    skip_video_to_audio: Blocks = ()

    def __bool__(self) -> bool:
        return any(blocks != () for blocks in vars(self).values())


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
        index: int,
        perturbations: Sequence[Perturbation] | None,
    ) -> None:
        """Update both streams in place; ``index`` is this block's number, which perturbations refer to."""
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
            (video, video_parts, _skipping(perturbations, "skip_video_self_attention", index)),
            (audio, audio_parts, _skipping(perturbations, "skip_audio_self_attention", index)),
        )
        running = [(stream, parts, skip) for stream, parts, skip in streams if stream is not None and stream.enabled]
        for stream, parts, skip in running:
            self._self_attention(stream, parts, skip)
            self._text_attention(stream, parts)
        if video is not None and audio is not None:
            self._between(video, audio, index, perturbations)
        for stream, parts, _ in running:
            self._feed_forward(stream, parts)

    def _self_attention(self, s: BlockStream, parts: _StreamModules, skip: tuple[int, ...]) -> None:
        attn, rows = parts.attention, s.rows
        shift, scale, gate = (rows.row(parts.table, i) for i in (0, 1, 2))
        h = modulated_norm(s.x, rows.pieces, scale, shift, self.eps)
        gates = attn.gates(h)
        if len(skip) == len(h):
            heads = attn.to_v(h)
            del h
        else:
            q, k, v = attn.query(h, s.rotary), attn.key(h, s.rotary), attn.to_v(h)
            del h
            heads = attn.attention(q, k, v, heads=attn.heads, mask=s.self_bias)
            for sample in skip:
                heads[sample] = v[sample]
            del q, k, v
        add_gated(s.x, attn.output(heads, gates), rows.pieces, gate)

    def _text_attention(self, s: BlockStream, parts: _StreamModules) -> None:
        attn, rows = parts.text_attention, s.rows
        if parts.prompt_table is None:
            q = attn.query(F.rms_norm(s.x, s.x.shape[-1:], eps=self.eps))
            context = s.context
            gates = gate = None
        else:
            shift, scale, gate = (rows.row(parts.table, i) for i in (6, 7, 8))
            h = modulated_norm(s.x, rows.pieces, scale, shift, self.eps)
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
            add_gated(s.x, update, rows.pieces, gate)

    def _between(self, video: BlockStream, audio: BlockStream, index: int, perturbations) -> None:
        """Both directions start from the tokens as they are now: updates are added when both are known."""
        tables = self.scale_shift_table_a2v_ca_video, self.scale_shift_table_a2v_ca_audio
        directions = (  # the first one's update is kept while the second is computed: sound has far fewer tokens
            (self.video_to_audio_attn, audio, video, tables[1], tables[0], 2, "skip_video_to_audio"),
            (self.audio_to_video_attn, video, audio, tables[0], tables[1], 0, "skip_audio_to_video"),
        )
        updates = []
        for attn, to, source, to_table, source_table, first, flag in directions:
            skip = _skipping(perturbations, flag, index)
            if not to.enabled or len(skip) == len(to.x):
                continue
            context = self._av_input(source, source_table, first)
            k, v = attn.key(context, source.av_rotary), attn.to_v(context)
            del context
            h = self._av_input(to, to_table, first)
            q, gates = attn.query(h, to.av_rotary), attn.gates(h)
            del h
            heads = attn.attention(q, k, v, heads=attn.heads)
            del q, k, v
            update = attn.output(heads, gates)
            del heads
            for sample in skip:
                update[sample] = 0
            # the gate's table row is the fifth, its AdaLN output the only one
            updates.append((to, update, to.av_gate.rows[:, 0] + to_table[4].to(update)))
            del update
        for to, update, gate in updates:
            add_gated(to.x, update, to.av_gate.pieces, gate)

    def _av_input(self, s: BlockStream, table: torch.Tensor, first: int) -> torch.Tensor:
        scale, shift = (s.av_rows.row(table, i) for i in (first, first + 1))
        return modulated_norm(s.x, s.av_rows.pieces, scale, shift, self.eps)

    def _feed_forward(self, s: BlockStream, parts: _StreamModules) -> None:
        rows = s.rows
        shift, scale, gate = (rows.row(parts.table, i) for i in (3, 4, 5))
        step = parts.feed_forward.tokens_at_once
        for start in range(0, s.x.shape[1], step):
            x = s.x[:, start : start + step]
            pieces = clipped(rows.pieces, start, start + step)
            add_gated(x, parts.feed_forward(modulated_norm(x, pieces, scale, shift, self.eps)), pieces, gate)


def _modulated_context(s: BlockStream, context: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    if s.prompt is None:
        shift, scale = table.to(context)
        return torch.addcmul(shift, context, scale + 1)
    shift, scale = (s.prompt.row(table, i) for i in (0, 1))
    return modulated(context, s.prompt.pieces, scale, shift)


def _skipping(perturbations: Sequence[Perturbation] | None, flag: str, index: int) -> tuple[int, ...]:
    """Samples that leave something out in block ``index``."""
    if perturbations is None:
        return ()
    chosen = (getattr(perturbation, flag) for perturbation in perturbations)
    return tuple(sample for sample, blocks in enumerate(chosen) if blocks is None or index in blocks)
