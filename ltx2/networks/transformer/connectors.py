"""From the text encoder's hidden states to the transformer's context: normed features, and a small network for each
stream.

Checked against ltx-core 1.0.0 and diffusers.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ...config.transformer import ConnectorConfig, TextProjectionConfig
from ...errors import RequestError
from ..layers.attention import Attention, AttentionFunction, AttentionShape, FeedForward, attention
from ..layers.ops import TORCH_OPS, Ops
from ..layers.rope import RotaryTable, rotary_table

EPS = 1e-6


class TextProjection(nn.Module):
    """All hidden states of the encoder → features: one projection for both streams (2.0) or one each (2.3 on)."""

    def __init__(self, config: TextProjectionConfig, *, ops: Ops = TORCH_OPS, device=None, dtype=None):
        super().__init__()
        self.config = config
        flat = config.hidden_width * config.states
        to = {"device": device, "dtype": dtype}
        if config.audio_width is None:
            self.aggregate_embed = ops.Linear(flat, config.video_width, bias=False, **to)
        else:
            self.video_aggregate_embed = ops.Linear(flat, config.video_width, **to)
            self.audio_aggregate_embed = ops.Linear(flat, config.audio_width, **to)

    def accumulator(self, mask: torch.Tensor) -> "FeatureAccumulator":
        """Something to hand the hidden states to as the encoder makes them; mask [B, T] of 0/1."""
        return FeatureAccumulator(self, mask)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of states [B, T, hidden, number of states] at once; see :meth:`FeatureAccumulator.features`."""
        accumulator = self.accumulator(mask)
        for index, hidden in enumerate(states.unbind(-1)):
            accumulator.add(index, hidden)
        return accumulator.features()


class FeatureAccumulator:
    """Hidden states of one batch, normed one by one as they come; of the padding nothing is kept."""

    def __init__(self, projection: TextProjection, mask: torch.Tensor):
        self._projection = projection
        self._mask = mask.bool()
        self._normed: torch.Tensor | None = None  # [valid tokens, hidden, states]
        self._missing = set(range(projection.config.states))

    def add(self, index: int, hidden: torch.Tensor) -> None:
        """Take hidden state ``index`` [B, T, hidden], in any order and each once. Raises RequestError for a wrong
        one."""
        config = self._projection.config
        if index not in self._missing or hidden.shape != (*self._mask.shape, config.hidden_width):
            shape = [*self._mask.shape, config.hidden_width]
            expected = f"one of {config.states}, each {shape} and given once"
            raise RequestError(
                f"the text encoder gave hidden state {index} of shape {list(hidden.shape)}, expected {expected}"
            )
        self._missing.discard(index)
        mask = self._mask.to(hidden.device)
        normed = _norm_of_sample if config.audio_width is None else _norm_of_token
        if self._normed is None:
            self._normed = hidden.new_empty(int(mask.sum()), config.hidden_width, config.states)
        self._normed[:, :, index] = normed(hidden, mask)

    def features(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features for video [B, T, video width] and audio [B, T, audio width], zero where padded; 2.0 has one tensor
        for both.

        The states are let go. Raises RequestError while some are missing.
        """
        if self._missing:
            raise RequestError(
                f"hidden states {sorted(self._missing)[:5]} of the text encoder are missing, expected all "
                f"{self._projection.config.states}"
            )
        projection, config = self._projection, self._projection.config
        flat, self._normed = self._normed.flatten(1), None  # the state runs fastest
        if config.audio_width is None:
            features = self._spread(projection.aggregate_embed(flat))
            return features, features

        def of(layer: nn.Module, width: int) -> torch.Tensor:
            return self._spread(layer(flat * math.sqrt(width / config.hidden_width)))

        video = of(projection.video_aggregate_embed, config.video_width)
        return video, of(projection.audio_aggregate_embed, config.audio_width)

    def _spread(self, features: torch.Tensor) -> torch.Tensor:
        out = features.new_zeros(*self._mask.shape, features.shape[-1])
        out[self._mask.to(out.device)] = features
        return out


def _norm_of_sample(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """2.0: each prompt's valid tokens to mean 0 and range 8: [valid tokens of all prompts, D]."""
    out = []
    for tokens in (prompt[valid].float() for prompt, valid in zip(hidden, mask)):
        if len(tokens):
            mean = tokens.sum() / (tokens.numel() + EPS)
            spread = tokens.max() - tokens.min() + EPS
            tokens = tokens.sub_(mean).mul_(8).div_(spread)
        out.append(tokens)
    return torch.cat(out).to(hidden.dtype)


def _norm_of_token(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """2.3 on: each valid token to mean square 1: [valid tokens of all prompts, D]."""
    return F.rms_norm(hidden[mask].float(), hidden.shape[-1:], eps=EPS).to(hidden.dtype)


class Connector(nn.Module):
    """Text features → context of one stream: valid tokens first, learned registers in place of the padding."""

    def __init__(
        self,
        config: ConnectorConfig,
        *,
        ops: Ops = TORCH_OPS,
        attention: AttentionFunction = attention,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.config = config
        to = {"device": device, "dtype": dtype}
        self.learnable_registers = nn.Parameter(torch.empty(config.registers, config.width, **to))
        self.transformer_1d_blocks = nn.ModuleList(
            ConnectorBlock(config, attention, ops=ops, **to) for _ in range(config.layers)
        )

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """features [B, T, width], mask [B, T] of 0/1 → context [B, T, width], all of whose tokens are attended to."""
        c = self.config
        batch, tokens, _ = features.shape
        valid = mask.to(features.device).bool()
        registers = self.learnable_registers.to(features)
        x = registers.repeat(math.ceil(tokens / len(registers)), 1)[:tokens].repeat(batch, 1, 1)
        for prompt in range(batch):
            kept = features[prompt, valid[prompt]]
            x[prompt, : len(kept)] = kept
        steps = torch.arange(tokens, dtype=torch.float32, device=x.device)
        rotary = rotary_table(
            steps[None, None, :, None],
            heads=c.heads,
            head_dim=c.head_dim,
            max_positions=(c.max_position,),
            rotary=c.rotary,
            middle=False,
            dtype=x.dtype,
        )
        for block in self.transformer_1d_blocks:
            x = block(x, rotary)
        return F.rms_norm(x, x.shape[-1:], eps=c.norm_eps)


class ConnectorBlock(nn.Module):
    """Self-attention and feed-forward without modulation."""

    def __init__(
        self, config: ConnectorConfig, attention: AttentionFunction, *, ops: Ops = TORCH_OPS, device=None, dtype=None
    ):
        super().__init__()
        c, to = config, {"device": device, "dtype": dtype}
        self.eps = c.norm_eps
        shape = AttentionShape(c.width, c.width, c.heads, c.head_dim, c.gated_attention, c.norm_eps)
        self.attn1 = Attention(shape, attention=attention, ops=ops, **to)
        self.ff = FeedForward(c.width, bias=c.feed_forward_bias, ops=ops, **to)

    def forward(self, x: torch.Tensor, rotary: RotaryTable) -> torch.Tensor:
        h = F.rms_norm(x, x.shape[-1:], eps=self.eps)
        x = x + self.attn1(h, h, rotary=rotary, context_rotary=rotary)
        return x + self.ff(F.rms_norm(x, x.shape[-1:], eps=self.eps))
