"""Audio latents to sound."""

from collections.abc import Callable

import torch

from ..networks.audio import codec as audio_codec
from ..networks.audio.vae import AudioDecoder
from ..networks.audio.vocoder import BandwidthExtensionVocoder, Vocoder
from ..values import Progress, Waveform


def decode_audio(
    decoder: AudioDecoder,
    vocoder: Vocoder | BandwidthExtensionVocoder,
    latent: torch.Tensor,
    *,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[Progress], None] | None = None,
) -> Waveform:
    """Sound [2, N] float32 on the CPU of one normalised latent [1, 8, T, 16], at the vocoder's rate; N = (4T − 3) / 100
    s.

    decoder (weights of ``dtype``) and vocoder on ``device``. Raises RequestError for another shape, MediaError for a
    latent that is not finite.
    """
    if progress is not None:
        progress(Progress("audio decoding", 0, 1))
    with torch.no_grad():
        sound = audio_codec.decode_audio(decoder, vocoder, latent.to(device, dtype))
    if progress is not None:
        progress(Progress("audio decoding", 1, 1))
    return Waveform(sound.samples.float().cpu(), sound.sample_rate)
