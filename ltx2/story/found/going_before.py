"""What comes before a found film: a segment that ends as the film begins, and both as one film."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ...clock import (
    AUDIO_LATENTS_PER_SECOND,
    FRAMES_PER_LATENT,
    audio_latent_span,
    decoded_audio_seconds,
    is_valid_frame_count,
    samples_of_seconds,
    seconds_of_frames,
)
from ...continuation.state import LTX2ContinuationState
from ...errors import RequestError
from ...film.audio_format import AudioFormat, in_format
from ...film.found import state_of_found_film
from ...film.retake import BEYOND_SECONDS, mixed_level
from ...film.timeline import CROSSFADE_SECONDS, GUARD_SECONDS
from ...media import iterate_sound, mix_to_stereo, read_found_film, video_info
from ...media.found.film_opening import NewHead, track_format, write_in_front
from ...media.found.found_film import (
    CONTEXT_FRAMES,
    LEAST_FRAMES,
    RUN_UP_LATENTS,
    FilmBeginning,
    read_film_beginning,
)
from ...stages import steps
from ...stages.models import Models
from ...stages.request import Job, Request, make_job
from ...values import AudioCondition, ClipCondition, Waveform
from .going_on import about_film, sized_after_film


@dataclass(frozen=True, eq=False)
class GoingBefore:
    """A found film and the segment that will lead to it.

    film: its beginning as the model gets it; job: the segment, whose frames from ``begin`` on are those.
    """

    path: Path
    film: FilmBeginning
    begin: int
    job: Job

    @property
    def seconds(self) -> Fraction:
        """How much longer the film becomes."""
        return seconds_of_frames(self.begin, self.film.fps)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was adjusted or chosen, one sentence each."""
        return (*self.film.notes, *self.job.notes)

    def __str__(self) -> str:
        return f"{self.begin} frames ({float(self.seconds):.2f} s) in front of {self.path.name}; {self.film}"


def go_before(
    models: Models, request: Request, path: str | Path, *, context: int | None = None, strength: float | None = None
) -> GoingBefore:
    """The segment that leads to a film, all checked; only its sound has been encoded.

    request: what it leaves open is as ``sized_after_film`` says. context: frames of the film to lead to, 8k+1, of which
    the 8k that fill latent frames are known; None: 25, or less for a short segment or film. strength: of these. Raises
    MediaError, RequestError and CheckpointError.
    """
    asked = sized_after_film(models, request, path)
    size = make_job(models, asked).geometry
    known = _known(path, size.frames, size.fps, context)
    begin = size.frames - known
    for name, conditions in (("image", asked.images), ("clip", asked.clips)):
        if any(condition.frame >= begin for condition in conditions):
            raise RequestError(
                f"frames {begin} to {size.frames - 1} come from the film: give the {name} an earlier frame"
            )
    film = read_film_beginning(path, frames=known, fps=size.fps, size=(size.width, size.height))
    clip = ClipCondition(film.frames, frame=begin, strength=1.0 if strength is None else strength)
    audio = _sound(models, Path(path), seconds_of_frames(begin, size.fps), size.audio_latents)
    asked = replace(asked, clips=(*asked.clips, clip), audio=audio, audio_latents=size.audio_latents)
    return GoingBefore(Path(path), film, begin, make_job(models, asked))


def _known(path: str | Path, frames: int, fps: Fraction, asked: int | None) -> int:
    """How many frames of a film a segment of so many ends with: whole latent frames, in place on its own grid."""
    if asked is not None and (not is_valid_frame_count(asked) or asked < LEAST_FRAMES):
        raise RequestError(
            f"{asked} frames of the film were asked for, expected 8k+1 from {LEAST_FRAMES} on, such as 17 or 25"
        )
    info = video_info(path)
    have = max(1, round(seconds_of_frames(info.frames, info.fps) * fps))
    usual = min(CONTEXT_FRAMES, frames // 3, max(have, LEAST_FRAMES)) if asked is None else asked
    known = max(1, (usual - (asked is not None)) // FRAMES_PER_LATENT) * FRAMES_PER_LATENT
    if frames < known + FRAMES_PER_LATENT + 1:
        raise RequestError(
            f"the segment has {frames} frames, {known} of which are the film's: make it longer or the context smaller"
        )
    return known


def _sound(models: Models, path: Path, begin: Fraction, count: int) -> AudioCondition | None:
    """The segment's sound with that of the film from ``begin`` seconds on; None where there is none."""
    if not count or not video_info(path).sample_rate:
        return None
    seconds = decoded_audio_seconds(count) + BEYOND_SECONDS
    pieces = list(iterate_sound(path, -begin, seconds))
    heard = mix_to_stereo(Waveform(torch.cat([one.samples for one in pieces], dim=1), pieces[0].sample_rate))
    latent = steps.encode_sound(models, heard)[:, :, :count].cpu()
    # the first ones know of the silence that the film has in front of it, which will not be there
    run_up = Fraction(RUN_UP_LATENTS, AUDIO_LATENTS_PER_SECOND)
    mask = torch.tensor([0.0 if audio_latent_span(k)[0] >= begin + run_up else 1.0 for k in range(latent.shape[2])])
    return AudioCondition(latent, mask)


def write_longer(
    made: GoingBefore,
    frames: Iterable,
    sound: Waveform | None,
    path: str | Path,
    *,
    note: Callable[[str], None],
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write the film with the segment in front of it. frames: all of the segment's in chunks; sound: all of its; note:
    is given what was adjusted. Returns the path. Raises MediaError."""
    head = NewHead(frames, made.begin, made.film.fps, _led_over(made, sound))
    for left_out in write_in_front(made.path, path, head, metadata=metadata):
        note(left_out)
    return Path(path)


def _led_over(made: GoingBefore, sound: Waveform | None) -> Waveform | None:
    """The new sound up to where the film's own has taken over: within the first 60 ms of it, which both know."""
    info = made.film.info
    if sound is None:
        return None
    rate, channels = track_format(info, sound)
    sound = in_format(sound, AudioFormat(rate, channels), "the new part", lambda text: None)
    join = samples_of_seconds(made.seconds, rate)
    if not info.sample_rate:
        return Waveform(sound.samples[:, :join].float(), rate)
    first, last = (
        samples_of_seconds(made.seconds + time, rate) for time in (GUARD_SECONDS, GUARD_SECONDS + CROSSFADE_SECONDS)
    )
    own = Waveform(
        torch.cat([one.samples for one in iterate_sound(made.path, 0, Fraction(1, 5))], dim=1), info.sample_rate
    )
    own = in_format(own, AudioFormat(rate, channels), made.path.name, lambda text: None)
    new = sound.samples.float()
    if new.shape[1] < last or own.samples.shape[1] < last - join:
        return Waveform(new[:, :join], rate)
    rise = (torch.arange(last - first, dtype=torch.float32) + 0.5) / (last - first)
    mixed = mixed_level(new[:, first:last], own.samples[:, first - join : last - join].float(), rise)
    return Waveform(torch.cat([new[:, :first], mixed], dim=1), rate)


def state_at_end(models: Models, made: GoingBefore) -> LTX2ContinuationState:
    """What a next segment goes on from: the end of the film, at the size and rate of the new part. Raises MediaError
    and RequestError."""
    size = made.job.geometry
    film = read_found_film(made.path, fps=size.fps, size=(size.width, size.height))
    heard = film.sound is not None and size.audio_latents
    latents = steps.encode_sound(models, film.sound).cpu() if heard and film.sound is not None else None
    return state_of_found_film(film, latents, about=about_film(made.path, film))
