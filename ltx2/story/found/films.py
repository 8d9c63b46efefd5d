"""Films that a part of is made anew, as a file or in memory, each with a mask where there is one."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from ...clock import samples_of_seconds
from ...errors import RequestError
from ...film.retake import FilmShape
from ...media import iterate_frames, iterate_sound, open_image, uint8_frames, video_info
from ...media.images import SUFFIXES
from ...values import Waveform

_HEARD_SECONDS = 0.04  # less is a frame's
_SAME_SHAPE = 0.02  # how far the sides' proportion of a mask may be from the film's


class FilmFile:
    """A film in a file. mask: a film as long as it, or a picture: white is made anew; or [N or 1, h, w] in 0…1. Raises
    MediaError, and RequestError for a mask of another length or shape."""

    def __init__(self, path: str | Path, mask: str | Path | torch.Tensor | None = None):
        self.path = Path(path)
        info = video_info(path)
        self.notes, self.channels = info.notes, info.channels
        self.shape = FilmShape(self.path.name, info.width, info.height, info.fps, info.frames, info.sample_rate)
        self._mask = None if mask is None or isinstance(mask, torch.Tensor) else Path(mask)
        self._held = mask if isinstance(mask, torch.Tensor) else None
        self._still: np.ndarray | None = None
        if self._held is not None:
            self.notes += _check_mask(self._held, self.shape)
        if self._mask is None:
            return
        if self._mask.suffix.lower() in SUFFIXES:
            still = np.asarray(open_image(self._mask))
            self.notes += _check_size(still.shape[1], still.shape[0], self.shape)
            self._still = self._fitted(still[None])[0]
            return
        shown = video_info(self._mask)
        frames = shown.frames
        self.notes += _check_size(shown.width, shown.height, self.shape)
        if frames == 1:
            self._still = self._fitted(next(iterate_frames(self._mask))[None])[0]
        elif frames != info.frames:
            raise RequestError(
                f"the mask {self._mask.name} has {frames} frames, {self.path.name} has {info.frames}: make them equal, "
                "or give one picture"
            )

    def frames(self, start: int, count: int) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 in order."""
        return iterate_frames(self.path, start, count)

    def sound(self, start: Fraction, seconds: Fraction) -> Iterator[Waveform]:
        """Pieces of its sound; silence after its end."""
        return iterate_sound(self.path, start, seconds)

    def mask(self, start: int, count: int) -> Iterator[np.ndarray] | None:
        """What of each frame is made anew, [H, W] float32 in 0…1; None: all of it."""
        if self._held is not None:
            return _masks(self._held, start, count, self.shape)
        if self._still is not None:
            return iter([self._still] * count)
        if self._mask is None:
            return None
        return (self._fitted(frame[None])[0] for frame in iterate_frames(self._mask, start, count))

    def _fitted(self, frames: np.ndarray) -> np.ndarray:
        grey = torch.from_numpy(np.ascontiguousarray(frames[..., :3], np.float32)).mean(dim=-1) / 255
        return _of_size(grey, self.shape.height, self.shape.width)


class FilmInMemory:
    """A film as frames [N, H, W, 3] float in 0…1 and a sound, or None. mask: [N or 1, h, w] in 0…1, or None. Raises
    RequestError for a mask of another length or shape, and for a film without frames."""

    def __init__(
        self, frames: torch.Tensor, fps: Fraction, sound: Waveform | None = None, mask: torch.Tensor | None = None
    ):
        if frames.ndim != 4 or not frames.numel():
            raise RequestError(f"the film has frames of shape {list(frames.shape)}, expected at least one [H, W, 3]")
        self.pictures, self.waveform = frames[..., :3], sound
        count, height, width = frames.shape[:3]
        self.channels = 0 if sound is None else sound.samples.shape[0]
        self.shape = FilmShape("the film", width, height, fps, count, 0 if sound is None else sound.sample_rate)
        self.notes = (*self._adjusted(frames), *(() if mask is None else _check_mask(mask, self.shape)))
        self._mask = mask

    def _adjusted(self, frames: torch.Tensor) -> Iterator[str]:
        """What is not taken as it was given."""
        if frames.shape[3] > 3:
            yield "the images have a channel of transparency, which is left out"
        if self.waveform is None:
            return
        over = float(self.waveform.seconds - self.shape.seconds)
        if over > _HEARD_SECONDS:
            yield f"{over:.2f} s of sound after the last frame are left out"
        elif over < -_HEARD_SECONDS:
            yield f"the sound ends {-over:.2f} s before the last frame: silence follows it"

    def frames(self, start: int, count: int) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 in order."""
        return (uint8_frames(frame[None])[0] for frame in self.pictures[start : start + count])

    def sound(self, start: Fraction, seconds: Fraction) -> Iterator[Waveform]:
        """Its sound; silence where it has none."""
        if self.waveform is None:
            raise RequestError("the film has no sound")
        rate = self.waveform.sample_rate
        first, last = samples_of_seconds(start, rate), samples_of_seconds(start + seconds, rate)
        samples = self.waveform.samples[:, first:last].float()
        yield Waveform(torch.nn.functional.pad(samples, (0, last - first - samples.shape[1])), rate)

    def mask(self, start: int, count: int) -> Iterator[np.ndarray] | None:
        """What of each frame is made anew, [H, W] float32 in 0…1; None: all of it."""
        if self._mask is None:
            return None
        return _masks(self._mask, start, count, self.shape)


def _check_mask(mask: torch.Tensor, film: FilmShape) -> tuple[str, ...]:
    """What is to be told of a mask [N or 1, h, w]."""
    if mask.ndim != 3 or not mask.numel():
        raise RequestError(f"the mask has shape {list(mask.shape)}, expected [frames, height, width]")
    if not torch.isfinite(mask).all():
        raise RequestError("the mask holds NaN or infinity: what made it failed, make it anew")
    if len(mask) not in (1, film.frames):
        raise RequestError(f"the mask has {len(mask)} frames, the film has {film.frames}: make them equal, or give one")
    return _check_size(mask.shape[2], mask.shape[1], film)


def _check_size(width: int, height: int, film: FilmShape) -> tuple[str, ...]:
    """What is to be told of a mask's size: another one of the film's shape is scaled."""
    if (width, height) == (film.width, film.height):
        return ()
    if abs(width * film.height / (height * film.width) - 1) > _SAME_SHAPE:
        raise RequestError(
            f"the mask is {width}x{height}, the film {film.width}x{film.height}: give a mask of the film's shape"
        )
    return (f"the mask was scaled from {width}x{height} to the film's {film.width}x{film.height}",)


def _masks(mask: torch.Tensor, start: int, count: int, shape: FilmShape) -> Iterator[np.ndarray]:
    chosen = mask.expand(start + count, -1, -1) if len(mask) == 1 else mask
    return (_of_size(one[None].float().cpu(), shape.height, shape.width)[0] for one in chosen[start : start + count])


def _of_size(mask: torch.Tensor, height: int, width: int) -> np.ndarray:
    if mask.shape[1:] != (height, width):
        mask = torch.nn.functional.interpolate(mask[None], (height, width), mode="bilinear", antialias=True)[0]
    return mask.clamp(0, 1).numpy()
