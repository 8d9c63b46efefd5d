"""Size and length of a clip."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from .. import clock


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
        if not self.width:
            return 0
        return self.latent_frames * clock.latent_size(self.height) * clock.latent_size(self.width)

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
