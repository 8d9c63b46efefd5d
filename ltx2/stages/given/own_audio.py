"""A track of one's own before anything is made for it: a sound, finite, in at most two channels."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ...clock import samples_of_seconds
from ...errors import MediaError, RequestError
from ...media.sound_reader import check_finite
from ...resampling import check_rate, mix_note, mix_to_stereo
from ...values import AudioCondition, Waveform
from .fields import finite_number, shown, truth_value

OWN = "the sound of one's own"


def ready_audio(
    audio: Waveform | AudioCondition | None, name: str = OWN
) -> tuple[Waveform | AudioCondition | None, tuple[str, ...]]:
    """A request's sound as model and film alike take it, and what was done to it: a Waveform of more than two channels
    is mixed down.

    name: what messages call it. Raises MediaError and RequestError for what is no sound, or not finite.
    """
    if isinstance(audio, Waveform):
        sound = _checked(audio, name)
        count = sound.samples.shape[0]
        return (sound, ()) if count <= 2 else (mix_to_stereo(sound), (mix_note(name, count),))
    if audio is None:
        return None, ()
    if not isinstance(audio, AudioCondition):
        raise RequestError(f"audio is {shown(audio)}, expected Waveform or AudioCondition")
    latent: Any = audio.latent
    if not isinstance(latent, torch.Tensor) or not latent.is_floating_point() or latent.ndim != 4:
        found = list(latent.shape) if hasattr(latent, "shape") else shown(latent)
        raise RequestError(f"audio latents are {found}, expected a float tensor [batch, 8, latents, 16]")
    if not torch.isfinite(latent).all():
        raise RequestError("audio latents to start from hold NaN or infinity: what made them failed, make them anew")
    waveform: Any = None if audio.waveform is None else ready_audio(audio.waveform, name)[0]
    mask: Any = audio.mask
    if not isinstance(mask, torch.Tensor) or mask.ndim == 0:
        mask = finite_number(mask, "audio mask")
    elif mask.shape != latent.shape[2:3] or not torch.isfinite(mask).all():
        raise RequestError(
            f"audio mask has shape {list(mask.shape)}, expected one number, or a finite one for each of the "
            f"{latent.shape[2]} latents"
        )
    frozen = truth_value(audio.frozen, "frozen")
    return replace(audio, mask=mask, frozen=frozen, waveform=waveform), ()


def sound_piece(sound: Waveform, begin: Fraction, seconds: Fraction) -> Waveform:
    """A stretch of a sound from a moment on, to the sample; silence behind its end."""
    first, last = (samples_of_seconds(time, sound.sample_rate) for time in (begin, begin + seconds))
    samples = sound.samples[:, first:last]
    return Waveform(torch.nn.functional.pad(samples, (0, last - first - samples.shape[1])), sound.sample_rate)


def sound_from(sound: Waveform, begin: Fraction) -> Waveform:
    """A sound from a moment on. Raises RequestError where there is nothing left of it."""
    first = samples_of_seconds(begin, sound.sample_rate)
    if not 0 <= first < sound.samples.shape[1]:
        raise RequestError(
            f"the sound is to begin at {float(begin):g} s, it has {float(sound.seconds):.2f} s: begin at 0 s or more, "
            "before its end"
        )
    return Waveform(sound.samples[:, first:], sound.sample_rate)


def _checked(sound: Waveform, name: str) -> Waveform:
    samples: Any = sound.samples
    if isinstance(samples, np.ndarray) and samples.dtype.kind == "f":
        samples = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    if not isinstance(samples, torch.Tensor) or samples.ndim != 2 or not samples.is_floating_point():
        found = f"{list(samples.shape)} of {samples.dtype}" if hasattr(samples, "shape") else shown(samples)
        raise MediaError(f"{name} is {found}, expected float samples [channels, samples]")
    if not samples.numel():
        raise MediaError(f"{name} is empty: give at least one sample, or leave it out")
    check_rate(sound.sample_rate)
    sound = Waveform(samples, int(sound.sample_rate))
    check_finite(sound, name)
    return sound
