"""A found film written again with a new part in front of it: its own part is kept bit for bit wherever that can be."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...atomic_files import NewFile, clean_dead_temps
from ...clock import parse_fps, samples_of_seconds, seconds_of_frames
from ...errors import MediaError
from ...values import Waveform
from ..channels import Resampler, with_channels
from ..film_clock import film_clock, sound_tracks
from ..frames import uint8_frames
from ..paths import FilePath, as_media_error, check_source, check_target, opened, shown
from ..sound import AAC_BLOCK, AAC_RATES, LAYOUTS, USUAL_RATE
from ..sound_reader import iterate_sound
from ..video import VideoWriter
from ..video_reader import VideoInfo, pictures, video_info, video_stream
from .film_extension import film_packets, restored
from .found_film import first_frames
from .stream_copy import (
    CONTAINER_TAGS,
    PictureCopy,
    SoundHead,
    coded_frame,
    copied_track,
    copying_container,
    new_packets,
    picture_copy,
    sound_grid,
)


@dataclass(frozen=True, eq=False)
class NewHead:
    """What comes in front of a film. frames: chunks [n, H, W, 3], count of them in all, at fps. sound: from the first
    of them on; what of it reaches beyond the last is heard in place of the film's own."""

    frames: Iterable
    count: int
    fps: Fraction
    sound: Waveform | None = None

    @property
    def seconds(self) -> Fraction:
        """How long its pictures are shown."""
        return seconds_of_frames(self.count, self.fps)


def track_format(info: VideoInfo, sound: Waveform | None) -> tuple[int, int]:
    """Sample rate and channels of the whole film: the found one's where it has sound that AAC takes; 0: silent."""
    rate = info.sample_rate or (0 if sound is None else sound.sample_rate)
    channels = info.channels or (2 if sound is None else sound.samples.shape[0])
    if rate and rate not in AAC_RATES:
        rate = USUAL_RATE
    return rate, channels if channels in LAYOUTS else 2


def write_in_front(
    source: FilePath,
    path: FilePath,
    head: NewHead,
    *,
    crf: float = 18,
    metadata: Mapping[str, object] | None = None,
) -> tuple[str, ...]:
    """Write a film with a new part in front of it, as an MP4 that appears whole or not at all.

    Returns what was not kept as it is, one sentence each. H.264 pictures and AAC sound are. Raises MediaError.
    """
    source, path = check_source(source), check_target(path)
    if path.exists() and path.samefile(source):
        raise MediaError(f"cannot write {shown(path)}: it is the film that the new part goes in front of")
    info = video_info(source)
    with opened(source) as container:
        stream = video_stream(container, source)
        clock = film_clock(container, stream, source)
        copy = picture_copy(stream, next(container.decode(stream)), clock, parse_fps(head.fps), crf)
    tags = {k: v for k, v in info.metadata.items() if k not in CONTAINER_TAGS} | dict(metadata or {})
    clean_dead_temps(path.parent)
    with as_media_error(f"cannot write {shown(path)}"):
        if isinstance(copy, PictureCopy):
            return _copied(source, path, head, info, copy, tags)
        _encoded(source, path, head, info, (crf, tags))
    return (f"{shown(source)} is encoded anew: {copy}",)


def _copied(source: Path, path: Path, head: NewHead, info: VideoInfo, copy: PictureCopy, tags: dict) -> tuple[str, ...]:
    rate, channels = track_format(info, head.sound)
    file, container = NewFile(path, rescue=True), None
    notes: list[str] = []
    try:
        container = copying_container(file.temp, copy, rate, tags)
        with opened(source) as found:
            picture = copied_track(container, video_stream(found, source), copy)
            sound = _SoundInFront(container, found, source, info, head, (rate, channels)) if rate else None
            others = len(found.streams) - 1 - bool(info.sample_rate)
        if sound is not None:
            notes += sound.notes
        if others:
            notes.append(f"{others} further track(s) of {shown(source)} are left out")
        for stream, packet in _in_order(
            [((picture, one) for one in _pictures(source, head, copy, info)), () if sound is None else sound.packets()]
        ):
            packet.stream = stream
            container.mux(packet)
        container.close()
        file.finish()
    except BaseException:
        if container is not None:
            with contextlib.suppress(Exception):  # one that was never begun has no trailer to write
                container.close()
        file.discard()
        raise
    return tuple(notes)


def _in_order(tracks: Iterable[Iterable[tuple[Any, Any]]]) -> Iterator[tuple[Any, Any]]:
    """Packets of several tracks as they are needed in time."""
    begun = [(track, next(track, None)) for track in map(iter, tracks)]
    waiting = [(track, first) for track, first in begun if first is not None]
    while waiting:
        index = min(range(len(waiting)), key=lambda i: waiting[i][1][1].dts * waiting[i][1][1].time_base)
        track, one = waiting[index]
        yield one
        following = next(track, None)
        waiting[index : index + 1] = [] if following is None else [(track, following)]


def _pictures(source: Path, head: NewHead, copy: PictureCopy, info: VideoInfo) -> Iterator[Any]:
    """New packets, then the film's own behind them."""
    found = (packet for packet, is_picture in film_packets(source, sound=False) if is_picture)
    first = next(found)
    # pictures that are shown in another order than they come in enter earlier than they are shown
    early = round((first.pts - first.dts) * first.time_base / copy.time_base)
    at = 0
    for picture in _fitting(head, info):
        frame = coded_frame(picture, copy)
        frame.pts, frame.time_base = at, 1 / head.fps
        at += 1
        yield from _earlier(new_packets(copy, frame, Fraction(0)), early)
    yield from _earlier(new_packets(copy, None, Fraction(0)), early)
    for packet in itertools.chain([first], found):
        # in the new track's ticks, in which both clocks are exact
        times = (packet.pts, packet.dts, packet.duration or 0)
        shown_at, enters, lasts = (round(time * packet.time_base / copy.time_base) for time in times)
        shift = round(head.seconds / copy.time_base)
        packet.time_base = copy.time_base
        packet.pts, packet.dts, packet.duration = shown_at + shift, enters + shift, lasts
        yield packet


def _earlier(packets: Iterable[Any], early: int) -> Iterator[Any]:
    for packet in packets:
        packet.dts = packet.pts - early
        yield packet


def _fitting(head: NewHead, info: VideoInfo) -> Iterator[np.ndarray]:
    """The new pictures in the film's size. Raises MediaError where they are not as many as was said."""
    count = 0
    for chunk in head.frames:
        for picture in uint8_frames(chunk)[: max(0, head.count - count)]:
            count += 1
            yield restored(picture, info.height, info.width)
    if count != head.count:
        raise MediaError(f"the new part has {count} frames, expected {head.count}")


class _SoundInFront:
    """New sound, then the film's own blocks from the first on that can stay."""

    def __init__(self, container, found, source: Path, info: VideoInfo, head: NewHead, kind: tuple[int, int]):
        self._source, self._info, self._head, self._kind = source, info, head, kind
        rate, channels = kind
        track = sound_tracks(found)[0] if info.sample_rate else None
        grid = sound_grid(source) if track is not None and info.sample_rate == rate else None
        bit_rate = track.codec_context.bit_rate or 0 if track is not None else 0
        self._join = samples_of_seconds(head.seconds, rate)
        given = 0 if head.sound is None else _count(head.sound, rate) - self._join
        self.coder = SoundHead(rate, channels, grid, self._join, max(0, given), bit_rate=bit_rate)
        self.notes: tuple[str, ...] = ()
        if self.coder.keep_from is not None:
            self.stream = container.add_stream_from_template(track, opaque=True)
        else:
            self.stream = container.add_stream("aac", rate=rate, layout=LAYOUTS[channels])
            self.stream.bit_rate = max(bit_rate, 96_000 * channels)
            if track is not None:
                name = track.codec_context.name
                self.notes = (f"the sound of {shown(source)} ({name}) is encoded anew, its picture is kept",)

    def packets(self) -> Iterator[tuple[Any, Any]]:
        """All of the track."""
        coder = self.coder
        for samples in sound_behind(self._source, self._info, self._head, self._kind, until=coder.encoded_until):
            yield from ((self.stream, packet) for packet in coder.add(samples))
        yield from ((self.stream, packet) for packet in coder.finish())
        if coder.keep_from is None:
            return
        found = (packet for packet, is_picture in film_packets(self._source, sound=True) if not is_picture)
        for index, packet in enumerate(found):
            if index >= coder.keep_from:
                # the last one may be heard in part only
                heard = round(packet.duration * packet.time_base * self._kind[0]) if packet.duration else AAC_BLOCK
                packet.time_base = Fraction(1, self._kind[0])
                packet.pts = packet.dts = coder.found_sample(index)
                packet.duration = min(heard, AAC_BLOCK)
                yield self.stream, packet


def _count(sound: Waveform, rate: int) -> int:
    return round(Fraction(sound.samples.shape[1] * rate, sound.sample_rate))


def sound_behind(
    source: Path, info: VideoInfo, head: NewHead, kind: tuple[int, int], *, until: int | None = None
) -> Iterator[torch.Tensor]:
    """The whole film's sound [C, n] in pieces: the new one, then the found one from where that ends; silence where
    there is none. until: samples of the whole that are asked for; None: as long as the picture."""
    rate, channels = kind
    join = samples_of_seconds(head.seconds, rate)
    length = join + samples_of_seconds(seconds_of_frames(info.frames, info.fps), rate)
    length, at = length if until is None else min(length, until), 0

    def cut(samples: torch.Tensor) -> torch.Tensor:
        nonlocal at
        samples = samples[:, : max(0, length - at)]
        at += samples.shape[1]
        return samples

    if head.sound is not None:
        resampler = Resampler(head.sound.sample_rate, rate, channels)
        yield cut(resampler.take(with_channels(head.sound.samples.float(), channels)))
        yield cut(resampler.rest())
    if at < join:
        yield cut(torch.zeros(channels, join - at))
    if info.sample_rate and at < length:
        resampler = Resampler(info.sample_rate, rate, channels)
        begin, end = Fraction(at - join, rate), Fraction(length - join, rate)
        for piece in iterate_sound(source, begin, end - begin):
            yield cut(resampler.take(with_channels(piece.samples, channels)))
        yield cut(resampler.rest())
    while at < length:
        yield cut(torch.zeros(channels, min(length - at, 1 << 16)))


def _encoded(source: Path, path: Path, head: NewHead, info: VideoInfo, how: tuple[float, dict]) -> None:
    """The whole film encoded: the new part, then the film's own frames and sound."""
    rate, channels = kind = track_format(info, head.sound)
    height, width = info.height // 2 * 2, info.width // 2 * 2  # even, as H.264 needs it
    with VideoWriter(
        path, fps=head.fps, sample_rate=rate or None, channels=channels, crf=how[0], metadata=how[1]
    ) as writer:
        for samples in sound_behind(source, info, head, kind) if rate else ():
            if samples.shape[1]:
                writer.write_sound(Waveform(samples, rate))
        for picture in _fitting(head, info):
            writer.write_frames(picture[None, :height, :width])
        with opened(source) as container:
            stream = video_stream(container, source)
            clock = film_clock(container, stream, source)
            count = clock.frames if clock.constant and head.fps == clock.fps else max(1, round(clock.end * head.fps))
            for picture in pictures(container, stream, source, clock, first_frames(clock, head.fps, count)):
                writer.write_frames(picture[None, :height, :width])
