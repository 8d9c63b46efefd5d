"""A voice before anything is made for it: speech, finite, in at most two channels, or latents of it."""

from dataclasses import replace
from typing import Any

import torch

from ...errors import RequestError
from ...values import VoiceCondition, Waveform
from .fields import finite_number, shown, truth_value
from .own_audio import ready_audio


def ready_voice(voice: VoiceCondition | None) -> tuple[VoiceCondition | None, tuple[str, ...]]:
    """A request's voice as the model takes it, and what was done to it: more than two channels are mixed down.

    Raises MediaError and RequestError for what is no voice, or not finite.
    """
    if voice is None:
        return None, ()
    if not isinstance(voice, VoiceCondition):
        raise RequestError(f"voice is {shown(voice)}, expected VoiceCondition")
    given: Any = voice
    found: dict[str, Any] = {
        "identity": finite_number(given.identity, "identity of a voice"),
        "keeps_sound": truth_value(given.keeps_sound, "keeps_sound"),
    }
    if (given.sound is None) == (given.latent is None):
        raise RequestError("a voice is a sound or latents of one: give one of them")
    if given.sound is None:
        _check_latent(given.latent)
        return replace(voice, **found), ()
    if not isinstance(given.sound, Waveform):
        raise RequestError(f"sound of a voice is {shown(given.sound)}, expected Waveform")
    sound: Any
    sound, notes = ready_audio(given.sound, "the voice")
    return replace(voice, sound=sound, **found), notes


def _check_latent(latent: Any) -> None:
    if not isinstance(latent, torch.Tensor) or not latent.is_floating_point() or latent.ndim != 4 or not latent.numel():
        found = list(latent.shape) if hasattr(latent, "shape") else shown(latent)
        raise RequestError(f"latents of a voice are {found}, expected a float tensor [batch, 8, latents, 16]")
    if not torch.isfinite(latent).all():
        raise RequestError("latents of a voice hold NaN or infinity: what made them failed, make them anew")
