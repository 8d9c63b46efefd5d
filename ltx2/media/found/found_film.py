"""The end of a film that was found, of any size, rate and sound, as a model can go on from it."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
import torch

from ...clock import (
    FASTEST_FPS,
    FRAMES_PER_LATENT,
    PIXELS_PER_LATENT,
    decoded_audio_seconds,
    is_valid_frame_count,
    parse_fps,
    seconds_of_frames,
    snap_frames,
)
from ...errors import MediaError, RequestError
from ...resampling import mix_note, mix_to_stereo
from ...values import Waveform
from ..film_clock import FilmClock, film_clock
from ..frames import uint8_frames
from ..images import cover, cover_geometry
from ..paths import FilePath, opened, shown
from ..sound_reader import channel_names, check_finite, iterate_sound
from ..video_reader import VideoInfo, pictures, video_info, video_stream

CONTEXT_FRAMES = 25  # what a model learns motion and content of a found film from, where nobody says otherwise
LEAST_FRAMES = 9
AUDIO_LATENTS = 64  # about 2.5 s of sound
RUN_UP_LATENTS = 4  # of them: dropped after encoding, since an encoder starts otherwise than it goes on
SLOWEST_FPS = 8  # that the models can be asked for
_NOTED_GAP_SECONDS = 0.1  # less is an encoder's padding


@dataclass(frozen=True, eq=False)
class FoundFilm:
    """The end of a film, cut where its picture ends.

    frames: uint8 [V, H, W, 3], the last ones, at the model's size. fps: their rate. sound: one or two channels, ending
    at the same instant, exactly as long as ``audio_latents`` stand for, which reach back beyond the frames by another
    eight and RUN_UP_LATENTS at least (silence before the film's start); None for a film without sound. end_seconds:
    that instant, from the first frame on. notes: what was adjusted, one sentence each.
    """

    frames: np.ndarray
    fps: Fraction
    sound: Waveform | None
    audio_latents: int
    end_seconds: Fraction
    info: VideoInfo
    notes: tuple[str, ...] = ()

    @property
    def sound_before_frames(self) -> Fraction:
        """Seconds that the sound begins before the frames do."""
        seconds = decoded_audio_seconds(self.audio_latents) if self.audio_latents else Fraction(0)
        return seconds - seconds_of_frames(len(self.frames), self.fps)

    def __str__(self) -> str:
        sound = f", {self.sound}" if self.sound is not None else ", silent"
        height, width = self.frames.shape[1:3]
        return f"end of a found film: {len(self.frames)} frames of {width}x{height} at {float(self.fps):g} fps{sound}"


def read_found_film(
    path: FilePath,
    *,
    frames: int | None = None,
    fps: object = None,
    audio_latents: int = AUDIO_LATENTS,
    size: tuple[int, int] | None = None,
    multiple: int = PIXELS_PER_LATENT,
    most_pixels: int | None = None,
) -> FoundFilm:
    """The end of a film, whatever it was made with; only that much of it is decoded, a frame at a time.

    frames: how many, 8k+1; None: 25, or as many as a shorter film has. fps: of them; None: see model_rate.
    audio_latents: how much sound, less where the film is shorter, more where the frames are longer. size: (width,
    height) of the model's pictures; None: the film's own, with sides of a ``multiple`` and at most so many pixels in
    all. Raises MediaError for what is no film or too short, RequestError for a frame count that is not 8k+1.
    """
    if frames is not None and (not is_valid_frame_count(frames) or frames < LEAST_FRAMES):
        raise RequestError(
            f"{frames} frames of the film were asked for, expected 8k+1 from {LEAST_FRAMES} on, such as 17 or 25"
        )
    info = video_info(path)
    width, height = size or model_size(info.width, info.height, multiple, most_pixels)
    notes = list(info.notes)
    with opened(path) as container:
        stream = video_stream(container, path)
        clock = film_clock(container, stream, path)
        rate = model_rate(clock.fps) if fps is None else parse_fps(fps)
        count = _count(path, clock, rate, frames, notes)
        out = np.empty((count, height, width, 3), np.uint8)
        for i, picture in enumerate(pictures(container, stream, path, clock, last_frames(clock, rate, count))):
            out[i] = fitted(picture, height, width)
    if rate != clock.fps:
        notes.append(f"{shown(path)} has {float(clock.fps):g} frames per second: it is gone on from at {float(rate):g}")
    notes += _size_notes(path, info, width, height)
    latents, sound = 0, None
    if info.sample_rate:
        reach = seconds_of_frames(count + FRAMES_PER_LATENT, rate)
        needed = ceil((100 * reach + 3) / 4) + RUN_UP_LATENTS
        latents = max(needed, min(audio_latents, int((100 * clock.end + 3) / 4)))
        sound = _sound(path, info, clock.end, latents, notes)
    return FoundFilm(out, rate, sound, latents, clock.end, info, tuple(notes))


@dataclass(frozen=True, eq=False)
class FilmBeginning:
    """The first pictures of a film. frames: uint8 [V, H, W, 3] at the model's size; fps: their rate. notes: what was
    adjusted, one sentence each."""

    frames: np.ndarray
    fps: Fraction
    info: VideoInfo
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        height, width = self.frames.shape[1:3]
        return f"beginning of a found film: {len(self.frames)} frames of {width}x{height} at {float(self.fps):g} fps"


def read_film_beginning(path: FilePath, *, frames: int, fps: object, size: tuple[int, int]) -> FilmBeginning:
    """The first frames of a film as a model can lead to them. size: (width, height). Raises MediaError for what is no
    film or too short."""
    info, rate = video_info(path), parse_fps(fps)
    width, height = size
    notes = list(info.notes)
    with opened(path) as container:
        stream = video_stream(container, path)
        clock = film_clock(container, stream, path)
        have = clock.frames if rate == clock.fps else max(1, round(clock.end * rate))
        if have < frames:
            raise MediaError(f"{shown(path)} has {have} frames, leading to it needs {frames}: use a longer film")
        out = np.empty((frames, height, width, 3), np.uint8)
        for i, picture in enumerate(pictures(container, stream, path, clock, first_frames(clock, rate, frames))):
            out[i] = fitted(picture, height, width)
    if rate != clock.fps:
        notes.append(f"{shown(path)} has {float(clock.fps):g} frames per second: it is led to at {float(rate):g}")
    notes += _size_notes(path, info, width, height)
    return FilmBeginning(out, rate, info, tuple(notes))


def first_frames(clock: FilmClock, fps: Fraction, count: int) -> list[int]:
    """Which frames of a film, in the order shown, are seen at the first ``count`` places of a clock that begins with
    it."""
    if clock.constant and fps == clock.fps:
        return list(range(count))
    return [clock.shown_at(float((place + Fraction(1, 4)) / fps)) for place in range(count)]


def model_rate(fps: Fraction) -> Fraction:
    """The rate at which a model goes on from a film: its own, or a whole multiple or part of it between 8 and 60."""
    if fps < SLOWEST_FPS:
        return fps * -(-SLOWEST_FPS // fps)
    return fps / -(-fps // FASTEST_FPS) if fps > FASTEST_FPS else fps


def model_size(
    width: int, height: int, multiple: int = PIXELS_PER_LATENT, most_pixels: int | None = None
) -> tuple[int, int]:
    """Width and height with sides of a multiple: of about the film's shape and size, or smaller where it has more than
    ``most_pixels``; of the near ones the one that least is cut off for."""
    scale = 1.0
    if most_pixels is not None and width * height > most_pixels:
        scale = (most_pixels / (width * height)) ** 0.5
    wide, high = (max(1, int(side * scale) // multiple) for side in (width, height))
    sizes = [((wide + i) * multiple, (high + j) * multiple) for i in (-1, 0, 1, 2) for j in (-1, 0, 1, 2)]
    possible = [size for size in sizes if min(size) > 0 and (most_pixels is None or size[0] * size[1] <= most_pixels)]

    def loss(size: tuple[int, int]) -> float:
        """The share that is cut off, and less weightily how far the size is changed."""
        across, down = size[0] / width, size[1] / height
        return 1 - min(across, down) / max(across, down) + abs((across * down) ** 0.5 - scale) / (4 * scale)

    return min(possible or [(wide * multiple, high * multiple)], key=loss)


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture [h, w, 3] uint8 scaled to cover a size and cut at the middle."""
    if picture.shape[:2] == (height, width):
        return picture
    return uint8_frames(cover(picture, height, width)[None, :, None])[0]


def last_frames(clock: FilmClock, fps: Fraction, count: int) -> list[int]:
    """Which frames of a film, in the order shown, are seen at the last ``count`` places of a clock that ends with it.
    The very last one is always among them."""
    if clock.constant and fps == clock.fps:
        return list(range(len(clock.starts) - count, len(clock.starts)))
    last = float(clock.end) - float(clock.starts[-1])
    before = min(last / 2, 0.75 / float(fps))
    return [clock.shown_at(float(clock.end) - before - place / float(fps)) for place in reversed(range(count))]


def _count(path, clock: FilmClock, fps: Fraction, asked: int | None, notes: list[str]) -> int:
    have = max(1, round(clock.end * fps)) if fps != clock.fps else clock.frames
    count = CONTEXT_FRAMES if asked is None else asked
    if have < (LEAST_FRAMES if asked is None else asked):
        least = LEAST_FRAMES if asked is None else asked
        raise MediaError(f"{shown(path)} has {have} frames, going on from it needs {least}: use a longer film")
    if have < count:
        count = snap_frames(have, "down")
        notes.append(f"{shown(path)} has {have} frames: the last {count} are gone on from")
    return count


def _size_notes(path, info: VideoInfo, width: int, height: int) -> list[str]:
    if (width, height) == (info.width, info.height):
        return []
    (high, wide), _ = cover_geometry((info.height, info.width), (height, width))
    cut = ""
    if high > height or wide > width:
        side = "above and below" if high > height else "at the sides"
        share = 1 - (height / high if high > height else width / wide)
        cut = f", {100 * share:.1f} % are cut off {side}"
    return [f"{shown(path)} is {info.width}x{info.height}: the model sees it at {width}x{height}{cut}"]


def _sound(path, info: VideoInfo, end: Fraction, latents: int, notes: list[str]) -> Waveform:
    seconds = decoded_audio_seconds(latents)
    samples = torch.cat([piece.samples for piece in iterate_sound(path, end - seconds, seconds)], dim=1)
    sound = Waveform(samples, info.sample_rate)
    check_finite(sound, shown(path))
    if info.channels > 2:
        notes.append(mix_note(shown(path), info.channels))
        sound = mix_to_stereo(sound, channel_names(path))
    short = float(end - Fraction(info.samples, info.sample_rate))
    if short > _NOTED_GAP_SECONDS:
        notes.append(f"the sound of {shown(path)} ends {short:.2f} s before its picture: silence is gone on from")
    elif short < -_NOTED_GAP_SECONDS:
        notes.append(f"{-short:.2f} s of sound after the last picture of {shown(path)} are left out")
    return sound
