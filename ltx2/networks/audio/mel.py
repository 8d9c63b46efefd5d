"""Waveform → log-mel spectrogram as the audio VAE was trained on it, in torch alone.

Checked against torchaudio's transforms as ltx-core 1.0.0 uses them, and against transformers' audio utilities.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config.audio import AudioVaeConfig
from ...errors import MediaError, RequestError
from ...resampling import check_rate, mix_to_stereo, resample
from ...values import Waveform

LOG_FLOOR = 1e-5


def waveform_to_mel(waveform: Waveform, config: AudioVaeConfig | None = None) -> Tensor:
    """Log-mel [1, 2, T, 64] float32 of a sound of any sample rate and channel count, on its device; T = 1 + N // 160 at
    16 kHz.

    One channel is heard on both sides; more than two are mixed down. No change of loudness else.
    Raises MediaError for an empty or damaged sound and for a sample rate outside 1 to 768 kHz.
    """
    config = config or AudioVaeConfig()
    check_waveform(waveform)
    samples = mix_to_stereo(waveform).samples.detach().float()
    count = config.sound_channels
    samples = samples[:count] if samples.shape[0] >= count else samples[:1].expand(count, -1)
    samples = resample(samples, waveform.sample_rate, config.sample_rate)
    return log_mel(samples[None], config)


def check_waveform(waveform: Waveform) -> None:
    """Raise MediaError unless this is a sound: float [C, N], not empty, finite, at a rate that sound is sampled at."""
    samples, rate = waveform.samples, waveform.sample_rate
    if samples.ndim != 2 or not samples.is_floating_point():
        raise MediaError(
            f"sound has shape {list(samples.shape)} and type {samples.dtype}, expected float samples as [channels, "
            "samples]"
        )
    if not samples.numel():
        raise MediaError(
            f"sound is empty ({samples.shape[0]} channels of {samples.shape[1]} samples): give at least one sample"
        )
    check_rate(rate)
    if not torch.isfinite(samples).all():
        raise MediaError("sound holds NaN or infinite samples: decode or record it anew")


def require_shape(x: Tensor, what: str, channels: int, bins: int) -> None:
    """Raise RequestError unless this is [B, channels, T, bins] with some length. what: as the message calls it."""
    if x.ndim != 4 or x.shape[1] != channels or x.shape[3] != bins or not x.shape[2]:
        raise RequestError(
            f"{what} has shape {list(x.shape)}, expected [B, {channels}, T, {bins}] of at least one T: use this "
            "model's own"
        )


def log_mel(samples: Tensor, config: AudioVaeConfig | None = None) -> Tensor:
    """Log-mel spectrogram of sound at the model's rate: [B, C, N] → [B, C, 1 + N // hop, bins] float32.

    Magnitudes (not powers) of a centred transform under a periodic Hann window, 64 triangles from 0 Hz to the Nyquist
    frequency, natural logarithm of at least 1e-5. Sound shorter than half a window is followed by silence.
    """
    config = config or AudioVaeConfig()
    window, hop = config.window_samples, config.hop_samples
    frames = 1 + samples.shape[-1] // hop
    samples = samples.float()
    samples = F.pad(samples, (0, max(0, window // 2 + 1 - samples.shape[-1])))  # mirroring the edge needs that much
    spectrum = torch.stft(
        samples.flatten(0, 1),
        window,
        hop,
        window=torch.hann_window(window, device=samples.device),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )  # [B·C, window/2+1, frames]
    bank = mel_filters(window, config.sample_rate, config.mel_bins, device=samples.device)
    mel = bank @ spectrum.abs()[..., :frames]  # [B·C, bins, frames]
    return mel.clamp_(min=LOG_FLOOR).log_().transpose(1, 2).unflatten(0, samples.shape[:2]).contiguous()


def mel_filters(window: int, sample_rate: int, bins: int, *, device: torch.device | str | None = None) -> Tensor:
    """Triangular filters on the Slaney mel scale, each of unit area: [bins, window/2+1] float32.

    Slaney, Auditory Toolbox (1998): 3 mel per 200 Hz up to 1 kHz, from there 27 mel for every factor of 6.4.
    """
    nyquist = sample_rate / 2
    hertz_per_mel, corner_hertz, corner_mel, log_step = 200 / 3, 1000.0, 15.0, math.log(6.4) / 27
    top = (
        nyquist / hertz_per_mel if nyquist < corner_hertz else corner_mel + math.log(nyquist / corner_hertz) / log_step
    )
    # on the CPU: not every device knows float64
    mel = torch.linspace(0, top, bins + 2, dtype=torch.float64, device="cpu")
    edges = torch.where(mel < corner_mel, mel * hertz_per_mel, corner_hertz * torch.exp((mel - corner_mel) * log_step))
    hertz = torch.linspace(0, nyquist, window // 2 + 1, dtype=torch.float64, device="cpu")
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)).clamp_(min=0)
    return (triangles * (2 / (high - low))).float().to(device)
