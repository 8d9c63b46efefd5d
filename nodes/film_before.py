"""The film that was saved with a state, in the host's folders: named when it is saved, found again when it is loaded."""

from dataclasses import replace
from pathlib import Path

from ..ltx2.errors import Ltx2Error, RequestError
from ..ltx2.film.saved_film import SavedFilm, film_of, with_film
from ..ltx2.media import video_info
from . import host

OUTPUT = " [output]"


def known_film(state, path: Path, name: str):
    """A state that knows the film that was saved with it. name: as the host's loaders take it."""
    return with_film(state, SavedFilm(name, video_info(path).frames))


def found_film(state, file: str):
    """A loaded state whose film is where it says, or lies beside the state's own ``file``, and what there is to say of
    it, one sentence each."""
    film = film_of(state)
    if film is None:
        return state, ()
    if _there(film.file):
        return state, (f"its film: {film.file.removesuffix(OUTPUT)}",)
    beside = _beside(film, file)
    if beside is None:
        return state, (
            f"its film {film.file.removesuffix(OUTPUT)} is not in ComfyUI's output folder nor beside the state: what is new "
            "can be made, but not joined to it",
        )
    return with_film(state, replace(film, file=beside)), (f"its film: {beside.removesuffix(OUTPUT)}",)


def film_path(state) -> Path:
    """Where the film of a state lies. Raises RequestError when it knows none, or when that is gone."""
    film = film_of(state)
    if film is None:
        raise RequestError(
            "the state knows no film: save it with the film connected to Save Continuation State, or leave state out to "
            "join what is new alone"
        )
    if not _there(film.file):
        raise RequestError(
            f"{film.file.removesuffix(OUTPUT)}, the film that was saved with the state, is not in ComfyUI's output folder nor "
            "beside the state: put it back, or leave state out to join what is new alone"
        )
    return host.user_file(film.file)


def _there(name: str) -> bool:
    try:
        return host.user_file(name).is_file()
    except RequestError:
        return False


def _beside(film: SavedFilm, file: str) -> str | None:
    """The name of a film of the same name and length that lies in the folder of a state's own file."""
    path, mark, kind = file.partition(" [")
    own = film.file.partition(" [")[0].replace("\\", "/").rpartition("/")[2]
    folder, slash, _ = path.replace("\\", "/").rpartition("/")
    name = f"{folder}{slash}{own}{mark}{kind}"
    try:
        fits = _there(name) and video_info(host.user_file(name)).frames == film.frames
    except Ltx2Error:  # a file of this name that is no film
        return None
    return name if fits else None
