"""The film that a story goes on from, in the hands of a model."""

import warnings
from dataclasses import replace
from functools import cached_property

from ...continuation.state import LTX2ContinuationState
from ...errors import Ltx2Error, Ltx2Warning
from ...film.found import state_of_found_film
from ...media import FoundFilm, read_found_film
from ...stages import steps
from ...stages.models import Models
from ...stages.request import make_job
from ..from_pipeline import request_of
from ..script import StoryScript
from ..tasks import task_of
from .going_on import about_film, sized_like


def sized_story(models: Models, script: StoryScript) -> StoryScript:
    """A story with the size that it is made in: the one that it names, taken to the nearest that the models take, which
    is warned of (Ltx2Warning); without one that of the film that it goes on from. Raises StoryError."""
    if script.width is None and script.start is None:
        return script
    try:
        asked = request_of(task_of(script, 0))
        if script.width is None and script.start is not None:
            sized = sized_like(models, asked, script.start.width, script.start.height)
            return replace(script, width=sized.width, height=sized.height)
        size = make_job(models, replace(asked, snap=True), parts=()).geometry
    except Ltx2Error as error:
        raise script.error(script.segments[0], error) from error
    if (size.width, size.height) != (script.width, script.height):
        warnings.warn(
            f"size {script.width}x{script.height} became {size.width}x{size.height}, the nearest that the models take",
            Ltx2Warning,
            stacklevel=2,
        )
    return replace(script, width=size.width, height=size.height)


class FilmStart:
    """The end of the film that a story (see sized_story) goes on from, read when it is needed; None of it before."""

    def __init__(self, models: Models, script: StoryScript) -> None:
        self._models, self._script = models, script

    @cached_property
    def film(self) -> FoundFilm:
        """Its last frames and their sound. Raises MediaError and RequestError."""
        script, start = self._script, self._script.start
        assert start is not None and script.width is not None and script.height is not None  # asked only then
        size = script.width, script.height
        return read_found_film(start.path, frames=start.context, fps=script.fps, size=size)

    @cached_property
    def state(self) -> LTX2ContinuationState:
        """What the first segment starts from. Raises what ``film`` does, and RequestError."""
        start, film = self._script.start, self.film
        assert start is not None
        task = task_of(self._script, 0)
        heard = film.sound is not None and make_job(self._models, request_of(task), parts=()).geometry.audio_latents
        latents = steps.encode_sound(self._models, film.sound).cpu() if heard and film.sound is not None else None
        return state_of_found_film(film, latents, about=about_film(start.path, film))


def film_start(models: Models, script: StoryScript) -> FilmStart | None:
    """The film that a story goes on from, if there is one."""
    return None if script.start is None else FilmStart(models, script)
