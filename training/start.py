"""How the transformer's weights begin.

Rotary positions are relative and noise tokens are alike, so a model cannot know where in the picture a token lies.
But a token whose left neighbour does not exist attends to itself instead, and in channels of pure noise "what I
attend to equals my own noise" is exact. The first block begins with four such flags: first frame, left, right and top
edge. The velocity of pure noise is the noise itself, so the last layer begins as the first one's inverse.
"""

import math

import torch
from torch import Tensor, nn

from .engine import frequencies
from .transformer import AUDIO_CHANNELS, AUDIO_WIDTH, HEADS, VIDEO_CHANNELS, WIDTH, MiniTransformer

NOISE = 5  # channels that the flags compare
EDGES = ((0, -1), (2, -1), (2, 1), (1, -1))  # axis (time, row, column) and side of each head's neighbour
STEPS = (8 / 24, 32, 32)  # between latents along each axis: seconds, pixels, pixels
_OWN = slice(WIDTH - 29, WIDTH - 24)
_FLAGS = slice(WIDTH - 24, WIDTH - 20)
_SEEN = slice(WIDTH - 20, WIDTH)
_RESERVED = slice(WIDTH - 29, WIDTH)
_STEADY = slice(WIDTH - 33, WIDTH - 29)  # constants that keep the norm of a token from following its noise


@torch.no_grad()
def initialise(model: MiniTransformer, seed: int) -> None:
    """Fill all weights, the same for the same seed."""
    torch.manual_seed(seed)
    net = model.net
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    for name, parameter in net.named_parameters():
        _neutral(name, parameter)
    for vectors, width, kind in ((model.video_words, WIDTH, "attn2"), (model.audio_words, AUDIO_WIDTH, "audio_attn2")):
        _words(vectors, width, [getattr(block, kind) for block in net.transformer_blocks])
    _ends(net.patchify_proj, net.proj_out, VIDEO_CHANNELS)
    _ends(net.audio_patchify_proj, net.audio_proj_out, AUDIO_CHANNELS)
    _edge_flags(net)
    weight = net.patchify_proj.weight[:, :VIDEO_CHANNELS]
    net.proj_out.weight[:VIDEO_CHANNELS] = torch.linalg.pinv(weight) * _token_scale(net)
    weight = net.audio_patchify_proj.weight[:, :AUDIO_CHANNELS]
    net.audio_proj_out.weight[:AUDIO_CHANNELS] = torch.linalg.pinv(weight) * 0.6


def _neutral(name: str, parameter: Tensor) -> None:
    if "scale_shift_table" in name:
        parameter.zero_()
        if parameter.shape[0] == 9:
            parameter[[2, 5, 8]] = 1  # gates
        if parameter.shape[0] == 5:
            parameter[4] = 1
    elif "norm.weight" in name:
        parameter.fill_(1.3 if "attn2" in name else 1.0)
    elif "to_gate_logits" in name or "proj_out" in name:
        parameter.zero_()
    elif "adaln" in name and ".linear." in name:
        parameter.zero_()
    elif name.endswith(("to_out.0.weight", "net.2.weight")):
        parameter.mul_(0.5)


def _words(vectors: Tensor, width: int, attentions: list[nn.Module]) -> None:
    """Words and the neutral vector differ in one direction that every head looks along: else 1020 neutral ones win."""
    vectors.copy_(torch.randn(vectors.shape))
    vectors /= vectors.norm(dim=1, keepdim=True) / width**0.5
    vectors[-1] = 0
    vectors[:, 0] = width**0.5
    vectors[-1, 0] *= -1
    for attention in attentions:
        sign = torch.sign(torch.randn(width))
        attention.to_k.weight[:, 0] = sign * (1 / 3) ** 0.5
        attention.to_k.bias.zero_()
        attention.to_q.bias.copy_(sign * 0.6)


def _ends(first: nn.Linear, last: nn.Linear, channels: int) -> None:
    """Channels without a meaning are neither looked at nor written."""
    first.weight[:, channels:] = 0
    first.weight[:, :channels] *= (128 / channels) ** 0.5
    last.weight.zero_()
    last.bias.zero_()


def _token_scale(net) -> float:
    """Root mean square of a noise token behind the first layer."""
    noise = torch.randn(4096, 128)
    return net.patchify_proj(noise).square().mean().sqrt().item()


def _edge_flags(net) -> None:
    first, block = net.patchify_proj, net.transformer_blocks[0]
    for name, parameter in block.named_parameters():
        ends = ("to_out.0.weight", "to_out.0.bias", "net.2.weight", "net.2.bias")
        if name.endswith(ends) and parameter.shape[0] == WIDTH:
            parameter[_RESERVED] = 0
    first.weight[_RESERVED] = 0
    first.bias[_RESERVED] = 0
    first.weight[_STEADY] = 0
    first.bias[_STEADY] = torch.tensor([3.0, -3.0, 3.0, -3.0])
    for index in range(NOISE):
        first.weight[_OWN.start + index, 128 - NOISE + index] = 0.6
    scale = _token_scale(net)
    _look_at_neighbours(net, block.attn1, scale)
    _compare(block.ff, scale)


def _look_at_neighbours(net, attention: nn.Module, scale: float) -> None:
    """Each head finds the neighbour on one side by its position alone and fetches its noise."""
    for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
        layer.weight.zero_()
        layer.bias.zero_()
    size = WIDTH // HEADS
    half = size // 2
    rates = frequencies(WIDTH // 2 // 3, net.config.rotary)
    q, k = attention.to_q.bias, attention.to_k.bias
    for head, (axis, side) in enumerate(EDGES):
        for j in range(half):
            slot = head * half + j
            if slot == 0:
                continue  # the slot that is not rotated
            rate, along = divmod(slot - 1, 3)
            turn = float(rates[rate]) * 2 * STEPS[along] / net.config.max_positions[along]  # radians a latent
            target = side * min(3.0, math.pi / 2 / turn) if along == axis else 0.0
            gain = 1.0 if along == axis else 1.6
            # this pair's part of the logit: gain · cos(turn · (distance − target))
            k[head * size + j] = 1.0
            q[head * size + j] = gain * math.cos(turn * target)
            q[head * size + half + j] = gain * math.sin(turn * target)
        for index in range(NOISE):
            attention.to_v.weight[head * size + index, _OWN.start + index] = 1
            attention.to_out[0].weight[_SEEN.start + head * NOISE + index, head * size + index] = scale
    attention.k_norm.weight.fill_(float(k.square().mean().sqrt()))
    attention.q_norm.weight.fill_(float(q.square().mean().sqrt()) * size**0.5 * 14.0)


def _compare(feed_forward: nn.Module, scale: float) -> None:
    """A flag is 1 less the mean difference between the own and the fetched noise."""
    hidden, out = feed_forward.net["0"]["proj"], feed_forward.net["2"]
    out.weight[_FLAGS] = 0
    gain = 4.0 * scale / 0.53
    unit = 0
    for head in range(len(EDGES)):
        for index in range(NOISE):
            for sign in (1, -1):
                hidden.weight[unit] = 0
                hidden.bias[unit] = 0
                hidden.weight[unit, _SEEN.start + head * NOISE + index] = sign * gain
                hidden.weight[unit, _OWN.start + index] = -sign * gain
                out.weight[:, unit] = 0
                out.weight[_FLAGS.start + head, unit] = -1 / (4.0 * NOISE * 0.75)
                unit += 1
        out.bias[_FLAGS.start + head] = 1.0
