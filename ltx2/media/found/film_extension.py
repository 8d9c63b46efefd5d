"""A found film written again with a new part behind it: its own part is kept bit for bit wherever that can be."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...atomic_files import NewFile, clean_dead_temps
from ...clock import exact_seconds, parse_fps, samples_of_seconds, seconds_of_frames
from ...errors import MediaError, RequestError
from ...values import Waveform
from ..channels import Resampler, with_channels
from ..film_clock import FilmClock, film_clock, sound_tracks
from ..frames import Pixels, uint8_frames
from ..paths import FilePath, as_media_error, check_source, check_target, opened, shown
from ..sound import AAC_BLOCK, AAC_RATES, LAYOUTS, USUAL_RATE, checked_samples
from ..sound_reader import iterate_sound
from ..video import VideoWriter
from ..video_reader import VideoInfo, pictures, video_info, video_stream
from .found_film import fitted, last_frames, model_rate
from .stream_copy import (
    CONTAINER_TAGS,
    PictureCopy,
    SoundTail,
    coded_frame,
    copied_track,
    copying_container,
    new_packets,
    picture_copy,
    sound_grid,
)

_EDGE = 0.02  # of a side: so narrow a strip that a model did not see is filled from its edge


@dataclass(frozen=True)
class Kept:
    """How much of a film stays, in seconds of its clock; None: all of it.

    sound: from here on the sound that is given counts. picture: frames from here on are given; the film is kept up to a
    place before that at which its packets can be cut.
    """

    sound: float | Fraction | None = None
    picture: float | Fraction | None = None


class FilmExtension:
    """Writes a found film with new frames and sound behind what is kept of it, as an MP4 that appears whole or not at
    all.

    source: the film. path: the new file. kept: of the film. fps: of the new frames; None: see found_film.model_rate.
    sample_rate, channels: of the track where the film has no sound; None leaves such a film silent. crf: quality of
    what is encoded. metadata: tags; the film's own stay.

    H.264 pictures and AAC sound are kept as they are; what cannot be kept is encoded anew, and ``notes`` say so.
    ``size`` (width, height), ``end_seconds`` (of the kept frames, of which there are ``kept_frames``), ``fps``,
    ``sample_rate`` and ``channels`` are those of the film. Use it in a ``with`` block. Every method raises MediaError.
    """

    def __init__(
        self,
        source: FilePath,
        path: FilePath,
        *,
        fps: object = None,
        kept: Kept = Kept(),  # noqa: B008 (frozen)
        sample_rate: int | None = None,
        channels: int = 2,
        crf: float = 18,
        metadata: Mapping[str, object] | None = None,
    ):
        self.source, self.path = check_source(source), check_target(path)
        if self.path.exists() and self.path.samefile(self.source):
            raise MediaError(f"cannot write {shown(self.path)}: it is the film that is gone on from, use another name")
        info = video_info(self.source)
        self.size, self.frames = (info.width, info.height), 0
        self._crf, self._ended = crf, False
        with opened(self.source) as container:
            stream = video_stream(container, self.source)
            clock = film_clock(container, stream, self.source)
            self.fps = model_rate(clock.fps) if fps is None else parse_fps(fps)
            copy = picture_copy(stream, next(container.decode(stream)), clock, self.fps, crf)
        self.end_seconds, self.kept_frames = clock.end, clock.frames
        begin = clock.end if kept.sound is None else exact_seconds(kept.sound)
        if not 0 <= begin <= clock.end:
            raise RequestError(
                f"the new sound is to begin at {float(begin):.3f} s, the film ends at {float(clock.end):.3f} s"
            )
        self.sample_rate: int = info.sample_rate or sample_rate or 0
        self.channels = info.channels or channels
        if self.sample_rate and self.sample_rate not in AAC_RATES:
            self.sample_rate = USUAL_RATE
        if self.channels not in LAYOUTS:
            self.channels = 2
        tags = {k: v for k, v in info.metadata.items() if k not in CONTAINER_TAGS} | dict(metadata or {})
        self.copied = isinstance(copy, PictureCopy)
        self._cut: int | None = None  # how many packets of the picture are kept
        if kept.picture is not None and exact_seconds(kept.picture) < clock.end:
            at = exact_seconds(kept.picture)
            if self.copied:
                self._cut, at = _place_to_cut(self.source, at)
            self.kept_frames = round(at * clock.fps)
            self.end_seconds = at if self.copied else seconds_of_frames(self.kept_frames, clock.fps)
        self._only_sound = kept.sound is not None and begin < self.end_seconds and kept.picture is None
        self._resampler: Resampler | None = None
        self._writer: _CopyingWriter | _EncodingWriter | None = None
        with self._whole_or_nothing():
            clean_dead_temps(self.path.parent)
            if isinstance(copy, PictureCopy):
                self._writer = copying = _CopyingWriter(self)
                copying.take_over(info, copy, begin, tags)
                self.notes: tuple[str, ...] = copying.notes
            else:
                self._writer = encoding = _EncodingWriter(self, tags)
                encoding.take_over(info, clock, begin)
                self.notes = (f"{shown(self.source)} is encoded anew: {copy}",)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.close()
        else:
            self.abort()

    def write_frames(self, chunk: Pixels) -> None:
        """Append frames in any of the layouts of frames.uint8_frames; of any size, they are brought to the film's."""
        with self._open() as writer:
            for frame in uint8_frames(chunk):
                writer.frame(restored(frame, self.size[1], self.size[0]))
                self.frames += 1

    def write_sound(self, sound: Waveform) -> None:
        """Append sound of any rate and channel count, from ``sound_from`` on; it may run ahead of the picture."""
        with self._open() as writer:
            if not self.sample_rate:
                raise MediaError(f"{shown(self.path)} was begun without sound: pass sample_rate to write sound")
            samples = with_channels(checked_samples(sound), self.channels)
            if self._resampler is None:
                self._resampler = Resampler(sound.sample_rate, self.sample_rate, self.channels)
            elif self._resampler.from_rate != sound.sample_rate:
                raise MediaError(
                    f"sound for {shown(self.path)} began at {self._resampler.from_rate} Hz and goes on at "
                    f"{sound.sample_rate} Hz"
                )
            writer.sound(self._resampler.take(samples))

    def close(self) -> Path:
        """Finish the film; the sound is as long as the picture to the sample. Returns the path."""
        if self._ended:
            return self.path
        with self._open() as writer:
            if not self.frames and not self._only_sound:
                raise MediaError(f"there are no new frames to write to {shown(self.path)}")
            if self._resampler is not None:
                writer.sound(self._resampler.rest())
            writer.finish(self.end_seconds + seconds_of_frames(self.frames, self.fps))
            self._writer, self._ended = None, True
        return self.path

    def abort(self) -> None:
        """Throw away what was written; the path is left as it was before."""
        writer, self._writer = self._writer, None
        self._ended = True
        if writer is not None:
            writer.abort()

    @contextlib.contextmanager
    def _whole_or_nothing(self) -> Iterator[None]:
        """Any error or interruption throws the half file away; errors of files and codecs become one sentence."""
        try:
            with as_media_error(f"cannot write {shown(self.path)}"):
                yield
        except BaseException:
            self.abort()
            raise

    @contextlib.contextmanager
    def _open(self) -> Iterator["_CopyingWriter | _EncodingWriter"]:
        if self._writer is None:
            raise MediaError(f"{shown(self.path)} is closed already")
        with self._whole_or_nothing():
            yield self._writer


def restored(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A model's picture [h, w, 3] uint8 in the size of the film it goes on from: the way back of found_film.fitted.

    What was cut off there is filled from the edge where it is narrow; else the picture is scaled to cover.
    """
    if picture.shape[:2] == (height, width):
        return picture
    high, wide = picture.shape[:2]
    scale = min(height / high, width / wide)
    inner = min(height, round(high * scale)), min(width, round(wide * scale))
    if inner[0] < height * (1 - _EDGE) or inner[1] < width * (1 - _EDGE):
        return fitted(picture, height, width)
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    pixels = F.interpolate(pixels, size=inner, mode="bicubic", align_corners=False, antialias=inner[0] < high)
    above, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    around = (left, width - inner[1] - left, above, height - inner[0] - above)
    return F.pad(pixels, around, mode="replicate")[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


class _CopyingWriter:
    """The film's own packets, then new ones in the same tracks."""

    notes: tuple[str, ...]
    copy: PictureCopy
    track: "_ExtendedSound | None"

    def __init__(self, film: FilmExtension):
        self.film, self.file = film, NewFile(film.path, rescue=True)
        self.container: Any = None

    def take_over(self, info: VideoInfo, copy: PictureCopy, begin: Fraction, tags: dict) -> None:
        """Begin the file with the film's own packets."""
        film, self.copy = self.film, copy
        rate = film.sample_rate
        self.container = copying_container(self.file.temp, copy, rate, tags)
        with opened(film.source) as source:
            self.picture = copied_track(self.container, video_stream(source, film.source), copy)
            self.track = _ExtendedSound(film, self.container, source, info, begin) if rate else None
            others = len(source.streams) - 1 - bool(info.sample_rate)
        self.notes = self.track.notes if self.track is not None else ()
        if others:
            self.notes += (f"{others} further track(s) of {shown(film.source)} are left out",)
        pictures_kept = 0
        for packet, is_picture in film_packets(film.source, sound=self.track is not None and self.track.tail.keep > 0):
            if is_picture:
                if film._cut is not None and pictures_kept >= film._cut:
                    continue
                pictures_kept += 1
                packet.stream = self.picture
                self.container.mux(packet)
            elif self.track is not None:
                self.track.keep(packet)
        if self.track is not None:
            self.track.write_found(info.sample_rate)

    def frame(self, picture: np.ndarray) -> None:
        frame = coded_frame(picture, self.copy)
        frame.pts, frame.time_base = self.film.frames, 1 / self.film.fps
        self._mux(frame)

    def sound(self, samples: torch.Tensor) -> None:
        if self.track is not None:
            self.track.mux(self.track.tail.add(samples))

    def finish(self, end: Fraction) -> None:
        self._mux(None)
        if self.track is not None:
            self.track.mux(self.track.tail.finish(samples_of_seconds(end, self.film.sample_rate)))
        self.container.close()
        self.file.finish()

    def abort(self) -> None:
        if self.container is not None:
            with contextlib.suppress(Exception):  # one that was never begun has no trailer to write
                self.container.close()
        self.file.discard()

    def _mux(self, frame: Any) -> None:
        for packet in new_packets(self.copy, frame, self.film.end_seconds):
            packet.stream = self.picture
            self.container.mux(packet)


class _ExtendedSound:
    """The sound of a film that is copied: its own blocks as far as they can stay, then new ones."""

    def __init__(self, film: FilmExtension, container: Any, source: Any, info: VideoInfo, begin: Fraction):
        self.film, self.container = film, container
        self.notes: tuple[str, ...] = ()
        found = sound_tracks(source)[0] if info.sample_rate else None
        bit_rate = found.codec_context.bit_rate or 0 if found is not None else 0
        grid = sound_grid(film.source) if found is not None else None
        join = samples_of_seconds(begin, film.sample_rate)
        self.tail = SoundTail(film.sample_rate, film.channels, grid, join, bit_rate=bit_rate)
        if self.tail.keep:
            self.stream = container.add_stream_from_template(found, opaque=True)
        else:
            self.stream = container.add_stream("aac", rate=film.sample_rate, layout=LAYOUTS[film.channels])
            self.stream.bit_rate = max(bit_rate, 96_000 * film.channels)
        if found is not None and not self.tail.keep:
            codec = found.codec_context.name
            self.notes = (f"the sound of {shown(film.source)} ({codec}) is encoded anew, its picture is kept",)
        self._kept = 0

    def keep(self, packet: Any) -> None:
        """Take a found block over, if it is one of those that stay."""
        if self._kept < self.tail.keep:
            packet.time_base = Fraction(1, self.film.sample_rate)
            packet.pts = packet.dts = self.tail.kept_sample(self._kept)
            packet.duration = AAC_BLOCK
            self._kept += 1
            self.mux([packet])

    def write_found(self, rate: int) -> None:
        """Encode the film's own sound (of this sample rate; 0: it has none) from behind the kept blocks up to the
        join."""
        tail, film = self.tail, self.film
        self.mux(tail.fill(min(0, tail.join)))
        if rate and tail.join > tail.given:
            resampler = Resampler(rate, film.sample_rate, film.channels)
            first, last = (Fraction(sample, film.sample_rate) for sample in (tail.given, tail.join))
            for piece in iterate_sound(film.source, first, last - first):
                self.mux(tail.add(resampler.take(with_channels(piece.samples, film.channels))))
            self.mux(tail.add(resampler.rest()))
        self.mux(tail.fill(tail.join))

    def mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            packet.stream = self.stream
            self.container.mux(packet)


def film_packets(path: FilePath, *, sound: bool) -> Iterator[tuple[Any, bool]]:
    """A film's packets as they lie in the file, and whether they are of the picture; picture times from frame 0 on."""
    with opened(path) as container:
        stream = video_stream(container, path)
        zero = stream.start_time or 0
        times = [(packet.pts - zero, packet.dts) for packet in container.demux(stream) if packet.size]
    entries = iter(_entry_times([pts for pts, _ in times]) if any(dts is None for _, dts in times) else ())
    with opened(path) as container:
        stream = video_stream(container, path)
        for packet in container.demux([stream, *([sound_tracks(container)[0]] if sound else [])]):
            if not packet.size:
                continue
            is_picture = packet.stream.index == stream.index
            if is_picture:
                packet.dts = next(entries, None if packet.dts is None else packet.dts - zero)
                packet.pts -= zero
            yield packet, is_picture


def _place_to_cut(path: FilePath, before: Fraction) -> tuple[int, Fraction]:
    """How many packets of a film's picture stand before the last keyframe at or before a time behind which nothing
    is shown earlier than it, and when that is shown."""
    with opened(path) as container:
        stream = video_stream(container, path)
        zero = stream.start_time or 0
        found = [((p.pts - zero) * stream.time_base, p.is_keyframe) for p in container.demux(stream) if p.size]
    best, earliest = (0, Fraction(0)), None
    for index in range(len(found) - 1, -1, -1):
        time, key = found[index]
        earliest = time if earliest is None else min(time, earliest)
        if key and time <= before and time == earliest:
            best = (index, Fraction(time))
            break
    return best


def _entry_times(shown_times: list[int]) -> list[int]:
    """When each frame enters the decoder, where a file does not say: evenly, and before it is shown."""
    in_order = sorted(shown_times)
    delay = max(late - time for late, time in zip(in_order, shown_times))
    return [time - delay for time in in_order]


class _EncodingWriter:
    """The film's own frames and sound decoded and encoded again, then the new ones."""

    def __init__(self, film: FilmExtension, tags: dict):
        self.film = film
        width, height = film.size[0] // 2 * 2, film.size[1] // 2 * 2
        self.film.size = (width, height)  # even, as H.264 needs it
        self.writer = VideoWriter(
            film.path,
            fps=film.fps,
            sample_rate=film.sample_rate or None,
            channels=film.channels,
            crf=film._crf,
            metadata=tags,
        )

    def take_over(self, info: VideoInfo, clock: FilmClock, begin: Fraction) -> None:
        """Begin the file with the film, encoded anew."""
        film = self.film
        width, height = film.size
        if film.sample_rate:
            self._found_sound(info, samples_of_seconds(begin, film.sample_rate))
        with opened(film.source) as container:
            stream = video_stream(container, film.source)
            kept = clock.constant and film.fps == clock.fps
            count = clock.frames if kept else max(1, round(clock.end * film.fps))
            chosen = last_frames(clock, film.fps, count)
            if film.kept_frames < clock.frames:
                chosen = chosen[: round(film.end_seconds * film.fps)]
            for picture in pictures(container, stream, film.source, clock, chosen):
                self.writer.write_frames(picture[:height, :width])
        film.end_seconds = seconds_of_frames(self.writer.frames, film.fps)

    def _found_sound(self, info: VideoInfo, join: int) -> None:
        film, given = self.film, 0
        if info.sample_rate:
            resampler = Resampler(info.sample_rate, film.sample_rate, film.channels)
            for piece in iterate_sound(film.source, 0, Fraction(join, film.sample_rate)):
                given += self._write(resampler.take(with_channels(piece.samples, film.channels)))
            given += self._write(resampler.rest())
        while given < join:
            given += self._write(torch.zeros(film.channels, min(join - given, 1 << 16)))

    def _write(self, samples: torch.Tensor) -> int:
        if samples.shape[1]:
            self.writer.write_sound(Waveform(samples, self.film.sample_rate))
        return samples.shape[1]

    def frame(self, picture: np.ndarray) -> None:
        self.writer.write_frames(picture)

    def sound(self, samples: torch.Tensor) -> None:
        self._write(samples)

    def finish(self, end: Fraction) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.abort()
