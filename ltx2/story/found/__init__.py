"""Films that were found, in the hands of a model: gone on from, mended, and spoken anew."""

from .beginning import FilmStart, film_start, sized_story
from .dubbing import Dubbing, dubbing
from .films import FilmFile, FilmInMemory
from .going_before import GoingBefore, go_before, state_at_end, write_longer
from .going_on import GoingOn, go_on, sized_after_film
from .retaking import Retaking, film_retaken, retaking, write_retaken

__all__ = [
    "Dubbing",
    "FilmFile",
    "FilmInMemory",
    "FilmStart",
    "GoingBefore",
    "GoingOn",
    "Retaking",
    "dubbing",
    "film_start",
    "film_retaken",
    "go_before",
    "go_on",
    "retaking",
    "sized_after_film",
    "sized_story",
    "state_at_end",
    "write_longer",
    "write_retaken",
]
