"""The picture of a whole found film as a model hears it: window by window, small, on a constant clock."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from ..film_clock import FilmClock, film_clock
from ..paths import FilePath, opened, shown
from ..video_reader import VideoInfo, pictures, video_info, video_stream
from .found_film import fitted, model_rate, model_size


@dataclass(frozen=True, eq=False)
class FilmPicture:
    """What a model sees of a film from start to end.

    frames: how many, at ``fps``, which cover ``seconds``, the film's own length. width, height: of what the model sees.
    notes: what is not as it is stored, one sentence each.
    """

    path: FilePath
    info: VideoInfo
    clock: FilmClock
    fps: Fraction
    frames: int
    width: int
    height: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> Fraction:
        """How long the film is shown."""
        return self.clock.end

    def windows(self, places: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Frames uint8 [count, H, W, 3] from a first one on, for each (first, count) of ``places``, which never go
        back behind the start of the one before; behind the film's end its last frame stays. The film is decoded
        once."""
        with opened(self.path) as container:
            stream = video_stream(container, self.path)
            decoded = pictures(container, stream, self.path, self.clock, map(self._source, range(self.frames)))
            held: dict[int, np.ndarray] = {}
            last = -1
            for first, count in places:
                held = {place: frame for place, frame in held.items() if place >= min(first, self.frames - 1)}
                end = min(first + count, self.frames)
                while last < end - 1:
                    last += 1
                    frame = next(decoded)
                    if last >= first or last == self.frames - 1:
                        held[last] = fitted(frame, self.height, self.width)
                yield np.stack([held[min(place, self.frames - 1)] for place in range(first, first + count)])

    def _source(self, frame: int) -> int:
        if self.fps == self.clock.fps:
            return self.clock.source_frame(frame)
        return self.clock.shown_at((frame + 0.25) / float(self.fps))


def film_picture(
    path: FilePath, *, size: tuple[int, int] | None = None, fps: Fraction | None = None, most_pixels: int
) -> FilmPicture:
    """A film's picture for a model that only listens to it. size: (width, height) that it sees, of at most so many
    pixels and the film's shape unless given; fps: see found_film.model_rate. Nothing is decoded yet but the first
    frame. Raises MediaError."""
    info = video_info(path)
    with opened(path) as container:
        clock = film_clock(container, video_stream(container, path), path)
    rate = model_rate(clock.fps) if fps is None else fps
    width, height = size or model_size(info.width, info.height, most_pixels=most_pixels)
    frames = clock.frames if rate == clock.fps and clock.constant else max(1, ceil(clock.end * rate))
    notes = list(info.notes)
    if rate != clock.fps:
        notes.append(f"{shown(path)} has {float(clock.fps):g} frames per second: the model sees {float(rate):g}")
    return FilmPicture(path, info, clock, rate, frames, width, height, tuple(notes))
