"""A part of a film made anew by a model that sees what is around it: the job, and the film with the part in it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...clock import PIXELS_PER_LATENT, decoded_audio_seconds, samples_of_seconds, seconds_of_frames
from ...errors import RequestError
from ...film.audio_format import AudioFormat, in_format
from ...film.retake import (
    BEYOND_SECONDS,
    Film,
    Part,
    Window,
    retaken_frames,
    retaken_sound,
    window_frames,
    window_of,
    window_sound,
)
from ...media import FilmExtension, mix_to_stereo, uint8_frames
from ...media.found.film_extension import Kept
from ...media.found.found_film import fitted
from ...stages import steps
from ...stages.models import Models
from ...stages.request import Job, Request, make_job
from ...values import AudioCondition, ClipCondition, Waveform
from .films import FilmFile, FilmInMemory
from .going_on import sized_like


@dataclass(frozen=True, eq=False)
class Retaking:
    """A part of a film that will be made anew: the film, what the model sees of it, and the job."""

    film: Film
    window: Window
    job: Job

    def __str__(self) -> str:
        return f"{self.window}; {self.job}"


def retaking(models: Models, request: Request, film: Film, part: Part) -> Retaking:
    """All that is known before a part is made anew, checked; only the window's sound has been encoded.

    request: its prompt says what is seen and heard in the part; its length and rate are the window's. Raises
    RequestError, MediaError and CheckpointError.
    """
    if not part.picture and film.mask(0, film.shape.frames) is not None:
        raise RequestError("a mask is of the picture, which stays where the sound alone is made: leave one of them out")
    if not film.shape.sample_rate and part.picture:
        part = replace(part, sound=False)
    window = window_of(film.shape, part)
    asked = replace(request, frames=window.frames, seconds=None, fps=film.shape.fps, audio_latents=window.audio_latents)
    asked = sized_like(models, asked, film.shape.width, film.shape.height)
    size = make_job(models, asked).geometry
    frames = np.empty((window.frames, size.height, size.width, 3), np.uint8)
    for index, picture in enumerate(window_frames(film, window)):
        frames[index] = fitted(picture, size.height, size.width)
    mask = _mask(film, window, size.height, size.width) if part.picture else None
    clip = ClipCondition(frames, frozen=not part.picture, mask=mask)
    job = make_job(models, replace(asked, clips=(clip,), audio=_sound(models, film, window)))
    return Retaking(film, window, job)


def _mask(film: Film, window: Window, height: int, width: int) -> torch.Tensor:
    """What of the window's latents is made anew, [N, rows, columns]. Raises RequestError where that is nothing."""
    whole = window.frame_mask()
    have = min(window.frames, window.film.frames - window.first)
    masks = film.mask(window.first, have)
    if masks is None:
        return whole
    cells = height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT
    pooled = []
    for mask in masks:
        shape = _covering(torch.from_numpy(np.ascontiguousarray(mask, np.float32)), height, width)
        pooled.append(torch.nn.functional.adaptive_max_pool2d(shape[None], cells)[0])
    pooled += [pooled[-1]] * (window.frames - have)
    found = torch.stack(pooled) * whole
    if not bool((found > 0).any()):
        raise RequestError("the mask is black in the part that is to be made anew: paint white what shall change")
    return found


def _covering(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A mask of the film's size as the model sees its frames: scaled to cover and cut at the middle."""
    scale = max(height / mask.shape[0], width / mask.shape[1])
    size = max(height, round(mask.shape[0] * scale)), max(width, round(mask.shape[1] * scale))
    larger = torch.nn.functional.interpolate(mask[None, None], size, mode="nearest")[0, 0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return larger[top : top + height, left : left + width]


def _sound(models: Models, film: Film, window: Window) -> AudioCondition | None:
    """The window's sound: what of it is made anew, or all of it frozen."""
    count = window.audio_latents
    if not count:
        return None
    sound = mix_to_stereo(window_sound(film, window, decoded_audio_seconds(count) + BEYOND_SECONDS))
    latent = steps.encode_sound(models, sound)[:, :, :count].cpu()
    if window.heard is None:
        return AudioCondition(latent, frozen=True, waveform=sound)
    return AudioCondition(latent, mask=window.latent_mask())


def part_sound(made: Retaking, sound: Waveform | None) -> Waveform | None:
    """The sound made for the window, at the film's rate and with its channels; None where the film's stays."""
    if made.window.heard is None or sound is None:
        return None
    pieces = next(iter(made.film.sound(made.window.start, BEYOND_SECONDS)))
    return in_format(sound, AudioFormat.of(pieces), "the new part", lambda text: None)


def whole_frames(made: Retaking, new: Iterable[np.ndarray], start: int = 0) -> Iterator[np.ndarray]:
    """The film's frames from ``start`` on, the new ones in their place. new: the window's, in chunks."""
    return retaken_frames(made.film, made.window, new, start)


def write_retaken(
    made: Retaking,
    new: Iterable[np.ndarray],
    sound: Waveform | None,
    path: str | Path,
    *,
    crf: float = 18,
    metadata: Mapping[str, Any] | None = None,
    note: Callable[[str], None],
) -> Path:
    """Write a film in a file with its new part. Returns the path.

    new, sound: all frames of the window in chunks, and what was made of its sound. A stream of which nothing is new,
    and what lies before the first new frame up to a keyframe, is taken over as it is. Raises MediaError.
    """
    film, window = made.film, made.window
    assert isinstance(film, FilmFile)
    fresh = part_sound(made, sound)
    kept = Kept(
        sound=None if fresh is None or window.heard is None else window.heard[0],
        picture=window.changed[0] / window.film.fps if window.picture else None,
    )
    with FilmExtension(film.path, path, kept=kept, fps=window.film.fps, crf=crf, metadata=metadata) as writer:
        for text in writer.notes:
            note(text.removesuffix(", its picture is kept") if window.picture else text)
        if window.picture and writer.copied:
            begin = seconds_of_frames(writer.kept_frames, window.film.fps)
            before = ", what is before stays packet by packet" if begin else ""
            note(f"the picture of {window.film.name} is encoded anew from {float(begin):.2f} s on{before}")
        if fresh is not None:
            for piece in retaken_sound(film, window, fresh):
                writer.write_sound(piece)
        if window.picture:
            for frame in whole_frames(made, new, writer.kept_frames):
                writer.write_frames(frame[None])
    return Path(path)


def film_retaken(
    made: Retaking, new: Iterable[np.ndarray], sound: Waveform | None
) -> tuple[torch.Tensor, Waveform | None]:
    """A film in memory with its new part: frames [N, H, W, 3] of the film's type in 0…1, and its sound.

    new, sound: all frames of the window in chunks, and what was made of its sound. What is not made anew is bit for bit
    as it was. Raises MediaError.
    """
    film, window = made.film, made.window
    assert isinstance(film, FilmInMemory)
    frames, heard = film.pictures.clone(), film.waveform
    if window.picture:
        first, last = window.changed
        for index, picture in zip(range(first, last), whole_frames(made, new, first)):
            fresh = torch.from_numpy(picture)
            touched = (fresh != torch.from_numpy(uint8_frames(frames[index])[0])).any(dim=-1, keepdim=True)
            frames[index] = torch.where(touched.to(frames.device), (fresh.to(frames) / 255), frames[index])
    fresh_sound = part_sound(made, sound)
    if fresh_sound is not None and heard is not None and window.heard is not None:
        begin, end = (samples_of_seconds(at, heard.sample_rate) for at in window.heard)
        pieces = [piece.samples.to(heard.samples) for piece in retaken_sound(film, window, fresh_sound)]
        behind = torch.cat(pieces, dim=1)[:, : max(heard.samples.shape[1], end) - begin]
        before = next(film.sound(Fraction(0), window.heard[0])).samples.to(heard.samples)
        after = heard.samples[:, begin + behind.shape[1] :]
        heard = Waveform(torch.cat([before, behind, after], dim=1), heard.sample_rate)
    return frames, heard
