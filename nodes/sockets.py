"""The pack's own socket types and the frozen values that travel through them. Nobody writes into a value that was handed on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..ltx2.continuation import LTX2ContinuationState, SegmentPlan
from ..ltx2.stages.request import Geometry
from ..ltx2.values import AVLatent, ClipCondition, ImageCondition, Waveform
from . import host

Model = host.io.Custom("LTX2_MODEL")
TextEncoder = host.io.Custom("LTX2_TEXT_ENCODER")
VideoVae = host.io.Custom("LTX2_VIDEO_VAE")
AudioVae = host.io.Custom("LTX2_AUDIO_VAE")
Upsampler = host.io.Custom("LTX2_UPSAMPLER")
# the host's own upsampler loader fits too
AnyUpsampler = host.io.Custom("LTX2_UPSAMPLER,LATENT_UPSCALE_MODEL")
Context = host.io.Custom("LTX2_TEXT_CONTEXT")
Latent = host.io.Custom("LTX2_LATENT")
Conditions = host.io.Custom("LTX2_CONDITIONS")
Preset = host.io.Custom("LTX2_PRESET")
Guidance = host.io.Custom("LTX2_GUIDANCE")
State = host.io.Custom("LTX2_CONTINUATION_STATE")
Segment = host.io.Custom("LTX2_SEGMENT")


@dataclass(frozen=True)
class ModelValue:
    """A transformer in the host's hands. ``patcher`` is how the host finds it; version: of the release, such as (2, 3)."""

    patcher: Any
    dtype: torch.dtype
    version: tuple[int, ...]
    files: tuple[Path, ...]
    name: str
    loras: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        added = "".join(f" + {name} × {strength:g}" for name, strength in self.loras)
        return f"LTX-{'.'.join(map(str, self.version[:2]))} {self.name}{added}"


@dataclass(frozen=True)
class TextEncoderValue:
    """Language model, text projection and connectors; ``encoder`` knows the tokenizer and calls the language model."""

    patcher: Any
    projection: Any
    connectors: tuple[Any, Any]
    encoder: Any
    name: str

    def get_models(self) -> list:
        return [self.patcher, self.projection, *self.connectors]

    def __str__(self) -> str:
        return f"text encoder {self.name}"


@dataclass(frozen=True)
class VideoVaeValue:
    """Video encoder and decoder (convolutional or diffusion); either may be missing from a file."""

    encoder: Any
    decoder: Any
    name: str

    def get_models(self) -> list:
        return [one for one in (self.encoder, self.decoder) if one is not None]

    def __str__(self) -> str:
        return f"video VAE {self.name}"


@dataclass(frozen=True)
class AudioVaeValue:
    """Audio encoder, decoder and vocoder."""

    encoder: Any
    decoder: Any
    vocoder: Any
    sample_rate: int
    name: str

    def get_models(self) -> list:
        return [one for one in (self.encoder, self.decoder, self.vocoder) if one is not None]

    def __str__(self) -> str:
        return f"audio VAE {self.name}, {self.sample_rate} Hz"


@dataclass(frozen=True)
class UpsamplerValue:
    patcher: Any
    name: str

    def __str__(self) -> str:
        return f"latent upsampler {self.name}"


@dataclass(frozen=True)
class ConditionsValue:
    """All that is to be known of a clip in advance.

    state: the clip continues it; strength: of its frames, 0…1, None as the state says; audio: own sound for the whole clip.
    """

    images: tuple[ImageCondition, ...] = ()
    clips: tuple[ClipCondition, ...] = ()
    audio: Waveform | None = None
    state: LTX2ContinuationState | None = None
    strength: float | None = None
    video_overlap: int | None = None
    audio_overlap: int | None = None

    def __str__(self) -> str:
        parts = [f"{len(self.images)} images", f"{len(self.clips)} clips"]
        parts += ["own sound"] if self.audio is not None else []
        parts += [str(self.state)] if self.state is not None else []
        return f"conditions: {', '.join(parts)}"


@dataclass(frozen=True)
class LatentValue:
    """One clip on its way through the stages.

    geometry: its final size, length and place; plan: its place in the film; latent: None before denoising. scale: 2 while the
    latent has half the final width and height, 1 at full size. preset, model: what it was made with. notes: what was adjusted.
    """

    geometry: Geometry
    plan: SegmentPlan
    conditions: ConditionsValue
    seed: int = 0
    latent: AVLatent | None = None
    scale: int = 1
    preset: Any = None
    model: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        stage = "empty" if self.latent is None else "half size" if self.scale == 2 else "finished"
        return f"clip: {self.geometry}, {stage}{''.join(f'; {note}' for note in self.notes)}"


@dataclass(frozen=True)
class SegmentValue:
    """A finished segment: frames [N, H, W, 3] in 0…1, its sound, and its place in the film."""

    frames: torch.Tensor
    waveform: Waveform | None
    plan: SegmentPlan

    def __str__(self) -> str:
        return str(self.plan)


def audio_value(waveform: Waveform | None) -> dict | None:
    """The host's AUDIO: waveform [1, C, N]."""
    return None if waveform is None else {"waveform": waveform.samples[None].float().cpu(), "sample_rate": waveform.sample_rate}


def waveform_of(audio: dict | None) -> Waveform | None:
    """From the host's AUDIO, its first sample."""
    return None if audio is None else Waveform(audio["waveform"][0], int(audio["sample_rate"]))
