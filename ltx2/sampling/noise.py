"""Random numbers and what is done with them: one generator per clip, a fixed order of draws, and the blend with known
latents."""

from collections.abc import Sequence

import torch

from .tokens import AVTokens

# Samplers that add noise as they go use streams of their own, so that the starting noise never repeats in them.
STEP_SEED_OFFSET = 10_000
SUBSTEP_SEED_OFFSET = 20_000
# Seeds run from 0 to 2^64 - 1.
SEEDS = 2**64


def generators(seed: int, batch_size: int, device: torch.device | str = "cpu") -> list[torch.Generator]:
    """One generator per clip: clip i draws what a run of its own with ``seed + i`` would draw."""
    # a generator takes 64 bits; the last seeds count on from 0
    return [torch.Generator(device).manual_seed((seed + i) % SEEDS) for i in range(batch_size)]


def draw(
    shape: Sequence[int], sources: Sequence[torch.Generator], *, dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Normal noise [len(sources), *shape]; row i comes from generator i alone and is drawn on that generator's
    device."""
    rows = [
        torch.randn((1, *shape), generator=source, dtype=dtype, device=source.device).to(device) for source in sources
    ]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def draw_tokens(
    video_tokens: int | None,
    audio_tokens: int | None,
    sources: Sequence[torch.Generator],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    channels: int = 128,
) -> AVTokens:
    """Starting noise of one stage in the official order: all video tokens (guides included), then all audio tokens."""

    def drawn(count: int | None) -> torch.Tensor | None:
        return None if count is None else draw((count, channels), sources, dtype=dtype, device=device)

    return AVTokens(drawn(video_tokens), drawn(audio_tokens))


def add_noise(
    latent: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor, scale: float
) -> torch.Tensor:
    """The latent a stage starts from: ``lerp(clean, lerp(latent, noise, scale), mask)`` in float32, in the latent's
    dtype.

    latent: where generation starts (zeros, or the stage before); clean: what is known; mask [B, T, 1]: 1 generates, 0
    keeps;
    scale: 1 for a fresh start, the first sigma when re-noising, 0 for a frozen stream.
    """
    # written as sums of products: exact at scale 0 and 1 and at mask 0 and 1, where lerp is not
    start = noise.float() * scale + latent.float() * (1 - scale)
    return (start * mask + clean.float() * (1 - mask)).to(latent.dtype)


def restore(x0: AVTokens, clean: AVTokens, mask: AVTokens) -> AVTokens:
    """Put the known tokens back into a prediction: ``x0·mask + clean·(1 − mask)`` in float32."""
    return x0.map(lambda x, c, m: (x * m + c.float() * (1 - m)).to(x.dtype), clean, mask)


def keep_exactly(x: AVTokens, clean: AVTokens, mask: AVTokens) -> AVTokens:
    """Tokens of mask 0 bit for bit as they were given: rounding in the steps before leaves the last digit open."""
    return x.map(lambda x, c, m: torch.where(m == 0, c, x), clean, mask)


def unit_noise(noise: torch.Tensor) -> torch.Tensor:
    """Noise [1, T, C] brought to mean 0 and deviation 1, over all of it and then over the last two axes (res_2s)."""
    noise = (noise - noise.mean()) / noise.std()
    return (noise - noise.mean(dim=(-2, -1), keepdim=True)) / noise.std(dim=(-2, -1), keepdim=True)
