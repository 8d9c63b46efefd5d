"""What travels between stages. All frozen; nobody writes into a tensor that was handed on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import torch

# Of latents, in all releases: channels of video; channels and frequency bins of audio.
VIDEO_CHANNELS = 128
AUDIO_CHANNELS, AUDIO_BINS = 8, 16


@dataclass(frozen=True)
class AVLatent:
    """Normalised latents of one segment.

    video: [B, 128, F, H/32, W/32] or None; audio: [B, 8, T, 16] or None. keyframes: [B, 128, K, H/32, W/32] of single
    pictures that were made beside the video, or None.
    """

    video: torch.Tensor | None
    audio: torch.Tensor | None
    keyframes: torch.Tensor | None = None

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "AVLatent":
        """``function`` of each latent that is there."""
        return AVLatent(
            *(None if part is None else function(part) for part in (self.video, self.audio, self.keyframes))
        )

    def to(self, *target: Any) -> "AVLatent":
        """All latents on a device, in a dtype, or both (see ``torch.Tensor.to``)."""
        return self.map(lambda latent: latent.to(*target))

    @property
    def batch_size(self) -> int:
        """How many clips."""
        return len(self.video if self.video is not None else self.audio)

    def __str__(self) -> str:
        shapes = [
            f"{name} {list(t.shape)}" for name, t in (("video", self.video), ("audio", self.audio)) if t is not None
        ]
        return f"AV latent: {', '.join(shapes) or 'empty'}"


@dataclass(frozen=True)
class TextContext:
    """Connector outputs of one prompt: video [B, 1024, Dv], audio [B, 1024, Da] or None."""

    video: torch.Tensor
    audio: torch.Tensor | None

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "TextContext":
        """``function`` of each part that is there."""
        return TextContext(function(self.video), None if self.audio is None else function(self.audio))

    def to(self, *target: Any) -> "TextContext":
        """Both parts on a device, in a dtype, or both (see ``torch.Tensor.to``)."""
        return self.map(lambda part: part.to(*target))

    def __str__(self) -> str:
        return f"text context: {self.video.shape[1]} tokens, video width {self.video.shape[2]}"


@dataclass(frozen=True)
class Waveform:
    """Sound: samples [C, N] float in [-1, 1], and samples per second."""

    samples: torch.Tensor
    sample_rate: int

    @property
    def seconds(self) -> Fraction:
        """Its length, exact."""
        return Fraction(self.samples.shape[-1], self.sample_rate)

    def __str__(self) -> str:
        return f"sound: {float(self.seconds):.2f} s, {self.sample_rate} Hz, {self.samples.shape[0]} channels"


LAST = -1  # place of a picture in a clip whose length is not known yet


@dataclass(frozen=True)
class ImageCondition:
    """A picture to appear at a place in the clip.

    image: RGB uint8 [H, W, 3] (numpy) or float [H, W, 3] in 0…1 (torch); frame: picture frame index, 0 = first, LAST =
    the last; strength: 0…1, 1 keeps it exactly; crf: H.264 round-trip quality, None = the model version's default, 0 =
    off. guide: it is looked at beside the clip, also at frame 0, where others are put in place. attention: 0…1, how
    much the clip looks at it; one below 1 is always a guide.
    """

    image: Any
    frame: int = 0
    strength: float = 1.0
    crf: float | None = None
    guide: bool = False
    attention: float = 1.0


def placed(images: tuple[ImageCondition, ...], frames: int) -> tuple[ImageCondition, ...]:
    """Pictures for a clip of so many frames: the last place by its number."""
    return tuple(replace(one, frame=frames - 1) if one.frame == LAST else one for one in images)


@dataclass(frozen=True)
class ClipCondition:
    """Consecutive pictures that the clip starts from or must contain: 8k+1 of them, or 8k from a frame 8n+1 on, which
    fill latent frames of the clip exactly and are put in place there.

    frames: [N, H, W, 3], uint8 numpy or float torch in 0…1; frame: picture frame index of the first; strength: 0…1.
    mask: float [N, h, w] in 0…1 of any size where only a part is known: 0 keeps, 1 is made anew. frozen: nothing of the
    picture is made at all, and it counts as noiseless throughout. attention: 0…1, how much the clip looks at them;
    below 1 they are not put in place but looked at beside the clip.
    """

    frames: Any
    frame: int = 0
    strength: float = 1.0
    frozen: bool = False
    mask: torch.Tensor | None = None
    attention: float = 1.0


@dataclass(frozen=True)
class ReferenceCondition:
    """Pictures that an IC-LoRA looks at beside the whole clip: a control map, a reference sheet, a film.

    frames: [N, H, W, 3], uint8 numpy or float torch in 0…1, as many as the clip has, or one for all of them; strength:
    0…1, how clean it is shown; attention: 0…1, how much the clip looks at it; mask: torch [N or 1, H, W] of 0…1, the
    same by place; stages: of two, ``first`` or ``both``.
    """

    frames: Any
    strength: float = 1.0
    attention: float = 1.0
    mask: torch.Tensor | None = None
    stages: str = "first"


@dataclass(frozen=True)
class VoiceCondition:
    """How somebody sounds: a voice that an ID-LoRA has the clip's people speak with. Nothing of it is heard itself.

    sound: seconds of speech; identity: how strongly each step goes towards the voice, 0 for no more than hearing it, in
    the first stage. latent: the same sound, encoded already [1, 8, T, 16]. keeps_sound: of two stages the second leaves
    the sound of the first as it is, and that is its voice (a film that is dubbed).
    """

    sound: Waveform | None = None
    identity: float = 3.0
    latent: torch.Tensor | None = None
    keeps_sound: bool = False


@dataclass(frozen=True)
class LatentCondition:
    """Ready video latents [B, 128, F, h, w] placed at a latent frame index; one per stage size."""

    latent: torch.Tensor
    latent_frame: int = 0
    strength: float = 1.0


@dataclass(frozen=True)
class AudioCondition:
    """Audio latents known in advance.

    latent: [B, 8, K, 16] placed from audio latent 0 on; mask: 0 keeps them, 1 generates anew (one value for all K, or
    a float tensor [K]);
    frozen: the whole track is given (own audio): sigma 0 throughout, and ``waveform`` is what is heard in the end.
    gain: how much louder the sound is to be than these latents say; 1 leaves them as they are.
    """

    latent: torch.Tensor
    mask: float | torch.Tensor = 0.0
    frozen: bool = False
    waveform: Waveform | None = None
    gain: float = 1.0


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Mean and standard deviation of each channel of video latents, [C] float32 on the CPU; first_deviation: of the
    scene's first segment, beyond which a moving reference does not grow."""

    mean: torch.Tensor
    deviation: torch.Tensor
    first_deviation: torch.Tensor

    NAMES: ClassVar = ("mean", "deviation", "first_deviation")


@dataclass(frozen=True, eq=False)
class LatentDrift:
    """What is done against drift in the first stage's video latents: a share (0…1) of each channel's difference to a
    reference is taken back. Without a reference they are only measured, to be one."""

    amount: float
    reference: ChannelStatistics | None = None


@dataclass(frozen=True)
class Progress:
    """One report of long work: which stage, done of total, and optionally something to look at."""

    stage: str
    done: int
    total: int
    preview: Any = None
