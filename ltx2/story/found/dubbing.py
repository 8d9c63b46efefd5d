"""A film spoken anew in other words or another language, with its own voice: the job of a model that dubs.

The film is the reference of both stages and its sound the voice; frames and sound of the result are all new. A second
stage leaves the sound of the first as it is. Source: the models' own dubbing pipeline.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...clock import WINDOW_SECONDS, samples_of_seconds, snap_frames
from ...errors import RequestError
from ...film.reference_film import reference_frames_of
from ...film.timeline import SegmentTiming, first_segment
from ...media import read_sound, video_info
from ...media.found.found_film import model_rate
from ...media.paths import shown
from ...stages.models import Models
from ...stages.request import Job, Request, make_job
from ...values import ReferenceCondition, VoiceCondition, Waveform
from .going_on import sized_like

# Says what a dub is of; anything else that a request can start from would contradict it.
_OPEN: dict[str, Any] = {"images": (), "clips": (), "references": (), "audio": None, "latents": None, "voice": None}


@dataclass(frozen=True, eq=False)
class Dubbing:
    """A film that will be spoken anew. job: what the pipeline does; timing: of the new film; notes: what was left out
    of the film or adjusted."""

    job: Job
    timing: SegmentTiming
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.job.settings}; {self.job.geometry}"


def dubbing(models: Models, request: Request, path: str | Path) -> Dubbing:
    """A film as what a dub is made of, all checked. request: with the new words, and without a length. Raises
    MediaError, RequestError and CheckpointError."""
    info = video_info(path)
    fps = model_rate(info.fps)
    if not info.sample_rate:
        raise RequestError(f"{shown(path)} has no sound: dubbing takes the voice from it")
    seconds = info.frames / info.fps
    frames, notes = _length(shown(path), int(seconds * fps), fps)
    pictures = reference_frames_of(path, frames, fps)
    return _job_of(models, request, _Film(pictures, read_sound(path), fps), (*info.notes, *notes))


@dataclass(frozen=True, eq=False)
class _Film:
    """8k+1 frames [N, H, W, 3], a sound at least as long, and the rate."""

    frames: np.ndarray
    sound: Waveform
    fps: Fraction


def _length(name: str, found: int, fps: Fraction) -> tuple[int, tuple[str, ...]]:
    """How many frames of a film are dubbed, and a note where its end is left out. Raises RequestError."""
    if found / fps > WINDOW_SECONDS:
        raise RequestError(
            f"{name} lasts {float(found / fps):.2f} s, the models see {WINDOW_SECONDS} s at once: cut it into pieces"
        )
    frames = snap_frames(max(found, 1), "down")
    if frames == found:
        return frames, ()
    return frames, (f"the last {found - frames} frames of {name} are left out: lengths are 8k+1 frames",)


def _job_of(models: Models, request: Request, film: _Film, notes: tuple[str, ...]) -> Dubbing:
    given = next((name for name, empty in _OPEN.items() if getattr(request, name) != empty), None)
    if given is not None or request.frames is not None or request.seconds is not None:
        what = "a length" if given is None else given.replace("_", " ")
        raise RequestError(f"a dub takes all of this from its film, but {what} is given: leave it out")
    frames, height, width = film.frames.shape[:3]
    rate = film.sound.sample_rate
    sound = Waveform(film.sound.samples[:, : samples_of_seconds(frames / film.fps, rate)], rate)
    asked = replace(
        request,
        frames=frames,
        fps=film.fps,
        references=(ReferenceCondition(film.frames, stages="both"),),
        voice=VoiceCondition(sound, identity=0.0, keeps_sound=True),
    )
    job = make_job(models, sized_like(models, asked, width, height))
    size = job.geometry
    return Dubbing(job, first_segment(size.frames, size.fps, audio_latents=size.audio_latents), notes)
