"""The audio-video transformer of LTX-2, 2.3 and 2.5: two streams of tokens that attend to themselves, the text and each
other.

Checked against ltx-core 1.0.0 and diffusers on random weights.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...config.transformer import TransformerConfig
from ...errors import RequestError
from ..layers.adaln import AdaLN, Modulation, distinct_timesteps, modulated_norm
from ..layers.attention import (
    AttentionFunction,
    RowStrength,
    additive_attention_mask,
    additive_context_mask,
    additive_row_masks,
    attention,
)
from ..layers.ops import TORCH_OPS, Ops
from ..layers.rope import rotary_table
from ..layers.typed_modules import list_of
from .block import PROMPT_SCALES, AVBlock, BlockStream, Perturbation, run_with_weights, skips_of
from .nag import Nag

# Measured on an H200: compiled blocks take 0.94 of the time at 14,080 tokens and twice the time at 1,536, where finding
# the graph that fits costs more than the launches that it saves.
LEAST_COMPILED_TOKENS = 8192

AV_TIMESTEP_MODES = ("hybrid", "cross", "own")


@dataclass(frozen=True)
class StreamInput:
    """One stream of a batch.

    latent [B, T, C] in the model's dtype; timesteps [B, T], [B, T, 1] or [B, 1] (denoise mask · sigma, 0…1) and sigma
    [B] (0 for a frozen stream), float32; positions [B or 1, n, T, 2] float32; context [B, S, D]; context_mask [B, S] of
    0/1; attention_mask [B, T, T] of strengths 0…1, or the same by rows; keyframes_mask [B, T] or [B, T, 1], above 0
    for tokens that stand for whole frames. nag with negative_context [B, S, D]: a negative prompt within the text
    attention (all S tokens count). A stream that is not ``enabled`` is only listened to: it is not updated and no
    velocity comes back for it.
    """

    latent: torch.Tensor
    timesteps: torch.Tensor
    sigma: torch.Tensor
    positions: torch.Tensor
    context: torch.Tensor
    context_mask: torch.Tensor | None = None
    attention_mask: torch.Tensor | Sequence[RowStrength] | None = None
    keyframes_mask: torch.Tensor | None = None
    enabled: bool = True
    negative_context: torch.Tensor | None = None
    nag: Nag | None = None


class _StreamParts(NamedTuple):
    """The modules and measures of the transformer that belong to one stream."""

    adaln: nn.Module
    prompt_adaln: nn.Module | None
    av_adaln: nn.Module
    gate_adaln: nn.Module
    caption_projection: nn.Module | None
    heads: int
    head_dim: int
    max_positions: tuple[float, ...]


class Transformer(nn.Module):
    """From noisy latent tokens of both streams to their velocities.

    ``av_timestep_mode`` says which timesteps modulate the attention between the streams. ``hybrid``, as the models' own
    repository since May 2026: scale and shift from the stream's own tokens, the gate from the other stream's sigma.
    ``cross`` (ltx-core 1.0.0): both from the other's sigma. ``own`` (the first release): both from the own tokens.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        ops: Ops = TORCH_OPS,
        attention: AttentionFunction = attention,
        device=None,
        dtype=None,
        av_timestep_mode: str = "hybrid",
    ):
        super().__init__()
        if av_timestep_mode not in AV_TIMESTEP_MODES:
            raise RequestError(
                f"av_timestep_mode is {av_timestep_mode!r}, expected one of {', '.join(AV_TIMESTEP_MODES)}"
            )
        self.config = config
        self.av_timestep_mode = av_timestep_mode
        self.least_compiled_tokens = LEAST_COMPILED_TOKENS
        self._compiled: Callable[..., None] | None = None
        to = {"device": device, "dtype": dtype}
        width, audio_width = config.width, config.audio_width

        self.patchify_proj = ops.Linear(config.in_channels, width, **to)
        self.audio_patchify_proj = ops.Linear(config.audio_in_channels, audio_width, **to)
        self.adaln_single = AdaLN(width, config.block_rows, ops=ops, **to)
        self.audio_adaln_single = AdaLN(audio_width, config.block_rows, ops=ops, **to)
        self.prompt_adaln_single = AdaLN(width, 2, ops=ops, **to) if config.prompt_timesteps else None
        self.audio_prompt_adaln_single = AdaLN(audio_width, 2, ops=ops, **to) if config.prompt_timesteps else None
        self.av_ca_video_scale_shift_adaln_single = AdaLN(width, 4, ops=ops, **to)
        self.av_ca_audio_scale_shift_adaln_single = AdaLN(audio_width, 4, ops=ops, **to)
        self.av_ca_a2v_gate_adaln_single = AdaLN(width, 1, ops=ops, **to)
        self.av_ca_v2a_gate_adaln_single = AdaLN(audio_width, 1, ops=ops, **to)
        if config.caption_channels:
            self.caption_projection = CaptionProjection(config.caption_channels, width, ops=ops, **to)
            self.audio_caption_projection = CaptionProjection(config.caption_channels, audio_width, ops=ops, **to)
        else:
            self.caption_projection = self.audio_caption_projection = None
        self.transformer_blocks = nn.ModuleList(AVBlock(config, attention, ops=ops, **to) for _ in range(config.layers))
        self.scale_shift_table = nn.Parameter(torch.empty(2, width, **to))
        self.audio_scale_shift_table = nn.Parameter(torch.empty(2, audio_width, **to))
        self.proj_out = ops.Linear(width, config.out_channels, **to)
        self.audio_proj_out = ops.Linear(audio_width, config.audio_out_channels, **to)
        if config.keyframe_embedding:
            self.keyframes_abs_pos_embedding = nn.Parameter(torch.empty(1, width, **to))

    def compile_blocks(self, **options: Any) -> None:
        """From now on blocks are compiled when they first run on a clip that is long enough to gain by it: one graph
        for all of them and for clips of any size. options: of ``torch.compile``."""
        # the block that lends its form has no weights of its own, so that none looks to the graph as if it were its own
        first = list_of(AVBlock, self.transformer_blocks)[0]
        empty = {id(weight): nn.Parameter(weight.to("meta"), requires_grad=False) for weight in first.parameters()}
        run = torch.compile(run_with_weights, **{"dynamic": True, **options})
        self._compiled = partial(run, copy.deepcopy(first, empty))

    def _run_blocks(
        self, streams: list[BlockStream | None], skipped: Sequence[Perturbation] | None, *, compiled: bool
    ) -> None:
        for index, block in enumerate(list_of(AVBlock, self.transformer_blocks)):
            skips = skips_of(skipped, index)
            if compiled:
                self._compiled(dict(block.named_parameters()), *streams, skips)
            else:
                block(*streams, skips)

    def forward(
        self, video: StreamInput | None, audio: StreamInput | None, perturbations: Sequence[Perturbation] | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Velocities [B, T, C] of the streams that are given and enabled, else None; one perturbation for each entry.

        Raises RequestError when the parts of a stream do not fit together.
        """
        given = [stream for stream in (video, audio) if stream is not None]
        if not given:
            raise RequestError(
                "neither a video nor an audio stream was given to the transformer, expected at least one"
            )
        for stream, name in ((video, "video"), (audio, "audio")):
            _check(stream, name, len(given[0].latent), perturbations)
        # a compiled block reads a timestep for each token, so that clips are alike to it
        dense = self._compiled is not None and given[0].latent[..., 0].numel() >= self.least_compiled_tokens
        streams = [
            None if video is None else self._video(video, audio, dense),
            None if audio is None else self._audio(audio, video, dense),
        ]
        self._run_blocks(streams, perturbations if perturbations and any(perturbations) else None, compiled=dense)
        heads = ((self.scale_shift_table, self.proj_out), (self.audio_scale_shift_table, self.audio_proj_out))
        of_video, of_audio = (
            self._velocity(stream, *head) if stream is not None and stream.enabled else None
            for stream, head in zip(streams, heads)
        )
        return of_video, of_audio

    def _video(self, given: StreamInput, other: StreamInput | None, dense: bool = False) -> BlockStream:
        c = self.config
        x = self.patchify_proj(given.latent)
        if c.keyframe_embedding and given.keyframes_mask is not None:
            marked = given.keyframes_mask.reshape(len(given.keyframes_mask), -1, 1) > 0
            x.addcmul_(marked.to(x), self.keyframes_abs_pos_embedding.to(x))
        parts = _StreamParts(
            self.adaln_single,
            self.prompt_adaln_single,
            self.av_ca_video_scale_shift_adaln_single,
            self.av_ca_a2v_gate_adaln_single,
            self.caption_projection,
            c.heads,
            c.head_dim,
            c.max_positions,
        )
        return self._stream(x, given, other, parts, dense)

    def _audio(self, given: StreamInput, other: StreamInput | None, dense: bool = False) -> BlockStream:
        c = self.config
        x = self.audio_patchify_proj(given.latent)
        parts = _StreamParts(
            self.audio_adaln_single,
            self.audio_prompt_adaln_single,
            self.av_ca_audio_scale_shift_adaln_single,
            self.av_ca_v2a_gate_adaln_single,
            self.audio_caption_projection,
            c.audio_heads,
            c.audio_head_dim,
            c.audio_max_positions,
        )
        return self._stream(x, given, other, parts, dense)

    def _stream(
        self, x: torch.Tensor, given: StreamInput, other: StreamInput | None, own_parts: _StreamParts, dense: bool
    ) -> BlockStream:
        """All that the blocks need of a stream and that does not change from block to block; x: [B, T, width]."""
        c = self.config
        adaln, prompt_adaln, av_adaln, gate_adaln, caption_projection, heads, head_dim, max_positions = own_parts
        tokens = x.shape[1]
        timesteps = given.timesteps.reshape(len(given.timesteps), -1)
        own = distinct_timesteps(timesteps, tokens, dense=dense)
        rotary: dict[str, Any] = {"rotary": c.rotary, "dtype": x.dtype}
        parts = {}
        if given.enabled:
            rows, parts["embedded"] = adaln(own.values * c.timestep_scale, x.dtype)
            parts["rows"] = Modulation(rows, own.pieces)
            projected = nn.Identity() if caption_projection is None else caption_projection
            parts["context"] = projected(given.context)
            if given.nag:
                parts |= {"nag": given.nag, "negative_context": projected(given.negative_context)}
            if prompt_adaln is not None:
                of_prompt = distinct_timesteps(given.sigma[:, None], given.context.shape[1], dense=dense)
                parts["prompt"] = Modulation(
                    prompt_adaln(of_prompt.values * c.timestep_scale, x.dtype)[0], of_prompt.pieces
                )
            parts["context_bias"] = additive_context_mask(given.context_mask, x.dtype)
            mask = given.attention_mask
            if mask is None or isinstance(mask, torch.Tensor):
                parts["self_bias"] = additive_attention_mask(mask, x.dtype)
            else:
                parts["self_bias"] = additive_row_masks(mask, x)
            parts["rotary"] = rotary_table(
                given.positions,
                heads=heads,
                head_dim=head_dim,
                max_positions=max_positions,
                middle=c.middle_positions,
                **rotary,
            )
        if other is not None:
            sigma = distinct_timesteps(other.sigma[:, None], tokens, dense=dense)
            of_scale = sigma if self.av_timestep_mode == "cross" else own
            of_gate = own if self.av_timestep_mode == "own" else sigma
            parts["av_rows"] = Modulation(av_adaln(of_scale.values * c.timestep_scale, x.dtype)[0], of_scale.pieces)
            parts["av_gate"] = Modulation(
                gate_adaln(of_gate.values * c.av_gate_timestep_scale, x.dtype)[0], of_gate.pieces
            )
            parts["av_rotary"] = rotary_table(
                given.positions[:, :1],
                heads=c.audio_heads,
                head_dim=c.audio_head_dim,
                max_positions=(max(c.max_positions[0], c.audio_max_positions[0]),),
                middle=True,
                **rotary,
            )
        return BlockStream(x=x, enabled=given.enabled, **parts)

    def _velocity(self, stream: BlockStream, table: torch.Tensor, projection: nn.Module) -> torch.Tensor:
        rows = Modulation(stream.embedded[:, None], stream.rows.pieces)
        shift, factor = rows.with_table(table, PROMPT_SCALES)
        return projection(modulated_norm(stream.x, rows.pieces, factor, shift, self.config.norm_eps, norm=F.layer_norm))


class CaptionProjection(nn.Module):
    """LTX-2.0's own projection of the connectors' output, [B, S, captions] → [B, S, width]."""

    def __init__(self, captions: int, width: int, *, ops: Ops = TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.linear_1 = ops.Linear(captions, width, device=device, dtype=dtype)
        self.linear_2 = ops.Linear(width, width, device=device, dtype=dtype)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        return self.linear_2(F.gelu(self.linear_1(context), approximate="tanh"))


def _check(stream: StreamInput | None, name: str, batch: int, perturbations) -> None:
    if stream is None:
        return
    tokens = stream.latent.shape[1]
    if len(stream.latent) != batch or (perturbations is not None and len(perturbations) != batch):
        counts = f"{name} {len(stream.latent)}, perturbations {'none' if perturbations is None else len(perturbations)}"
        raise RequestError(f"the batch has {batch} entries but {counts}: give every part as many")
    if stream.nag and (stream.negative_context is None or stream.negative_context.shape[0] != batch):
        raise RequestError(f"{name} has attention guidance but no negative context for each of its {batch} entries")
    if stream.positions.shape[2] != tokens:
        raise RequestError(f"{name} has {tokens} tokens but positions of {stream.positions.shape[2]}")
    if stream.timesteps.reshape(len(stream.timesteps), -1).shape[1] not in (1, tokens):
        raise RequestError(f"{name} has {tokens} tokens but timesteps of shape {list(stream.timesteps.shape)}")
