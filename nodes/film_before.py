"""The film that was saved with a state, in the host's folders: named when it is saved, found again when it is loaded."""

import os
from dataclasses import replace
from pathlib import Path

from ..ltx2.errors import Ltx2Error, RequestError
from ..ltx2.film.saved_film import SavedFilm, end_notes, film_of, with_film, with_film_file, without_mark
from ..ltx2.media import video_info
from . import host
from .paths import inside

OUTPUT = " [output]"


def found_film(state, file: str):
    """A loaded state whose film is where it says, or lies beside the state's own ``file``, and what there is to say of
    it, one sentence each."""
    film = film_of(state)
    if film is None:
        return _story_film(state, file)
    elsewhere = film.file.endswith(
        OUTPUT
    )  # a node of some ComfyUI named it; else it is named as it lies beside the state
    found = film.file if elsewhere and _there(film.file) else _beside(film, file)
    if found is None and not elsewhere and _is_it(film.file, film):
        found = film.file
    if found is None:
        return state, (
            f"its film {film.file.removesuffix(OUTPUT)} is not in ComfyUI's {'output' if elsewhere else 'input'} folder nor "
            "beside the state: what is new can be made, but not joined to it",
        )
    told = (f"its film: {found.removesuffix(OUTPUT)}", *_of_its_end(host.user_file(found), state))
    return with_film(state, replace(film, file=found)), told


def _of_its_end(path: Path, state) -> tuple[str, ...]:
    """What there is to say of the end of a film, which may be none."""
    try:
        return end_notes(path, state)
    except Ltx2Error:  # Join Segments says why
        return ()


def _story_film(state, file: str):
    """The same of a state in a story's folder, whose journal knows the film that ends with it."""
    from ..ltx2.story.film_file import film_of_stored_state

    mark = without_mark(file)[1]
    film = film_of_stored_state(host.user_file(file))
    base = host.user_folder(mark.strip(" []") or "input")
    if film is None or not inside(base, film):
        return state, ()
    name = Path(os.path.realpath(film)).relative_to(os.path.realpath(base)).as_posix()
    return with_film_file(state, film, name + mark), (f"its film: {name}",)


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


def _is_it(name: str, film: SavedFilm) -> bool:
    """Whether a film of the right length lies under a name."""
    try:
        return _there(name) and video_info(host.user_file(name)).frames == film.frames
    except Ltx2Error:  # a file of this name that is no film
        return False


def _beside(film: SavedFilm, file: str) -> str | None:
    """The name of a film of the same name and length that lies below the folder of a state's own file, or in it."""
    path, mark = without_mark(file)
    own = without_mark(film.file)[0].replace("\\", "/")
    folder, slash, _ = path.replace("\\", "/").rpartition("/")
    names = (f"{folder}{slash}{one}{mark}" for one in (own, own.rpartition("/")[2]))
    return next((name for name in names if _is_it(name, film)), None)
