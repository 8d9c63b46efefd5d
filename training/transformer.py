"""The transformer to train: the engine's own parameters under their own names, and a forward that autograd can follow.

The engine writes its updates in place, which autograd cannot undo; here every step makes a new tensor, and which
tokens are clean is a mask, so that samples of all kinds share a batch. A test shows that both forwards agree.

The text context is one vector for each meaningful word and one neutral vector for everything else, the registers
included: 1024 context tokens are trained as five, the neutral one with its multiplicity as a bias. This is exact.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import latents, world
from .engine import Transformer, audio_positions, rotary_table, sinusoid, transformer_config, video_positions

WIDTH, AUDIO_WIDTH, HEADS, LAYERS = 128, 64, 4, 5
CONTEXT = 1024
WORDS = tuple(value for names in world.ATTRIBUTES for value in names)  # by class
NEUTRAL = len(WORDS)
# Velocities carry the noise of every channel, and a width of 128 cannot carry 128 channels' noise besides what it
# thinks. So only these channels mean something; in the others the model answers 0 and they stay noise that no decoder
# looks at.
VIDEO_CHANNELS, AUDIO_CHANNELS = latents.VIDEO_CHANNELS, latents.AUDIO_CHANNELS
EPS = 1e-6
CONFIG = {
    "_class_name": "AVTransformer3DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": WIDTH // HEADS,
    "attention_type": "default",
    "caption_channels": 32,
    "cross_attention_dim": WIDTH,
    "double_self_attention": False,
    "dropout": 0.0,
    "in_channels": 128,
    "norm_elementwise_affine": False,
    "norm_eps": EPS,
    "norm_num_groups": 32,
    "num_attention_heads": HEADS,
    "num_embeds_ada_norm": 1000,
    "num_layers": LAYERS,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "cross_attention_norm": True,
    "out_channels": 128,
    "upcast_attention": False,
    "use_linear_projection": False,
    "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "positional_embedding_theta": 4.0,
    "positional_embedding_max_pos": [3, 288, 288],
    "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000.0,
    "causal_temporal_positioning": True,
    "audio_num_attention_heads": HEADS,
    "audio_attention_head_dim": AUDIO_WIDTH // HEADS,
    "use_audio_video_cross_attention": True,
    "share_ff": False,
    "audio_out_channels": 128,
    "audio_cross_attention_dim": AUDIO_WIDTH,
    "audio_positional_embedding_max_pos": [3],
    "av_cross_ada_norm": True,
    "use_embeddings_connector": True,
    "connector_attention_head_dim": WIDTH // HEADS,
    "connector_num_attention_heads": HEADS,
    "connector_num_layers": 1,
    "connector_positional_embedding_max_pos": [4096],
    "connector_num_learnable_registers": 128,
    "connector_norm_output": True,
    "use_middle_indices_grid": True,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "audio_connector_num_attention_heads": HEADS,
    "audio_connector_attention_head_dim": AUDIO_WIDTH // HEADS,
    "apply_gated_attention": True,
    "connector_apply_gated_attention": True,
    "cross_attention_adaln": True,
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "caption_projection_second_linear": False,
    "caption_proj_input_norm": False,
    "connector_learnable_registers_std": 1,
    "text_encoder_norm_type": "per_token_rms",
}


@dataclass(frozen=True)
class Rotations:
    """cos and sin [B or 1, T, heads, d/2] of the video's and the sound's own attention and of the attention between."""

    video: tuple[Tensor, Tensor]
    audio: tuple[Tensor, Tensor]
    video_time: tuple[Tensor, Tensor]
    audio_time: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Inputs:
    """A batch. video [B, Tv, 128], audio [B, Ta, 128]; sigma [B]; classes [B, 4] of words; clean tokens [B, T] as
    booleans."""

    video: Tensor
    audio: Tensor
    sigma: Tensor
    classes: Tensor
    clean_video: Tensor
    clean_audio: Tensor
    rotations: Rotations


class _Shared(NamedTuple):
    """What all blocks use, of the video and of the sound: modulation rows, gates and words; and the words' bias."""

    rows: tuple[Tensor, Tensor]
    prompts: tuple[Tensor, Tensor]
    between: tuple[Tensor, Tensor]
    gates: tuple[Tensor, Tensor]
    words: tuple[Tensor, Tensor]
    bias: Tensor


class MiniTransformer(nn.Module):
    """The engine's transformer and the vectors of the words."""

    def __init__(self):
        super().__init__()
        self.net = Transformer(transformer_config(CONFIG, {}))
        self.video_words = nn.Parameter(torch.randn(NEUTRAL + 1, WIDTH))
        self.audio_words = nn.Parameter(torch.randn(NEUTRAL + 1, AUDIO_WIDTH))
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        self.step = run_block  # compiling this one function takes a fifth of the time that the whole takes

    def forward(self, x: Inputs) -> tuple[Tensor, Tensor]:
        """Velocities [B, Tv, 128] and [B, Ta, 128]."""
        net, r = self.net, x.rotations
        times = torch.cat([x.sigma, x.sigma.new_zeros(1)]) * 1000
        v, a = net.patchify_proj(x.video), net.audio_patchify_proj(x.audio)
        v_rows, v_embedded = _adaln(net.adaln_single, times)
        a_rows, a_embedded = _adaln(net.audio_adaln_single, times)
        v_prompt = _adaln(net.prompt_adaln_single, times[:-1])[0]
        a_prompt = _adaln(net.audio_prompt_adaln_single, times[:-1])[0]
        v_between = _adaln(net.av_ca_video_scale_shift_adaln_single, times)[0]
        a_between = _adaln(net.av_ca_audio_scale_shift_adaln_single, times)[0]
        v_gate = _adaln(net.av_ca_a2v_gate_adaln_single, times[:-1])[0][:, 0]
        a_gate = _adaln(net.av_ca_v2a_gate_adaln_single, times[:-1])[0][:, 0]
        v_words, bias = self._context(x.classes, self.video_words)
        a_words, _ = self._context(x.classes, self.audio_words)
        shared = _Shared(
            (v_rows, a_rows), (v_prompt, a_prompt), (v_between, a_between), (v_gate, a_gate), (v_words, a_words), bias
        )
        for block in net.transformer_blocks:
            v, a = self.step(block, v, a, shared, (x.clean_video, x.clean_audio), r)
        return (
            net.proj_out(_last_norm(v, v_embedded, net.scale_shift_table, _Tokens(x.clean_video))),
            net.audio_proj_out(_last_norm(a, a_embedded, net.audio_scale_shift_table, _Tokens(x.clean_audio))),
        )

    @staticmethod
    def _context(classes: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [B, 5, D] of the words and the neutral one, and the logits' bias [B, 1, 1, 5]."""
        ids = F.pad(classes, (0, 1), value=NEUTRAL)
        said = torch.where(classes == NEUTRAL, -1e9, 0.0)
        bias = F.pad(said, (0, 1), value=math.log(CONTEXT - 4))
        return F.rms_norm(vectors[ids], vectors.shape[1:], eps=EPS), bias[:, None, None]


class _Tokens:
    """Looks modulations up for tokens: a row of its sample for each, or the last row where it is clean."""

    def __init__(self, clean: Tensor):
        self.clean = clean[..., None]  # [B, T, 1]

    def row(self, rows: Tensor, index: int) -> Tensor:
        """rows [B + 1, N, D] → [B, T, D]"""
        return torch.where(self.clean, rows[-1:, None, index], rows[:-1, None, index])

    def norm(self, x: Tensor, rows: Tensor, scale: int, shift: int, norm=F.rms_norm) -> Tensor:
        return norm(x, x.shape[-1:], eps=EPS) * (1 + self.row(rows, scale)) + self.row(rows, shift)


def run_block(block: nn.Module, v: Tensor, a: Tensor, shared: _Shared, clean, r: Rotations) -> tuple[Tensor, Tensor]:
    """One block: v [B, Tv, D], a [B, Ta, D'] and which of their tokens are clean → the same."""
    v_tokens, a_tokens = _Tokens(clean[0]), _Tokens(clean[1])
    v_rows, a_rows = shared.rows[0] + block.scale_shift_table, shared.rows[1] + block.audio_scale_shift_table
    v = v + _self_attention(block.attn1, v, v_rows, v_tokens, r.video)
    words = _modulated(shared.words[0], shared.prompts[0] + block.prompt_scale_shift_table)
    v = v + _text_attention(block.attn2, v, v_rows, v_tokens, words, shared.bias)
    a = a + _self_attention(block.audio_attn1, a, a_rows, a_tokens, r.audio)
    words = _modulated(shared.words[1], shared.prompts[1] + block.audio_prompt_scale_shift_table)
    a = a + _text_attention(block.audio_attn2, a, a_rows, a_tokens, words, shared.bias)
    v, a = _between(block, v, a, shared, (v_tokens, a_tokens), r)
    return v + _feed_forward(block.ff, v, v_rows, v_tokens), a + _feed_forward(block.audio_ff, a, a_rows, a_tokens)


def _between(block, v, a, shared: _Shared, tokens, r: Rotations):
    """Attention between the streams: both directions start from the tokens as they are."""
    v_table, a_table = block.scale_shift_table_a2v_ca_video, block.scale_shift_table_a2v_ca_audio
    v_rows, a_rows = shared.between[0] + v_table[:4], shared.between[1] + a_table[:4]
    v_tokens, a_tokens = tokens
    heard, listening = a_tokens.norm(a, a_rows, 0, 1), v_tokens.norm(v, v_rows, 0, 1)
    to_v = _attend(block.audio_to_video_attn, listening, heard, (r.video_time, r.audio_time))
    seen, looking = v_tokens.norm(v, v_rows, 2, 3), a_tokens.norm(a, a_rows, 2, 3)
    to_a = _attend(block.video_to_audio_attn, looking, seen, (r.audio_time, r.video_time))
    gates = shared.gates
    return v + to_v * (gates[0] + v_table[4])[:, None], a + to_a * (gates[1] + a_table[4])[:, None]


def _adaln(module: nn.Module, times: Tensor) -> tuple[Tensor, Tensor]:
    layers = module.emb["timestep_embedder"]
    embedded = layers["linear_2"](F.silu(layers["linear_1"](sinusoid(times))))
    return module.linear(F.silu(embedded)).unflatten(-1, (module.rows, -1)), embedded


def _modulated(words: Tensor, rows: Tensor) -> Tensor:
    return words * (1 + rows[:, 1, None]) + rows[:, 0, None]


def _rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = table
    a, b = x.unflatten(-1, (cos.shape[2], 2, -1)).unbind(3)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], 3).flatten(2)


def _attend(module: nn.Module, x: Tensor, context: Tensor, rotations=None, bias: Tensor | None = None) -> Tensor:
    q, k, v = module.q_norm(module.to_q(x)), module.k_norm(module.to_k(context)), module.to_v(context)
    if rotations is not None:
        q, k = _rotate(q, rotations[0]), _rotate(k, rotations[1])
    q, k, v = (t.unflatten(-1, (module.heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B, heads, T, d]
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    out = torch.softmax(logits if bias is None else logits + bias, -1) @ v
    gates = 2 * torch.sigmoid(module.to_gate_logits(x))
    return module.to_out[0]((out.transpose(1, 2) * gates[..., None]).flatten(2))


def _self_attention(module, x, rows, tokens: _Tokens, rotation) -> Tensor:
    h = tokens.norm(x, rows, 1, 0)
    return _attend(module, h, h, (rotation, rotation)) * tokens.row(rows, 2)


def _text_attention(module, x, rows, tokens: _Tokens, words, bias) -> Tensor:
    return _attend(module, tokens.norm(x, rows, 7, 6), words, None, bias) * tokens.row(rows, 8)


def _feed_forward(module, x, rows, tokens: _Tokens) -> Tensor:
    hidden = module.net["0"]["proj"](tokens.norm(x, rows, 4, 3))
    return module.net["2"](F.gelu(hidden, approximate="tanh")) * tokens.row(rows, 5)


def _last_norm(x, embedded, table, tokens: _Tokens) -> Tensor:
    return tokens.norm(x, embedded[:, None] + table, 1, 0, F.layer_norm)


def rotations(net: nn.Module, latent_frames: int, audio_latents: int, offsets: list[Fraction]) -> Rotations:
    """Tables for clips whose pictures start at these offsets, in seconds; one for each."""
    c = net.config
    video = torch.cat(
        [
            video_positions(
                latent_frames, world.ROWS, world.COLUMNS, world.FPS, video_offset_seconds=offset, device="cpu"
            )
            for offset in offsets
        ]
    )
    audio = audio_positions(audio_latents, device="cpu")
    longest = (max(c.max_positions[0], c.audio_max_positions[0]),)

    def table(positions, heads, head_dim, limits, middle=c.middle_positions):
        made = rotary_table(
            positions,
            heads=heads,
            head_dim=head_dim,
            max_positions=limits,
            rotary=c.rotary,
            middle=middle,
            dtype=torch.float32,
        )
        return made.cos, made.sin

    between = {"heads": c.audio_heads, "head_dim": c.audio_head_dim, "limits": longest, "middle": True}
    return Rotations(
        table(video, c.heads, c.head_dim, c.max_positions),
        table(audio, c.audio_heads, c.audio_head_dim, c.audio_max_positions),
        table(video[:, :1], **between),
        table(audio, **between),
    )
