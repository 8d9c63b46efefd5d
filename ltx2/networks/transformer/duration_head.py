"""Duration head of 2.5: how many seconds the clip of a prompt wants to last. Checked against diffusers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.duration import DurationHeadConfig
from ...errors import RequestError
from ..layers.full_precision import full_precision
from ..layers.ops import TORCH_OPS


class _CrossAttention(nn.Module):
    """Multi-head attention in torch's packed layout: rows of query, key and value weights one below the other."""

    def __init__(self, width: int, heads: int, *, ops, device=None, dtype=None):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width, device=device, dtype=dtype))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width, device=device, dtype=dtype))
        self.out_proj = ops.Linear(width, width, device=device, dtype=dtype)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        weights, biases = (p.to(tokens).chunk(3) for p in (self.in_proj_weight, self.in_proj_bias))
        inputs = (queries, tokens, tokens)
        q, k, v = (
            F.linear(x, w, b).unflatten(2, (self.heads, -1)).transpose(1, 2) for x, w, b in zip(inputs, weights, biases)
        )
        pooled = F.scaled_dot_product_attention(q, k, v)  # [B, heads, queries, width / heads]
        return self.out_proj(pooled.transpose(1, 2).flatten(2))


class _AttentionPooler(nn.Module):
    """Tokens [B, S, width] of any number → [B, queries, width]."""

    def __init__(self, config: DurationHeadConfig, *, ops, **factory):
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(config.queries, config.width, **factory))
        self.cross_attn = _CrossAttention(config.width, config.heads, ops=ops, **factory)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.cross_attn(self.query_tokens.to(tokens).expand(tokens.shape[0], -1, -1), tokens)


class DurationHead(nn.Module):
    """Context of a prompt → seconds [B] float32.

    video: [B, S, 4096] and audio: [B, S, 2048] as the connectors give them for the positive prompt; either may be None.
    Raises RequestError without both.
    """

    def __init__(self, config: DurationHeadConfig, *, ops=TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        ops = full_precision(ops)
        factory = dict(device=device, dtype=dtype)
        self.video_input_proj = ops.Linear(config.video_width, config.width, **factory)
        self.audio_input_proj = ops.Linear(config.audio_width, config.width, **factory)
        self.video_modality_emb = nn.Parameter(torch.zeros(config.width, **factory))
        self.audio_modality_emb = nn.Parameter(torch.zeros(config.width, **factory))
        self.attention_pooler = _AttentionPooler(config, ops=ops, **factory)
        self.mlp_hidden = ops.Linear(config.queries * config.width, config.hidden, **factory)
        self.mlp_out = ops.Linear(config.hidden, 1, **factory)

    def forward(self, video: Tensor | None = None, audio: Tensor | None = None) -> Tensor:
        tokens = []
        if video is not None:
            projected = self.video_input_proj(video.float())
            tokens.append(projected + self.video_modality_emb.to(projected))
        if audio is not None:
            projected = self.audio_input_proj(audio.float())
            tokens.append(projected + self.audio_modality_emb.to(projected))
        if not tokens:
            raise RequestError("the duration head got neither a video nor an audio context: encode the prompt first")
        pooled = self.attention_pooler(torch.cat(tokens, dim=1)).flatten(1)  # [B, queries · width]
        hidden = F.gelu(self.mlp_hidden(pooled), approximate="tanh")
        return self.mlp_out(hidden)[:, 0].exp()


def seconds(head: DurationHead, video: Tensor | None = None, audio: Tensor | None = None) -> float:
    """Seconds that the clip of one prompt wants to last; contexts as for :class:`DurationHead`, of it alone.

    :func:`ltx2.clock.frames_of_predicted_seconds` turns them into a frame count. Raises RequestError for several
    prompts.
    """
    predicted = head(video, audio)
    if len(predicted) != 1:
        raise RequestError(
            f"the duration head got contexts of {len(predicted)} prompts, expected one: ask for each on its own"
        )
    return predicted.item()
