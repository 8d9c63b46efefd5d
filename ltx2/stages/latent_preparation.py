"""Empty latents of a clip and the noise they start from."""

from collections.abc import Sequence

import torch

from .. import clock
from ..errors import RequestError
from ..sampling import noise as sampling_noise
from ..sampling.tokens import AVTokens, patchify_audio, patchify_video
from ..values import AUDIO_BINS, AUDIO_CHANNELS, VIDEO_CHANNELS, AVLatent
from .conditioning import Conditioning


def empty_latent(
    *,
    width: int,
    height: int,
    frames: int,
    audio_latents: int,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> AVLatent:
    """Zero latents of both streams: video [B, 128, F, H/32, W/32] and audio [B, 8, T, 16].

    audio_latents: length of the sound (clock.audio_latents); 0 leaves the sound out, width and height 0 the picture.
    Raises RequestError for sizes that the models cannot take.
    """
    video = None
    if width or height:
        size = (clock.latent_frames(frames), clock.latent_size(height), clock.latent_size(width))
        video = torch.zeros(batch_size, VIDEO_CHANNELS, *size, dtype=dtype, device=device)
    audio = (
        torch.zeros(batch_size, AUDIO_CHANNELS, audio_latents, AUDIO_BINS, dtype=dtype, device=device)
        if audio_latents
        else None
    )
    return AVLatent(video, audio)


def draw_noise(
    latent: AVLatent,
    generators: Sequence[torch.Generator],
    *,
    conditioning: Conditioning | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> AVTokens:
    """Starting noise of one stage, as tokens: video with the tokens of guides and references behind it, then audio with
    those of a voice.

    generators: one a clip of the batch (sampling.noise.generators); a second stage draws on from the same ones. Video
    is drawn before audio and always in token order, so that both stages, and batches of any size, agree with the
    released pipelines. dtype and
    device: of the result, those of the latent unless given.
    """
    given = latent.video if latent.video is not None else latent.audio
    if len(generators) != len(given):
        raise RequestError(f"{len(generators)} noise generators for a batch of {len(given)}: give one each")
    return sampling_noise.draw_tokens(
        *(conditioning or Conditioning()).tokens(latent),
        generators,
        dtype=dtype or given.dtype,
        device=device or given.device,
        channels=given.shape[1] if latent.video is not None else given.shape[1] * given.shape[3],
    )


def noise_from_latents(noise: AVLatent, *, conditioning: Conditioning | None = None, guide_seed: int = 0) -> AVTokens:
    """Noise that a host made in the latents' layout, as the tokens a stage takes.

    Guides, references and voices are no part of such noise: theirs is drawn from ``guide_seed`` (what is kept exactly
    never shows it).
    """
    extra = conditioning or Conditioning()

    def longer(tokens: torch.Tensor, count: int) -> torch.Tensor:
        if not count:
            return tokens
        sources = sampling_noise.generators(guide_seed, len(tokens))
        drawn = sampling_noise.draw((count, tokens.shape[2]), sources, dtype=tokens.dtype, device=tokens.device)
        return torch.cat([tokens, drawn], dim=1)

    return AVTokens(
        None if noise.video is None else longer(patchify_video(noise.video), extra.tokens_beside(noise.video)),
        None if noise.audio is None else longer(patchify_audio(noise.audio), extra.voice_tokens),
    )
