"""A part of a film made anew: which frames and sounds, what the model gets to see of the film around them, and the film
with that part put in, everything else as it was."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch

from ..clock import (
    WINDOW_SECONDS,
    audio_latent_span,
    audio_latents_for,
    latent_frame_of,
    latent_frame_span,
    samples_of_seconds,
    seconds_of_frames,
    snap_frames,
)
from ..errors import MediaError, RequestError
from ..media import uint8_frames
from ..media.found.film_extension import restored
from ..values import Waveform
from .timeline import CROSSFADE_SECONDS

# of sound after a window, so that it does not break off where the encoder listens
BEYOND_SECONDS = Fraction(1, 10)
MARGIN_SECONDS = 4  # of a long film, that the model sees before and after the part
_FEATHER_PIXELS = 16


@dataclass(frozen=True)
class FilmShape:
    """A film in numbers. sample_rate 0: it has no sound."""

    name: str
    width: int
    height: int
    fps: Fraction
    frames: int
    sample_rate: int = 0

    @property
    def seconds(self) -> Fraction:
        """How long its picture is shown."""
        return seconds_of_frames(self.frames, self.fps)


class Film(Protocol):
    """A film that a part of is made anew: in a file, or in memory."""

    shape: FilmShape

    def frames(self, start: int, count: int) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 in order."""

    def sound(self, start: Fraction, seconds: Fraction) -> Iterator[Waveform]:
        """Pieces of its sound; silence where it has none."""

    def mask(self, start: int, count: int) -> Iterator[np.ndarray] | None:
        """What of each frame is made anew, [H, W] float32 in 0…1; None: all of it."""


@dataclass(frozen=True)
class Part:
    """What is to be made anew: from, to in seconds (None: the film's ends), and whether picture and sound are."""

    start: Fraction | None = None
    end: Fraction | None = None
    picture: bool = True
    sound: bool = True


@dataclass(frozen=True)
class Window:
    """What the model sees of a film, and what is made anew of it.

    first, frames: film frames, 8k+1; those after the film's end repeat its last one. changed: film frames [from, to)
    that are made anew, none where both are equal. audio_latents: of the window, 0 where there is no sound.
    changed_latents: [from, to) of them.
    """

    film: FilmShape
    first: int
    frames: int
    changed: tuple[int, int]
    audio_latents: int
    changed_latents: tuple[int, int]

    @property
    def start(self) -> Fraction:
        """Seconds on the film's clock at which the window begins."""
        return seconds_of_frames(self.first, self.film.fps)

    @property
    def picture(self) -> bool:
        """Whether any frame is made anew."""
        return self.changed[1] > self.changed[0]

    @property
    def heard(self) -> tuple[Fraction, Fraction] | None:
        """Seconds on the film's clock [from, to) whose sound is made anew."""
        first, last = self.changed_latents
        if last <= first:
            return None
        begin, end = audio_latent_span(first)[0], audio_latent_span(last - 1)[1]
        return self.start + begin, min(self.start + end, self.film.seconds)

    def frame_mask(self) -> torch.Tensor:
        """Float [N, 1, 1] of the window's frames: 1 is made anew."""
        mask = torch.zeros(self.frames, 1, 1)
        mask[max(0, self.changed[0] - self.first) : max(0, self.changed[1] - self.first)] = 1
        if self.picture and self.changed[1] == self.film.frames:
            mask[self.changed[1] - self.first :] = 1
        return mask

    def latent_mask(self) -> torch.Tensor:
        """Float [audio_latents]: 1 is made anew."""
        mask = torch.zeros(self.audio_latents)
        mask[self.changed_latents[0] : self.changed_latents[1]] = 1
        return mask

    def __str__(self) -> str:
        parts = []
        if self.picture:
            begin, end = (float(seconds_of_frames(at, self.film.fps)) for at in self.changed)
            parts.append(f"frames {self.changed[0]} to {self.changed[1] - 1} ({begin:.2f} to {end:.2f} s)")
        if self.heard is not None:
            parts.append(f"sound from {float(self.heard[0]):.2f} to {float(self.heard[1]):.2f} s")
        return f"made anew: {' and '.join(parts)}"


def window_of(film: FilmShape, part: Part) -> Window:
    """Where a part of a film lies, grown to whole latents, and the window around it: the whole film where it is no
    longer than the model knows, else MARGIN_SECONDS more on both sides. Raises RequestError for a part that is outside
    the film, or too long, or a sound that is not there."""
    start = Fraction(0) if part.start is None else part.start
    end = film.seconds if part.end is None else part.end
    _check_within(film, start, end)
    if not (part.picture or part.sound):
        raise RequestError("neither picture nor sound is to be made anew: ask for one of them")
    if part.sound and not part.picture and not film.sample_rate:
        raise RequestError(f"{film.name} has no sound that could be made anew: ask for the picture")
    first = int(start * film.fps)
    last = min(film.frames, -(-end * film.fps // 1))
    most = snap_frames(int(WINDOW_SECONDS * film.fps), "down")
    begin, count = _around(film, first, int(last), most)
    latents = audio_latents_for(seconds_of_frames(count, film.fps), "cover") if film.sample_rate else 0
    zero = seconds_of_frames(begin, film.fps)
    changed = (0, 0)
    if part.picture:
        spans = (
            latent_frame_span(latent_frame_of(first - begin)),
            latent_frame_span(latent_frame_of(int(last) - 1 - begin)),
        )
        changed = begin + spans[0][0], min(film.frames, begin + spans[1][1])
    heard = (0, 0)
    if part.sound and latents:
        touched = [k for k in range(latents) if _overlaps(audio_latent_span(k), (start - zero, end - zero))]
        heard = touched[0], touched[-1] + 1 if end < film.seconds else latents
    return Window(film, begin, count, changed, latents, heard)


def _check_within(film: FilmShape, start: Fraction, end: Fraction) -> None:
    """Raises RequestError for a part that is not within the film, with the time to change."""
    lasts = film.seconds
    most = f"{math.floor(lasts * 100) / 100:.2f}"  # down, so that what is named is within
    if not 0 <= start < lasts:
        fix = f"begin at 0 or later, before {most} s"
    elif end > lasts + Fraction(1, 1000):
        fix = f"end at {most} s at the latest"
    elif end <= start:
        fix = f"end after {float(start):g} s, at {most} s at the latest"
    else:
        return
    raise RequestError(
        f"{float(start):g} to {float(end):g} s are to be made anew, {film.name} lasts {float(lasts):.2f} s: {fix}"
    )


def _overlaps(span: tuple[Fraction, Fraction], part: tuple[Fraction, Fraction]) -> bool:
    return span[1] > part[0] and span[0] < part[1]


def _around(film: FilmShape, first: int, last: int, most: int) -> tuple[int, int]:
    """First frame and length, 8k+1, of the window around frames [first, last)."""
    if film.frames <= most:
        return 0, snap_frames(film.frames, "up")
    if last - first > most - 16:
        raise RequestError(
            f"{float(seconds_of_frames(last - first, film.fps)):.1f} s are to be made anew at once, the models know "
            f"{WINDOW_SECONDS} s with what is around: do it in parts"
        )
    margin = min(int(MARGIN_SECONDS * film.fps), (most - (last - first)) // 2)
    begin = max(0, first - margin)
    count = min(most, snap_frames(min(film.frames, last + margin) - begin, "up"))
    return min(begin, film.frames - count), count


def window_frames(film: Film, window: Window) -> Iterator[np.ndarray]:
    """The film's frames that the window shows."""
    have = min(window.frames, window.film.frames - window.first)
    picture = None
    for picture in film.frames(window.first, have):
        yield picture
    for _ in range(window.frames - have):
        assert picture is not None
        yield picture


def window_sound(film: Film, window: Window, seconds: Fraction) -> Waveform:
    """The film's sound from where the window begins."""
    pieces = list(film.sound(window.start, seconds))
    return Waveform(torch.cat([piece.samples for piece in pieces], dim=1), pieces[0].sample_rate)


# --- the film with the part put in ------------------------------------------------------------------------------------


def retaken_frames(film: Film, window: Window, new: Iterable[np.ndarray], start: int = 0) -> Iterator[np.ndarray]:
    """The film's frames [H, W, 3] uint8 from ``start`` on, with those of the window that were made anew.

    new: all frames of the window in chunks of any of the layouts of media.uint8_frames. What lies outside the mask
    stays as it is.
    """
    made = (frame for chunk in new for frame in uint8_frames(chunk))
    at = window.first
    masks = film.mask(start, window.film.frames - start)
    for index, frame in enumerate(film.frames(start, window.film.frames - start), start):
        mask = None if masks is None else next(masks)
        if not window.changed[0] <= index < window.changed[1]:
            yield frame
            continue
        picture = None
        while at <= index:
            picture = next(made, None)
            at += 1
        if picture is None:
            raise MediaError(f"the part that was made anew ends at frame {at - 1}, expected {window.changed[1] - 1}")
        picture = restored(picture, window.film.height, window.film.width)
        yield picture if mask is None else blended(frame, picture, mask)


def blended(old: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The new picture inside a mask [H, W] in 0…1, the old one outside bit for bit; over the inner edge of the mask the
    one goes over into the other."""
    inside = torch.from_numpy(np.ascontiguousarray(mask, np.float32))
    area = float((inside > 0.5).float().mean()) * inside.numel()
    radius = int(max(1, min(_FEATHER_PIXELS, area**0.5 / 8)))
    padded = torch.nn.functional.pad(inside[None, None], (radius,) * 4, mode="replicate")
    around = torch.nn.functional.avg_pool2d(padded, 2 * radius + 1, 1)[0, 0]
    # half of what is around a point of a straight edge lies inside
    share = ((2 * around - 1).clamp(0, 1) * (inside > 0)).numpy()[..., None]
    mixed = old.astype(np.float32) * (1 - share) + new.astype(np.float32) * share
    return np.where(share > 0, np.rint(mixed), old).astype(np.uint8)


def retaken_sound(film: Film, window: Window, new: Waveform) -> Iterator[Waveform]:
    """The film's sound from where the first new sample is, to its end. new: of the window, at the film's rate and with
    its channels; 40 ms at both ends go over into the old sound."""
    assert window.heard is not None
    begin, end = window.heard
    rate = new.sample_rate
    first, last = samples_of_seconds(begin, rate), samples_of_seconds(end, rate)
    offset = samples_of_seconds(window.start, rate)
    old = torch.cat([piece.samples for piece in film.sound(begin, end - begin)], dim=1)
    fresh = new.samples.float()[:, first - offset : last - offset]
    if fresh.shape[1] < old.shape[1]:
        fresh = torch.nn.functional.pad(fresh, (0, old.shape[1] - fresh.shape[1]))
    fade = min(samples_of_seconds(CROSSFADE_SECONDS, rate), old.shape[1] // 2)
    rise = (torch.arange(fade, dtype=torch.float32) + 0.5) / max(fade, 1)
    mixed = fresh[:, : old.shape[1]].clone()
    if begin > 0:
        mixed[:, :fade] = mixed_level(old[:, :fade], mixed[:, :fade], rise)
    if end < window.film.seconds:
        mixed[:, -fade:] = mixed_level(mixed[:, -fade:], old[:, -fade:], rise)
    yield Waveform(mixed, rate)
    if end < window.film.seconds:
        yield from film.sound(end, window.film.seconds - end)


def fade_gain(before: torch.Tensor, after: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
    """What a crossfade of two sounds [C, n] is to be multiplied with to keep its level.

    A sound that went through a model's latents is the same to the ear and not in its waves: half of one and half of the
    other add up to less than either, the less the less they correlate. 1 for two equal sounds.
    """
    power = float((before.square().sum() * after.square().sum()).sqrt())
    alike = max(_LEAST_ALIKE, float((before * after).sum()) / power) if power > 0 else 1.0
    return (rise.square() + (1 - rise).square() + 2 * alike * rise * (1 - rise)).rsqrt()


_LEAST_ALIKE = -0.5  # what cancels out cannot be made up for by gain


def mixed_level(before: torch.Tensor, after: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
    """One sound [C, n] going over into another without getting quieter."""
    return (before * (1 - rise) + after * rise) * fade_gain(before, after, rise)
