"""The film that was saved with a state: how the state names it, and how what goes on from the state comes behind it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..continuation.state import LTX2ContinuationState
from ..errors import ContinuationError
from ..media import read_found_film, video_info
from .found import Writing, write_behind
from .join import FinishedSegment
from .provenance import METADATA_KEY, Provenance, read_provenance

_FILM = "film"
_LONGEST_NAME = 400


@dataclass(frozen=True)
class SavedFilm:
    """A film whose end a state is of. file: its name as whoever saved both names files, below a folder of theirs: never
    where that folder lies. frames: how many it has."""

    file: str
    frames: int


def with_film(state: LTX2ContinuationState, film: SavedFilm) -> LTX2ContinuationState:
    """A state that knows the film it goes on from. Raises ContinuationError for a name that no state may carry."""
    if not _is_name(film.file):
        raise ContinuationError(
            f"the film's name {film.file[:60]!r} does not stay below a folder: use one such as a.mp4"
        )
    ours = state.metadata.get(METADATA_KEY)
    known = {**(ours if isinstance(ours, dict) else {}), _FILM: {"file": film.file, "frames": film.frames}}
    return replace(state, metadata={**state.metadata, METADATA_KEY: known})


def film_of(state: LTX2ContinuationState) -> SavedFilm | None:
    """The film that a state knows; None where there is none, or what is said of it makes no sense."""
    ours = state.metadata.get(METADATA_KEY)
    found: Any = ours.get(_FILM) if isinstance(ours, dict) else None
    if not isinstance(found, dict):
        return None
    file, frames = found.get("file"), found.get("frames")
    if not isinstance(file, str) or not _is_name(file) or type(frames) is not int or frames < 1:
        return None
    return SavedFilm(file, frames)


def _is_name(file: str) -> bool:
    path = PurePosixPath(file.replace("\\", "/"))
    inside = not path.is_absolute() and ".." not in path.parts and not file[1:2] == ":"
    return inside and bool(path.name) and file.isprintable() and len(file) <= _LONGEST_NAME


def check_film(path: str | Path, state: LTX2ContinuationState) -> Provenance:
    """What a state says of the segment that a film ends with. Raises ContinuationError where the film is not the one
    that was saved with the state, MediaError for what is no film."""
    producer, saved = read_provenance(state.metadata, state.segment_index), film_of(state)
    name = Path(path).name
    if producer is None:
        raise ContinuationError("the state was made by another program, which does not say where its film ends")
    info = video_info(path)
    if saved is not None and info.frames != saved.frames:
        raise ContinuationError(
            f"{name} has {info.frames} frames, it had {saved.frames} when the state was saved: put the film of then "
            "back, or leave state out to join what is new alone"
        )
    if info.fps != producer.timing.fps:
        raise ContinuationError(
            f"{name} has {float(info.fps):g} frames per second, the state {float(producer.timing.fps):g}: save the "
            "state with a film of its own rate"
        )
    return producer


def write_after_film(
    source: str | Path,
    state: LTX2ContinuationState,
    segments: Iterable[FinishedSegment],
    path: str | Path,
    writing: Writing,
) -> Path:
    """Write the film that was saved with a state, as it is, with the segments that go on from the state behind it.
    Returns the path. Raises ContinuationError and MediaError."""
    producer, info = check_film(source, state), video_info(source)
    film = read_found_film(source, fps=producer.timing.fps, size=(info.width, info.height))
    return write_behind(source, film, producer.timing, list(segments), path, writing)
