"""The pack's own socket types and the frozen values that travel through them. Nobody writes into a value that was
handed on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from ..ltx2.checkpoint.stage_loras import LoraChoice
from ..ltx2.continuation import LTX2ContinuationState
from ..ltx2.errors import MediaError, RequestError
from ..ltx2.film import Handoff, SegmentTiming, Source
from ..ltx2.film.drift import DriftControl, DriftReference
from ..ltx2.film.timeline import check_overlap
from ..ltx2.media.sound_reader import check_finite
from ..ltx2.resampling import check_rate
from ..ltx2.stages.request import Geometry, Request
from ..ltx2.text.source import TextSource
from ..ltx2.values import (
    AudioCondition,
    AVLatent,
    ChannelStatistics,
    ClipCondition,
    ImageCondition,
    ReferenceCondition,
    TextContext,
    VoiceCondition,
    Waveform,
)
from . import host

Model = host.io.Custom("LTX2_MODEL")
TextEncoder = host.io.Custom("LTX2_TEXT_ENCODER")
VideoVae = host.io.Custom("LTX2_VIDEO_VAE")
AudioVae = host.io.Custom("LTX2_AUDIO_VAE")
Upsampler = host.io.Custom("LTX2_UPSAMPLER")
# the host's own upsampler loader fits too
AnyUpsampler = host.io.Custom("LTX2_UPSAMPLER,LATENT_UPSCALE_MODEL")
# all of them on one wire
Bundle = host.io.Custom("LTX2_CONTINUUM_MODELS")
# where the host's own may be plugged in, to be told what to connect instead
AnyModel = host.io.Custom("LTX2_MODEL,MODEL")
AnyTextEncoder = host.io.Custom("LTX2_TEXT_ENCODER,CLIP")
AnyVideoVae = host.io.Custom("LTX2_VIDEO_VAE,VAE")
AnyAudioVae = host.io.Custom("LTX2_AUDIO_VAE,VAE")
Context = host.io.Custom("LTX2_TEXT_CONTEXT")
Latent = host.io.Custom("LTX2_LATENT")
Conditions = host.io.Custom("LTX2_CONDITIONS")
Preset = host.io.Custom("LTX2_PRESET")
Guidance = host.io.Custom("LTX2_GUIDANCE")
Drift = host.io.Custom("LTX2_DRIFT")
State = host.io.Custom("LTX2_CONTINUATION_STATE")
Segment = host.io.Custom("LTX2_SEGMENT")
# a film of the host's, or a segment that becomes one
Film = host.io.Custom("VIDEO,LTX2_SEGMENT")


@dataclass(frozen=True)
class ModelValue:
    """A transformer in the host's hands. ``patcher`` is how the host finds it; version: of the release, such as (2, 3).

    dtype: it computes in; files: it was read from; loras: that are on it, with strengths; distilled_lora: the one that
    stages of few steps put on a dev model; stage_loras: that one stage alone runs with. text_loras: those of them that also change networks of the text; notes: what the
    user has to know of them.
    """

    patcher: Any
    dtype: torch.dtype
    version: tuple[int, ...]
    files: tuple[Path, ...]
    name: str
    loras: tuple[tuple[Path, float], ...] = ()
    distilled_lora: Path | None = None
    text_loras: tuple[tuple[Path, float], ...] = ()
    notes: tuple[str, ...] = ()
    stage_loras: tuple[LoraChoice, ...] = ()

    @property
    def lora_files(self) -> tuple[Path, ...]:
        """Every LoRA's file once."""
        paths = (*(path for path, _ in self.loras), *(Path(one.path) for one in self.stage_loras))
        return tuple(dict.fromkeys(paths))

    @property
    def names(self) -> tuple[str, ...]:
        """File names that may tell a distilled model from another."""
        return tuple(path.name for path in (*self.files, *(lora for lora, _ in self.loras)))

    def __str__(self) -> str:
        added = "".join(f" + {path.stem} × {strength:g}" for path, strength in self.loras)
        for one in self.stage_loras:
            added += f" + {Path(one.path).stem} × {one.strength:g} in stage {one.stage}"
        return f"LTX-{'.'.join(map(str, self.version[:2]))} {self.name}{added}"


@dataclass(frozen=True)
class TextEncoderValue:
    """Language model, text projection and connectors in the host's hands; ``encoder`` knows the tokenizer and the
    language model. They stay in their files until a prompt is new.

    source: gives them. identity: changes with the files and weights; contexts: what cached contexts of theirs are known
    by; version: of the model that it was loaded for; loras: those that were on that model.
    """

    source: TextSource
    identity: str
    contexts: str
    version: tuple[int, ...]
    name: str
    loras: tuple[tuple[Path, float], ...] = ()

    @property
    def patcher(self) -> Any:
        """The language model's patcher, which the host looks for at every value; None while it is not loaded."""
        return self.source["patcher"] if self.source.is_loaded else None

    @property
    def projection(self) -> Any:
        return self.source["projection"]

    @property
    def connectors(self) -> tuple[Any, Any]:
        return self.source["connectors"]

    @property
    def encoder(self) -> Any:
        return self.source["encoder"]

    def get_models(self) -> list:
        return [self.patcher, self.projection, *self.connectors] if self.source.is_loaded else []

    def __str__(self) -> str:
        return f"text encoder {self.name}"


@dataclass(frozen=True)
class VideoVaeValue:
    """Video encoder and decoder (convolutional or diffusion); either may be missing from a file, and ``missing`` says
    what to load.

    first_space: its latents are those of LTX-2.0, not of later releases; None: unknown.
    """

    encoder: Any
    decoder: Any
    name: str
    first_space: bool | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def get_models(self) -> list:
        return [one for one in (self.encoder, self.decoder) if one is not None]

    def __str__(self) -> str:
        return f"video VAE {self.name}"


@dataclass(frozen=True)
class AudioVaeValue:
    """Audio encoder, decoder and vocoder, any of which may be missing; sample_rate: of the vocoder."""

    encoder: Any
    decoder: Any
    vocoder: Any
    sample_rate: int | None
    name: str
    missing: Mapping[str, str] = field(default_factory=dict)

    def get_models(self) -> list:
        return [one for one in (self.encoder, self.decoder, self.vocoder) if one is not None]

    def __str__(self) -> str:
        return f"audio VAE {self.name}" + (f", {self.sample_rate} Hz" if self.sample_rate else "")


@dataclass(frozen=True)
class UpsamplerValue:
    patcher: Any
    name: str

    def __str__(self) -> str:
        return f"latent upsampler {self.name}"


@dataclass(frozen=True)
class ModelsValue:
    """All that a film is made with, on one wire; what is None was not given."""

    model: ModelValue | None = None
    text_encoder: TextEncoderValue | None = None
    video_vae: VideoVaeValue | None = None
    audio_vae: AudioVaeValue | None = None
    upsampler: UpsamplerValue | None = None
    temporal_upsampler: UpsamplerValue | None = None

    @property
    def parts(self) -> dict[str, Any]:
        """What is there, by the name of its input."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def get_models(self) -> list:
        found: list = []
        for value in self.parts.values():
            found += value.get_models() if hasattr(value, "get_models") else [value.patcher]
        return found

    def __str__(self) -> str:
        return f"models: {', '.join(map(str, self.parts.values())) or 'none'}"


@dataclass(frozen=True)
class ContextValue:
    """An encoded prompt, and the version of the model that it was encoded for, with the LoRAs that were on it. notes:
    what of the prompt is not read."""

    context: TextContext
    version: tuple[int, ...]
    loras: tuple[tuple[Path, float], ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.context} for LTX-{'.'.join(map(str, self.version[:2]))}"


@dataclass(frozen=True)
class ConditionsValue:
    """All that a clip starts from.

    audio: own sound for the whole clip. voice: that people speak with. slots: keyframes made beside it, how many or at
    which frames. state: the clip continues it; handoff: how.
    """

    images: tuple[ImageCondition, ...] = ()
    clips: tuple[ClipCondition, ...] = ()
    references: tuple[ReferenceCondition, ...] = ()
    audio: Waveform | None = None
    state: LTX2ContinuationState | None = None
    handoff: Handoff = Handoff()
    voice: VoiceCondition | None = None
    slots: int | tuple[int, ...] = 0

    def __str__(self) -> str:
        parts = [f"{len(self.images)} images", f"{len(self.clips)} clips"]
        parts += [f"{len(self.references)} references"] if self.references else []
        parts += ["own sound"] if self.audio is not None else []
        parts += ["a voice"] if self.voice is not None else []
        parts += ["keyframe slots"] if self.slots else []
        parts += [str(self.state)] if self.state is not None else []
        return f"conditions: {', '.join(parts)}"


@dataclass(frozen=True)
class PresetValue:
    """A preset by name (None: by the checkpoint's name) and what is to differ from it, by stage and setting."""

    name: str | None = None
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        changed = [
            f"{stage}.{name}={value}" for stage, given in self.overrides.items() for name, value in given.items()
        ]
        return f"preset {self.name or 'by the checkpoint'}{''.join(f', {one}' for one in changed)}"


@dataclass(frozen=True)
class GuidanceValue:
    """Settings of guidance for the stage that they are connected to, by name."""

    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"guidance: {', '.join(f'{name} {value}' for name, value in self.settings.items())}"


# what has been done with a clip's latent
EMPTY, HALF, UPSAMPLED, FINISHED = "empty", "denoised at half size", "enlarged", "finished"


@dataclass(frozen=True)
class LatentValue:
    """One clip on its way through the stages.

    request: what is asked for, conditions included, resolved for this clip; timing: its place in the film; geometry: its
    final size, length and place in time. latent: where the host keeps results, None before denoising; stage: what has
    been done with it. rng_state: of the generator that the next step draws on from. sound: to start from, as latents.
    source: what it was made with; version: of that model; before: what the state was made with that it continues.
    notes: what was adjusted. half: of an enlarged clip the picture before. rounds: how often its frame rate was
    doubled, after which the geometry is what it became and the timing what it was. drift: what is done against it;
    drift_reference: what the scene is held to, and latent_reference: what its latents are from now on.
    """

    request: Request
    timing: SegmentTiming
    geometry: Geometry
    latent: AVLatent | None = None
    stage: str = EMPTY
    rng_state: torch.Tensor | None = None
    sound: AudioCondition | None = None
    source: Source = Source()
    version: tuple[int, ...] = ()
    before: Source = Source()
    notes: tuple[str, ...] = ()
    rounds: int = 0
    half: torch.Tensor | None = None
    drift: DriftControl | None = None
    drift_reference: DriftReference | None = None
    latent_reference: ChannelStatistics | None = None

    @property
    def seed(self) -> int | None:
        """The seed this very clip ran with."""
        return self.request.seed

    def __str__(self) -> str:
        return f"clip: {self.geometry}, {self.stage}{''.join(f'; {note}' for note in self.notes)}"


@dataclass(frozen=True)
class SegmentValue:
    """A finished segment: frames [N, H, W, 3] in 0…1, its sound, and its place in the film."""

    frames: torch.Tensor
    waveform: Waveform | None
    timing: SegmentTiming

    def __str__(self) -> str:
        return str(self.timing)


def audio_value(waveform: Waveform | None) -> dict | None:
    """The host's AUDIO: waveform [1, C, N], a tensor of its own, since a track of one's own is another node's value."""
    if waveform is None:
        return None
    samples = waveform.samples[None].to("cpu", torch.float32, copy=True)
    return {"waveform": samples, "sample_rate": waveform.sample_rate}


def picture_of(image: torch.Tensor) -> torch.Tensor:
    """The first picture [H, W, 3] of the host's IMAGE. Raises RequestError when there is none."""
    if not len(image):
        raise RequestError("the image input holds no picture: connect a node that gives at least one")
    return image[0, ..., :3]


def waveform_of(audio: dict | None) -> Waveform | None:
    """From the host's AUDIO, of a batch the first. Raises MediaError for what is no sound, or not finite."""
    if audio is None:
        return None
    samples = audio.get("waveform") if isinstance(audio, dict) else None
    if not isinstance(samples, torch.Tensor) or samples.ndim != 3 or not samples.numel():
        raise MediaError("the audio input holds no sound: connect a node that gives at least one sample")
    sound = Waveform(samples[0].float(), audio.get("sample_rate"))
    check_rate(sound.sample_rate)
    check_finite(sound, "the audio input")
    return sound


MOST_CARRIED = 249  # frames


def overlap_error(video_overlap: int | None) -> str:
    """What is wrong with a number of carried frames, "" where nothing is or it is not known yet: asked by the host
    before anything runs."""
    if video_overlap is None:
        return ""
    if not 0 < video_overlap <= MOST_CARRIED:
        return f"video overlap is {video_overlap} frames, expected 1 to {MOST_CARRIED}"
    try:
        check_overlap(video_overlap)
    except RequestError as error:
        return str(error)
    return ""
