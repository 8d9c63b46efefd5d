"""A found film taken as what a segment goes on from: read, heard, and made a state of."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...clock import PIXELS_PER_LATENT, snap_frames
from ...continuation.state import LTX2ContinuationState
from ...errors import RequestError
from ...film.found import state_of_found_film
from ...film.handoff import Handoff
from ...media import FoundFilm, read_found_film, video_info
from ...media.found.found_film import CONTEXT_FRAMES, LEAST_FRAMES, model_rate, model_size
from ...stages import steps
from ...stages.conditioning.references import expected_reference
from ...stages.models import Models
from ...stages.request import Request, make_job
from ..segment_job import SegmentJob, segment_job

_HASHED_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class GoingOn:
    """A found film and the segment that will go on from it.

    film: its end as the model gets it; state: made of that; made: the segment.
    """

    path: Path
    film: FoundFilm
    state: LTX2ContinuationState
    made: SegmentJob

    @property
    def notes(self) -> tuple[str, ...]:
        """What was adjusted or chosen, one sentence each."""
        return (*self.film.notes, *self.made.job.notes, *self.made.notes)


def sized_after_film(models: Models, request: Request, path: str | Path) -> Request:
    """A request whose size and rate are the film's where it leaves them open: see ``sized_like``. Raises MediaError and
    RequestError."""
    info = video_info(path)
    asked = replace(request, fps=model_rate(info.fps) if request.fps is None else request.fps)
    return sized_like(models, asked, info.width, info.height)


def sized_like(models: Models, request: Request, width: int, height: int) -> Request:
    """A request of a picture's shape where it names no size: on the grid that the preset needs, and no larger than the
    preset is made for."""
    if request.width is not None or request.height is not None:
        return request
    nothing: dict[str, Any] = {"images": (), "clips": (), "references": (), "keyframe_slots": 0}
    nothing |= {"audio": None, "voice": None}
    usual = make_job(models, replace(request, frames=None, seconds=None, **nothing), parts=())
    multiple = PIXELS_PER_LATENT * (1 if usual.settings.refine is None and not usual.settings.half_size else 2)
    expected = expected_reference(models.reference_loras) if request.references else None
    multiple *= 1 if expected is None else expected.downscale
    width, height = model_size(width, height, multiple, usual.geometry.width * usual.geometry.height)
    return replace(request, width=width, height=height)


def go_on(
    models: Models,
    request: Request,
    path: str | Path,
    *,
    context: int | None = None,
    handoff: Handoff = Handoff(),  # noqa: B008 (frozen)
) -> GoingOn:
    """A film as the state of the segment that goes on from it, all checked; only its sound has been encoded.

    request: what it leaves open is as ``sized_after_film`` says. context: frames of the film to start from, 8k+1; None:
    25, or less for a short segment or film. Raises MediaError, RequestError, CheckpointError and ContinuationError.
    """
    asked = sized_after_film(models, request, path)
    size = make_job(models, asked).geometry
    film = read_found_film(
        path, frames=_context(path, size.frames, context), fps=size.fps, size=(size.width, size.height)
    )
    if len(film.frames) >= size.frames:
        raise RequestError(
            f"the segment has {size.frames} frames, {len(film.frames)} of which are the film's: make it longer or the "
            "context smaller"
        )
    latents = None if film.sound is None or not size.audio_latents else steps.encode_sound(models, film.sound)
    state = state_of_found_film(film, None if latents is None else latents.cpu(), about=about_film(path, film))
    return GoingOn(Path(path), film, state, segment_job(models, asked, state, handoff))


def about_film(path: str | Path, film: FoundFilm) -> dict[str, Any]:
    """What a state says of the film that it was made of."""
    end = film.end_seconds
    return {
        "name": Path(path).name[:200],
        "sha256": _sha256(path),
        "width": film.info.width,
        "height": film.info.height,
        "fps": [film.info.fps.numerator, film.info.fps.denominator],
        "end_sec": [end.numerator, end.denominator],
    }


def _context(path: str | Path, frames: int, asked: int | None) -> int | None:
    """How many frames of a film a segment of so many starts from; most of it is to be new."""
    if asked is not None:
        return asked
    usual = max(LEAST_FRAMES, min(CONTEXT_FRAMES, snap_frames(frames // 3, "down")))
    if video_info(path).frames < usual:
        return None  # as many as there are
    return usual


def _sha256(path: str | Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_HASHED_AT_ONCE):
            found.update(block)
    return found.hexdigest()
