"""Size and length of a clip, and what is asked for brought to what the models take."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from .. import clock
from ..errors import RequestError

# Above these nobody means what is said, and no release can do it: refused everywhere, before anything is computed.
LARGEST_SIDE = 8192  # pixels
LONGEST_CLIP = 3 * clock.WINDOW_SECONDS
LONGEST_SOUND = 3600  # seconds, of a sound without a picture to be made


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
        """Frames of the video latent."""
        return clock.latent_frames(self.frames)

    @property
    def video_tokens(self) -> int:
        """Tokens of the video latent; 0 where there is no picture."""
        return self.latent_frames * math.prod(self.latent_size)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of the video latent; 0 each where there is no picture."""
        if not self.width:
            return 0, 0
        return clock.latent_size(self.height), clock.latent_size(self.width)

    @property
    def seconds(self) -> Fraction:
        """How long the clip is shown."""
        return clock.seconds_of_frames(self.frames, self.fps)

    def doubled(self, rounds: int) -> "Geometry":
        """The same clip at twice the frame rate, so many times over."""
        return replace(self, frames=((self.frames - 1) << rounds) + 1, fps=self.fps * (1 << rounds))

    def half(self) -> "Geometry":
        """The first stage's size when a second one doubles it."""
        return replace(self, width=self.width // 2, height=self.height // 2)

    def __str__(self) -> str:
        if not self.width:
            return f"{float(self.seconds):.2f} s of sound"
        return (
            f"{self.width}x{self.height}, {self.frames} frames at {float(self.fps):g} fps ({float(self.seconds):.2f} s)"
        )


@dataclass(frozen=True)
class Multiple:
    """What the sides of a picture must be multiples of, in pixels, and why it is more than a latent needs."""

    pixels: int = clock.PIXELS_PER_LATENT
    why: str = ""


ANY_SIZE = Multiple()


def asked_frames(request: Any, preset: Any, fps: Fraction, notes: list[str]) -> int:
    """Frames of a request, the preset's where it leaves them open; what was adjusted goes to ``notes``. Raises
    RequestError."""
    frames = _frames(request, preset, fps, notes)
    seconds = clock.seconds_of_frames(frames, fps)
    least = clock.seconds_of_frames(frames - clock.FRAMES_PER_LATENT, fps)  # what was said may have been taken up
    if request.sound_only and least > LONGEST_SOUND:
        raise RequestError(
            f"the sound would last {float(seconds):g} s, expected at most {LONGEST_SOUND}: make it in parts"
        )
    if not request.sound_only and least > LONGEST_CLIP:
        raise RequestError(
            f"the clip would last {float(seconds):g} s ({frames} frames at {float(fps):g} fps), expected at most "
            f"{LONGEST_CLIP} s, and the models know {clock.WINDOW_SECONDS} s: make segments that go on from each other"
        )
    return frames


def _frames(request: Any, preset: Any, fps: Fraction, notes: list[str]) -> int:
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
    frames = preset.frames if request.frames is None and preset is not None else request.frames
    if not isinstance(frames, int) or frames < 1:
        raise RequestError(f"{frames!r} frames, expected a whole number from 1")
    if not clock.is_valid_frame_count(frames):
        if not request.snap:
            clock.latent_frames(frames)  # says which counts are possible
        snapped = clock.snap_frames(frames)
        notes.append(f"{frames} frames became {snapped}")
        frames = snapped
    return frames


def asked_size(request: Any, preset: Any, multiple: "Multiple", notes: list[str]) -> tuple[int, int]:
    """Width and height of a request, the preset's where it leaves them open; what was adjusted goes to ``notes``.
    Raises RequestError."""
    width, height = request.width, request.height
    if (width is None) != (height is None):
        given = f"width is {width}, height" if height is None else f"height is {height}, width"
        raise RequestError(f"{given} is left open: give both sides, or neither")
    if width is None and preset is not None:
        width, height = preset.width, preset.height
        if not width:
            raise RequestError(f"preset {preset.name} makes sound alone, pictures are asked for: choose another preset")
    near = tuple(
        clock.snap_size(side, multiple.pixels) if isinstance(side, int) and side > 0 else 0 for side in (width, height)
    )
    if 0 in near:
        raise RequestError(f"size is {width}x{height}, expected two whole numbers of pixels")
    if max(near) > LARGEST_SIDE:
        fit = tuple(max(multiple.pixels, side * LARGEST_SIDE // max(near)) for side in near)
        use = " x ".join(str(clock.snap_size(side, multiple.pixels)) for side in fit).replace(" ", "")
        raise RequestError(f"size is {width}x{height}, expected sides up to {LARGEST_SIDE} pixels: use at most {use}")
    if near != (width, height):
        if not request.snap:
            why = f" for {multiple.why}" if multiple.why else ""
            raise RequestError(
                f"size is {width}x{height}, expected multiples of {multiple.pixels}{why}: use {near[0]}x{near[1]}, or "
                "turn snapping on"
            )
        notes.append(f"{width}x{height} became {near[0]}x{near[1]}")
    return near[0], near[1]


def size_for(aspect: Fraction, pixels: int, multiple: int = clock.PIXELS_PER_LATENT) -> tuple[int, int]:
    """Width and height of about so many pixels in all, both multiples of ``multiple``, as near to the aspect as that
    allows."""
    near = clock.snap_size(max(1, round((float(aspect) * pixels) ** 0.5)), multiple)
    widths = (near - multiple, near, near + multiple)
    sizes = [(width, clock.snap_size(max(1, round(width / aspect)), multiple)) for width in widths if width > 0]

    def size_error(size: tuple[int, int]) -> float:
        """How far from the shape, which counts more, and from the area."""
        return 4 * abs(math.log(size[0] / size[1] / aspect)) + abs(math.log(size[0] * size[1] / pixels))

    return min(sizes, key=size_error)
