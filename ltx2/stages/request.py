"""What is asked for, checked before anything is loaded: size, length, pictures, sound, prompt."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from .. import clock
from ..errors import Ltx2Warning, RequestError
from ..sampling.noise import SEEDS
from ..values import AudioCondition, ClipCondition, ImageCondition, LatentCondition, TextContext, Waveform
from .presets import Preset, Settings

# Above this the models have seen no video.
FASTEST_TRAINED = 60


@dataclass(frozen=True)
class Request:
    """One segment to make. What is None comes from the checkpoint or the preset.

    width, height: pixels; frames or seconds: length (seconds are taken to the nearest possible count); fps: see
    clock.parse_fps. seed: of the first sample, sample i uses seed + i. snap: sizes and frame counts that the models
    cannot take are taken to the nearest ones, and the result says so, instead of being refused.
    audio: a Waveform is heard as it is, and the picture made to go with it; an AudioCondition holds known latents.
    latents: known video latents at the first stage's size and at the second's (or None). audio_latents: exact length of
    the sound's latent; None takes it from the frames by ``audio_rule``; 0 makes a silent film. positive, negative:
    contexts encoded before, in place of prompts. overrides: by stage and name (presets.resolve).
    """

    prompt: str = ""
    negative_prompt: str | None = None
    preset: str | None = None
    preset_version: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    seconds: float | Fraction | None = None
    fps: Any = None
    seed: int | None = None
    batch_size: int = 1
    snap: bool = False
    images: tuple[ImageCondition, ...] = ()
    clips: tuple[ClipCondition, ...] = ()
    latents: tuple[LatentCondition, LatentCondition | None] | None = None
    audio: AudioCondition | Waveform | None = None
    audio_latents: int | None = None
    audio_rule: str = "ceil"
    video_offset_seconds: float | Fraction = 0
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    positive: TextContext | None = None
    negative: TextContext | None = None


@dataclass(frozen=True)
class Geometry:
    """Size and length of a clip, and where it stands in time. audio_latents 0 means no sound."""

    width: int
    height: int
    frames: int
    fps: Fraction
    audio_latents: int
    video_offset_seconds: Fraction = Fraction(0)

    @property
    def latent_frames(self) -> int:
        return clock.latent_frames(self.frames)

    @property
    def video_tokens(self) -> int:
        return self.latent_frames * clock.latent_size(self.height) * clock.latent_size(self.width)

    @property
    def seconds(self) -> Fraction:
        return clock.seconds_of_frames(self.frames, self.fps)

    def half(self) -> "Geometry":
        """The first stage's size when a second one doubles it."""
        return replace(self, width=self.width // 2, height=self.height // 2)

    def __str__(self) -> str:
        return (
            f"{self.width}x{self.height}, {self.frames} frames at {float(self.fps):g} fps ({float(self.seconds):.2f} s)"
        )


def size_for(aspect: Fraction, pixels: int, multiple: int = clock.PIXELS_PER_LATENT) -> tuple[int, int]:
    """Width and height of about so many pixels in all, both multiples of ``multiple``, as near to the aspect as that
    allows."""
    near = clock.snap_size(max(1, round((float(aspect) * pixels) ** 0.5)), multiple)
    widths = (near - multiple, near, near + multiple)
    sizes = [(width, clock.snap_size(max(1, round(width / aspect)), multiple)) for width in widths if width > 0]

    def off(size: tuple[int, int]) -> float:
        """How far from the shape, which counts more, and from the area."""
        return 4 * abs(math.log(size[0] / size[1] / aspect)) + abs(math.log(size[0] * size[1] / pixels))

    return min(sizes, key=off)


def check_request(request: Request, preset: Preset, settings: Settings) -> tuple[Geometry, tuple[str, ...]]:
    """The clip that a request means, and what was adjusted to get there.

    Raises RequestError for what cannot be made; warns (Ltx2Warning) of what the models were not trained for.
    """
    _check_texts(request, settings)
    if request.batch_size < 1:
        raise RequestError(f"{request.batch_size} samples, expected 1 or more")
    if request.seed is not None and (not isinstance(request.seed, int) or not 0 <= request.seed < SEEDS):
        raise RequestError(f"seed is {request.seed!r}, expected a whole number from 0 to 2^64 - 1")
    notes: list[str] = []
    fps = clock.parse_fps(preset.fps if request.fps is None else request.fps)
    frames = _frames(request, preset, fps, notes)
    width, height = _size(request, preset, settings, notes)
    audio_latents = request.audio_latents
    if audio_latents is None:
        audio_latents = clock.audio_latents(frames, fps, request.audio_rule)
    if audio_latents < 0:
        raise RequestError(f"{audio_latents} audio latents, expected 0 (no sound) or more")
    if request.audio is not None and not audio_latents:
        raise RequestError("a sound was given for a silent film: leave audio_latents out")
    offset = clock.exact_seconds(request.video_offset_seconds)
    if offset < 0:
        raise RequestError(f"video position offset is {float(offset):g} s, expected 0 or more")
    geometry = Geometry(width, height, frames, fps, audio_latents, offset)
    _check_conditions(request, geometry, settings)
    end = max(offset + geometry.seconds, clock.audio_latent_span(max(audio_latents, 1) - 1)[1])
    if end > clock.WINDOW_SECONDS:
        warnings.warn(
            (
                f"the clip reaches {float(end):.2f} s, the models were trained up to {clock.WINDOW_SECONDS} s: make it "
                "in segments"
            ),
            Ltx2Warning,
            stacklevel=2,
        )
    if fps > FASTEST_TRAINED:
        warnings.warn(
            f"{float(fps):g} frames per second, the models were trained up to {FASTEST_TRAINED}",
            Ltx2Warning,
            stacklevel=2,
        )
    return geometry, tuple(notes)


def _check_texts(request: Request, settings: Settings) -> None:
    if request.positive is None and not (isinstance(request.prompt, str) and request.prompt.strip()):
        raise RequestError("the prompt is empty: say what is seen and heard")


def _frames(request: Request, preset: Preset, fps: Fraction, notes: list[str]) -> int:
    if request.frames is not None and request.seconds is not None:
        raise RequestError(
            f"both {request.frames} frames and {float(request.seconds):g} s were asked for: give one of them"
        )
    if request.seconds is not None:
        seconds = clock.exact_seconds(request.seconds)
        if seconds <= 0:
            raise RequestError(f"length is {float(seconds):g} s, expected more than 0")
        frames = clock.snap_frames(clock.frames_for_seconds(seconds, fps))
        made = clock.seconds_of_frames(frames, fps)
        if made != seconds:
            notes.append(f"{float(seconds):g} s became {frames} frames, {float(made):.3f} s")
        return frames
    frames = preset.frames if request.frames is None else request.frames
    if not isinstance(frames, int) or frames < 1:
        raise RequestError(f"{frames!r} frames, expected a whole number from 1")
    if not clock.is_valid_frame_count(frames):
        if not request.snap:
            clock.latent_frames(frames)  # says which counts are possible
        snapped = clock.snap_frames(frames)
        notes.append(f"{frames} frames became {snapped}")
        frames = snapped
    return frames


def _size(request: Request, preset: Preset, settings: Settings, notes: list[str]) -> tuple[int, int]:
    if (request.width is None) != (request.height is None):
        raise RequestError(f"size is {request.width}x{request.height}, expected both sides or neither")
    width, height = (preset.width, preset.height) if request.width is None else (request.width, request.height)
    # the first of two stages works at half size
    multiple = clock.PIXELS_PER_LATENT * (2 if settings.refine is not None else 1)
    near = tuple(
        clock.snap_size(side, multiple) if isinstance(side, int) and side > 0 else 0 for side in (width, height)
    )
    if 0 in near:
        raise RequestError(f"size is {width}x{height}, expected two whole numbers of pixels")
    if near != (width, height):
        if not request.snap:
            two = " for two stages" if settings.refine is not None else ""
            raise RequestError(
                f"size is {width}x{height}, expected multiples of {multiple}{two}: use {near[0]}x{near[1]}, or turn "
                "snapping on"
            )
        notes.append(f"{width}x{height} became {near[0]}x{near[1]}")
    return near


def _check_conditions(request: Request, geometry: Geometry, settings: Settings) -> None:
    """Places and strengths of everything known, before a model is loaded for it."""
    for name, conditions in (("image", request.images), ("clip", request.clips)):
        for condition in conditions:
            if not isinstance(condition.frame, int) or not 0 <= condition.frame < geometry.frames:
                raise RequestError(
                    f"{name} condition is at frame {condition.frame}, the clip has frames 0 to {geometry.frames - 1}"
                )
            if not 0 <= condition.strength <= 1:
                raise RequestError(
                    f"{name} condition has strength {condition.strength:g}, expected 0 (no effect) to 1 (kept exactly)"
                )
    for clip in request.clips:
        count = len(clip.frames)
        if not clock.is_valid_frame_count(count):
            below = clock.snap_frames(max(count, 1), "down")
            raise RequestError(f"a clip condition has {count} pictures, expected 8k+1 such as {below} or {below + 8}")
        if clip.frame + count > geometry.frames:
            end = clip.frame + count - 1
            raise RequestError(
                f"a clip condition covers frames {clip.frame} to {end}, the clip has frames 0 to {geometry.frames - 1}"
            )
    if request.latents is not None and settings.refine is not None and request.latents[1] is None:
        raise RequestError("known video latents are given for the first stage only: give those of the second stage too")
    if isinstance(request.audio, AudioCondition):
        known, total = request.audio.latent.shape[2], geometry.audio_latents
        if not request.audio.frozen and known > total:
            raise RequestError(
                f"{known} audio latents are known, the clip has {total}: make the clip longer or keep fewer"
            )
