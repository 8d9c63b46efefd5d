"""Sound ↔ audio latents, whole or window by window.

The networks are convolutions of limited reach, so a long sound is worked on in windows that overlap by that reach: the
result is the same as in one piece, and memory follows the window, not the length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import clock
from ...errors import CheckpointError, MediaError, RequestError
from ...values import Waveform
from .mel import waveform_to_mel
from .vae import AudioDecoder, AudioEncoder
from .vocoder import BandwidthExtensionVocoder, Vocoder

WINDOW_LATENTS = 500  # 20 s: what a generated segment has at most is decoded in one piece


def encode_waveform(
    encoder: AudioEncoder, waveform: Waveform, *, latents: int | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Normalised latent [1, 8, T, 16] float32 of a sound of any rate and channel count.

    T follows the sound's length, or is ``latents`` (cropped or followed by zeros). device: where the encoder runs.
    Raises MediaError for an empty or damaged sound or an absurd sample rate.
    """
    if device is not None:
        waveform = Waveform(waveform.samples.to(device), waveform.sample_rate)
    latent = encode_mel(encoder, waveform_to_mel(waveform, encoder.config))
    return latent if latents is None else fit_latents(latent, latents)


def encode_mel(encoder: AudioEncoder, mel: Tensor, window_latents: int = WINDOW_LATENTS) -> Tensor:
    """Normalised latents [B, 8, T, 16] of a log-mel [B, 2, frames, 64], window by window: as in one piece."""
    total = -(-mel.shape[2] // clock.MEL_FRAMES_PER_LATENT)
    pieces = []
    for start in range(0, total, window_latents):
        first = max(0, start - encoder.latents_seen)  # causal: what comes later is never seen
        # Latent i ends with mel frame 4i.
        frames = slice(
            clock.MEL_FRAMES_PER_LATENT * first, clock.mel_frames_of_latents(min(start + window_latents, total))
        )
        pieces.append(encoder(mel[:, :, frames])[:, :, start - first :])
    return torch.cat(pieces, dim=2)


def fit_latents(latent: Tensor, latents: int) -> Tensor:
    """A normalised latent [B, C, T, …] with exactly this many along T: cropped at the end, or followed by zeros."""
    if latents < 1:
        raise RequestError(f"{latents} latents asked for, expected at least 1")
    missing = latents - latent.shape[2]
    if missing <= 0:
        return latent[:, :, :latents]
    return F.pad(latent, (0, 0) * (latent.ndim - 3) + (0, missing))


def decode_audio(
    decoder: AudioDecoder,
    vocoder: Vocoder | BandwidthExtensionVocoder,
    latent: Tensor,
    *,
    window_latents: int = WINDOW_LATENTS,
) -> Waveform:
    """Sound [C, N] float32 of one normalised latent [1, 8, T, 16], at the vocoder's rate; N = (4T-3) / 100 s exactly.

    window_latents: decoded at a time (25 a second). Raises RequestError for another shape, MediaError where the latent
    or the sound is not finite.
    """
    channels, bins = decoder.config.latent_channels, decoder.config.latent_bins
    if (
        latent.ndim != 4
        or latent.shape[0] != 1
        or latent.shape[1] != channels
        or latent.shape[3] != bins
        or not latent.shape[2]
    ):
        raise RequestError(
            f"audio latent has shape {list(latent.shape)}, expected [1, {channels}, latents, {bins}] of one sample"
        )
    if not torch.isfinite(latent).all():
        raise MediaError(
            "audio latent holds NaN or infinity: the denoising before it failed, so check its weights and precision"
        )
    samples = vocode(
        vocoder, decode_mel(decoder, latent, window_latents), clock.MEL_FRAMES_PER_LATENT * window_latents
    )[0]
    expected = clock.decoded_samples(latent.shape[2], vocoder.sample_rate)
    if samples.shape[-1] != expected:
        raise CheckpointError(
            f"vocoder made {samples.shape[-1]} samples of {latent.shape[2]} latents, expected {expected} at "
            f"{vocoder.sample_rate} Hz: "
            "its config does not fit its weights"
        )
    if not torch.isfinite(samples).all():
        raise MediaError(
            "decoded sound holds NaN or infinity: the vocoder's weights are damaged, so load its file anew"
        )
    return Waveform(samples, vocoder.sample_rate)


def decode_mel(decoder: AudioDecoder, latent: Tensor, window_latents: int = WINDOW_LATENTS) -> Tensor:
    """Log-mel [B, 2, 4T-3, 64] of normalised latents [B, 8, T, 16], window by window: as in one piece."""
    total = latent.shape[2]
    pieces = []
    for start in range(0, total, window_latents):
        end = min(start + window_latents, total)
        first = max(0, start - decoder.latents_seen)  # causal: what comes later is never seen
        mel = decoder(latent[:, :, first:end])
        # Latent i stands for the four mel frames up to 4i, the first one for frame 0 alone.
        fresh = clock.mel_frames_of_latents(end) - (clock.mel_frames_of_latents(start) if start else 0)
        pieces.append(mel[:, :, mel.shape[2] - fresh :])
    return torch.cat(pieces, dim=2)


def vocode(vocoder: Vocoder | BandwidthExtensionVocoder, mel: Tensor, window_frames: int) -> Tensor:
    """Waveform [B, C, N] of a log-mel [B, 2, T, 64], window by window: as in one piece, to rounding."""
    total, reach, step = mel.shape[2], vocoder.frames_seen, vocoder.samples_per_frame
    pieces = []
    for start in range(0, total, window_frames):
        end = min(start + window_frames, total)
        first = max(0, start - reach)
        samples = vocoder(mel[:, :, first : end + reach])
        pieces.append(samples[..., (start - first) * step : (end - first) * step].clone())
    return torch.cat(pieces, dim=-1)
