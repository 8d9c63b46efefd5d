"""One call of the transformer over several ranks, each with some of the picture's tokens (all-to-all over heads).

The video's tokens are split unevenly, without padding; the audio is whole on every rank. Video self-attention exchanges
tokens for heads and back; audio reading the video splits its queries by heads; video reading the audio needs nothing.
The two attentions are the transformer's own functions replaced for one call, so the network itself knows nothing of it.
Scheme: the multi-GPU documentation of ltx-core 1.0.0.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import nn

from ..config.transformer import TransformerConfig
from ..networks.layers.typed_modules import list_of
from ..networks.transformer.block import AVBlock, Perturbation
from ..networks.transformer.model import StreamInput
from .split import shares, span


@dataclass
class Traffic:
    """What a rank exchanged: calls, and bytes that left it for others."""

    calls: int = 0
    bytes: int = 0

    def count(self, elements: int, like: torch.Tensor) -> None:
        """Add what is sent of a tensor of this many elements."""
        self.calls += 1
        self.bytes += elements * like.element_size()


def exchanged(config: TransformerConfig, rows: int, tokens: tuple[int, int], own: int, parts: int) -> tuple[int, int]:
    """Calls and elements that leave a rank in one call of the transformer, shared by ``parts`` ranks.

    rows: of the batch on these ranks; tokens: of video and audio; own: video tokens of this rank. Bytes are these times
    the size of a value. Counted exactly as :class:`Traffic` counts.
    """
    if parts == 1 or tokens[0] < parts:
        return 0, 0
    width, audio_inner = config.heads * config.head_dim, config.audio_heads * config.audio_head_dim
    video, audio = tokens
    rest = parts - 1
    there = 3 * rows * own * width * rest // parts
    back = rows * (video - own) * width // parts
    keys = 2 * rows * own * audio_inner * rest // parts
    heads = rows * audio * (audio_inner // parts) * rest
    largest = -(-video // parts)
    out = rows * largest * config.out_channels * rest
    return 4 * config.layers + 1, config.layers * (there + back + keys + heads) + out


@dataclass(frozen=True)
class SequenceGroup:
    """The ranks that share one call's tokens. members: their global ranks in order; part: this one's place in it."""

    group: "dist.ProcessGroup"
    members: tuple[int, ...]
    part: int
    traffic: Traffic

    @property
    def parts(self) -> int:
        """Over how many ranks a sequence is spread."""
        return len(self.members)

    def to_heads(self, tokens: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """[B, own tokens, H·d] of all heads → [B, all tokens, H/parts·d] of this rank's heads."""
        batch, own, _ = tokens.shape
        send = tokens.reshape(batch, own, self.parts, -1).permute(2, 1, 0, 3).contiguous()  # [parts, own, B, d']
        width = send.shape[-1]
        out = send.new_empty(sum(counts) * batch * width)
        self.traffic.count(send.numel() - own * batch * width, send)
        dist.all_to_all_single(
            out, send.flatten(), [c * batch * width for c in counts], [own * batch * width] * self.parts, self.group
        )
        return out.view(sum(counts), batch, width).transpose(0, 1)

    def to_tokens(self, heads: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """[B, all tokens, H/parts·d] of this rank's heads → [B, own tokens, H·d] of all heads."""
        batch, _, width = heads.shape
        own = counts[self.part]
        send = heads.transpose(0, 1).contiguous()  # [all tokens, B, d']
        out = send.new_empty(self.parts * own * batch * width)
        self.traffic.count(send.numel() - own * batch * width, send)
        dist.all_to_all_single(
            out, send.flatten(), [own * batch * width] * self.parts, [c * batch * width for c in counts], self.group
        )
        return out.view(self.parts, own, batch, width).permute(2, 1, 0, 3).reshape(batch, own, self.parts * width)

    def gather(self, own: torch.Tensor, counts: Sequence[int], dim: int) -> torch.Tensor:
        """Uneven shares along a dimension, put together on every rank."""
        largest = max(counts)
        shape = list(own.shape)
        shape[dim] = largest
        padded = own.new_zeros(shape)
        padded.narrow(dim, 0, own.shape[dim]).copy_(own)
        parts = [torch.empty_like(padded) for _ in range(self.parts)]
        self.traffic.count(padded.numel() * (self.parts - 1), padded)
        dist.all_gather(parts, padded, self.group)
        return torch.cat([part.narrow(dim, 0, count) for part, count in zip(parts, counts)], dim=dim)


def run_shared(
    transformer: nn.Module,
    video: StreamInput | None,
    audio: StreamInput | None,
    perturbations: Sequence[Perturbation] | None,
    group: SequenceGroup,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The transformer's velocities of whole streams, computed by all ranks of a group together.

    All ranks give the same whole streams and get the same whole velocities. A call without video, or with fewer tokens
    than ranks, is small, and computed by each rank alone.
    """
    if video is None or group.parts == 1 or video.latent.shape[1] < group.parts:
        return transformer(video, audio, perturbations)
    counts = shares(video.latent.shape[1], group.parts)
    first, end = span(video.latent.shape[1], group.parts, group.part)
    with _shared_attention(transformer, group, counts):
        own, sound = transformer(_tokens(video, first, end), audio, perturbations)
    return None if own is None else group.gather(own, counts, 1), sound


def _tokens(stream: StreamInput, first: int, end: int) -> StreamInput:
    """Some of a stream's tokens. The attention mask stays whole: it is applied where all tokens are."""

    def cut(tensor: torch.Tensor | None, dim: int = 1) -> torch.Tensor | None:
        return tensor if tensor is None or tensor.shape[dim] == 1 else tensor.narrow(dim, first, end - first)

    return replace(
        stream,
        latent=cut(stream.latent),
        timesteps=cut(stream.timesteps),
        positions=stream.positions.narrow(2, first, end - first),
        keyframes_mask=cut(stream.keyframes_mask),
    )


@contextlib.contextmanager
def _shared_attention(transformer: nn.Module, group: SequenceGroup, counts: Sequence[int]) -> Iterator[None]:
    """The transformer with the two attentions that need tokens of other ranks, for the length of a block."""

    blocks = list_of(AVBlock, transformer.get_submodule("transformer_blocks"))
    first = blocks[0]
    own_self, own_video = first.attn1.attention, first.video_to_audio_attn.attention

    def attend_self(q, k, v, *, heads: int, mask=None):
        q, k, v = group.to_heads(torch.cat([q, k, v]), counts).chunk(3)  # one exchange for all three
        return group.to_tokens(own_self(q, k, v, heads=heads // group.parts, mask=mask), counts)

    def attend_video(q, k, v, *, heads: int, mask=None):
        width = q.shape[-1] // group.parts
        q = q[..., group.part * width : (group.part + 1) * width]
        k, v = group.to_heads(torch.cat([k, v]), counts).chunk(2)
        out = own_video(q, k, v, heads=heads // group.parts, mask=mask).contiguous()
        return group.gather(out, [width] * group.parts, 2)

    try:
        for block in blocks:
            block.attn1.attention, block.video_to_audio_attn.attention = attend_self, attend_video
        yield
    finally:
        for block in blocks:
            block.attn1.attention, block.video_to_audio_attn.attention = own_self, own_video
