"""Found films, made elsewhere: read as a model goes on from them, and lengthened with the found part as it is."""

from .film_extension import FilmExtension
from .found_film import FoundFilm, read_found_film

__all__ = ["FilmExtension", "FoundFilm", "read_found_film"]
