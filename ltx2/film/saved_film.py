"""The film that was saved with a state: how the state names it, and how what goes on from the state comes behind it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from ..continuation.state import LTX2ContinuationState
from ..errors import ContinuationError, Ltx2Error
from ..media import iterate_frames, read_found_film, video_info
from ..media.found.found_film import fitted
from .found import Writing, write_behind
from .join import FinishedSegment, begins_anew, check_neighbours
from .provenance import METADATA_KEY, Provenance, read_provenance
from .timeline import SegmentTiming

_FILM = "film"
_LONGEST_NAME = 400
_OF_ANOTHER_PROGRAM = "the state was made by another program, which does not say where its film ends"
_LOOK = 16  # rows and columns of what two pictures are compared by
_OTHER_PICTURE = 20.0  # of 255 on average: codecs and corrections of colour change less


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


def with_film_file(state: LTX2ContinuationState, path: str | Path, name: str) -> LTX2ContinuationState:
    """A state that knows the film in a file under a name. Raises ContinuationError and MediaError."""
    return with_film(state, SavedFilm(name, video_info(path).frames))


def with_film_beside(
    state: LTX2ContinuationState, path: str | Path, state_file: str | Path
) -> tuple[LTX2ContinuationState, tuple[str, ...]]:
    """A state that is about to be saved and knows a film that was just written, and what there is to say of it. The
    film is named as it lies below the state's folder; elsewhere by its own name alone, by which it is found once both
    lie in one folder. Raises MediaError."""
    folder, film = Path(os.path.abspath(state_file)).parent, Path(os.path.abspath(path))
    name = film.relative_to(folder).as_posix() if film.is_relative_to(folder) else film.name
    if not _is_name(name):
        return state, ("the film's name cannot stand in a state: Join Segments will not find it by itself",)
    return with_film_file(state, film, name), ()


def without_mark(name: str) -> tuple[str, str]:
    """A name as ComfyUI's loaders take it, and what says in which of its folders the file lies: ``[output]`` or
    nothing."""
    name = name.rstrip()
    for mark in (" [input]", " [output]", " [temp]"):
        if name.endswith(mark):
            return name.removesuffix(mark), mark
    return name, ""


def film_beside(film: SavedFilm, state_file: str | Path) -> Path | None:
    """Where a film lies that a state knows: below the state's folder as it is named, or in it; None where no film of
    this length does."""
    folder, name = Path(state_file).parent, without_mark(film.file)[0].replace("\\", "/")
    for path in (folder / name, folder / PurePosixPath(name).name):
        try:
            if path.is_file() and video_info(path).frames == film.frames:
                return path
        except (Ltx2Error, OSError):  # a file of this name that is no film
            continue
    return None


def film_of(state: LTX2ContinuationState) -> SavedFilm | None:
    """The film that a state knows; None where there is none, or what is said of it makes no sense."""
    return film_in(state.metadata)


def film_in(metadata: Mapping[str, Any]) -> SavedFilm | None:
    """The same, from a state's metadata."""
    ours = metadata.get(METADATA_KEY)
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
        raise ContinuationError(f"{_OF_ANOTHER_PROGRAM}: leave state out to join what is new alone")
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


def check_goes_on(state: LTX2ContinuationState, timing: SegmentTiming) -> None:
    """Raises ContinuationError for a segment that does not go on where a state ends; one with nothing before it, and
    a state that does not say where it ends, are not asked."""
    producer = read_provenance(state.metadata, state.segment_index)
    if producer is not None and not begins_anew(timing):
        check_neighbours(producer.timing, timing, "the state")


def end_notes(path: str | Path, state: LTX2ContinuationState) -> tuple[str, ...]:
    """What there is to say of a film that a state is saved with: that nothing can come behind it, or that its last
    picture is clearly another one than the state carries. Raises MediaError."""
    if read_provenance(state.metadata, state.segment_index) is None:
        return (f"{_OF_ANOTHER_PROGRAM}: Join Segments cannot write behind it",)
    if not state.video_frames:
        return ()
    carried = state.video_frames[-1]
    height, width = carried.shape[:2]
    shown = fitted(next(iterate_frames(path, -1, 1)), height, width)
    small = [
        adaptive_avg_pool2d(torch.from_numpy(np.array(one, np.float32)).permute(2, 0, 1), _LOOK)
        for one in (carried, shown)
    ]
    if float((small[0] - small[1]).abs().mean()) <= _OTHER_PICTURE:
        return ()
    return (
        f"{Path(path).name} ends with another picture than the state: save a state with the film that it goes on from",
    )


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
