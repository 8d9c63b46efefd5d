"""What a story asks of its generator for one segment, and what it gets back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import torch

from ..values import AudioCondition, ChannelStatistics, ClipCondition, ImageCondition, LatentDrift, Waveform
from .script import SegmentScript, StoryImage, StoryReference, StoryScript, StoryVoice


@dataclass(frozen=True)
class SegmentTask:
    """One segment to make, with all that is known in advance.

    clip, audio, video_offset_seconds: what it starts from (None and 0 for a new scene), or its piece of the film's own
    track; audio_latents: the exact length of its sound, None as long as the picture. references: what it follows, from
    ``reference_start`` seconds of them on; voice: what people speak with. keyframe_slots: how many it has.
    double_rate: how often its frame rate is doubled when it is made. anchor, latent_drift: against drift, with all that
    they need of the scene so far. end: the pictures that it leads to; their sound is the end of ``audio``.
    """

    index: int
    prompt: str
    negative: str | None
    frames: int
    fps: Fraction
    width: int | None
    height: int | None
    seed: int
    preset: str | None
    overrides: dict[str, Any]
    images: tuple[StoryImage, ...]
    audio_latents: int | None = None
    clip: ClipCondition | None = None
    audio: AudioCondition | Waveform | None = None
    video_offset_seconds: Fraction = Fraction(0)
    references: tuple[StoryReference, ...] = ()
    double_rate: int = 0
    keyframe_slots: int = 0
    reference_start: Fraction = Fraction(0)
    voice: StoryVoice | None = None
    anchor: ImageCondition | None = None
    latent_drift: LatentDrift | None = None
    end: ClipCondition | None = None


def task_of(script: StoryScript, index: int) -> SegmentTask:
    """What a script says of a segment, as if nothing came before it."""
    segment = script.segments[index]
    return SegmentTask(
        index=index,
        prompt=segment.prompt,
        negative=segment.negative,
        frames=segment.frames,
        fps=script.fps,
        width=script.width,
        height=script.height,
        seed=seed_of(script, segment, index),
        preset=script.preset,
        overrides=dict(script.overrides),
        images=segment.images,
        references=segment.references,
        voice=segment.voice,
        audio=None if script.audio is None else audio_of(script, index),
        double_rate=script.double_rate,
        keyframe_slots=script.keyframe_slots,
        reference_start=script.start_seconds(index) if segment.references else Fraction(0),
    )


def audio_of(script: StoryScript, index: int) -> Waveform:
    """A segment's piece of the film's own track, its repeated frames included. Raises MediaError."""
    assert script.audio is not None  # asked only then
    segment = script.segments[index]
    return script.audio.piece(script.start_seconds(index), segment.frames / script.fps)


@dataclass(frozen=True)
class MadeSegment:
    """What a generator gives back: frames in chunks (see media.uint8_frames), the normalised audio latent [1, 8, T, 16]
    and the decoded sound (both None in a silent film), and what to tell the user. rounds: how often the frame rate of
    the frames was doubled; before: the frames without it, which its state carries. drift_reference: what the latents of
    the segment after are held to, where the task asks for that."""

    frames: Iterable
    audio_latents: torch.Tensor | None
    sound: Waveform | None
    notes: tuple[str, ...] = ()
    rounds: int = 0
    before: Iterable | None = None
    drift_reference: ChannelStatistics | None = None


Generate = Callable[[SegmentTask], MadeSegment]


@runtime_checkable
class Elsewhere(Protocol):
    """A generator that has others do its tasks, several at once. tell: is to be called with a task and the name of who
    begins it."""

    tell: Callable[[SegmentTask, str], None]

    def __call__(self, task: SegmentTask) -> MadeSegment: ...


def seed_of(script: StoryScript, segment: SegmentScript, index: int) -> int:
    """The seed of a segment: its own, else the story's counted up."""
    return script.seed + index if segment.seed is None else segment.seed
