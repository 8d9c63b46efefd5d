"""A found film with another sound: its picture packet by packet as it is, the new track encoded beside it."""

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ...atomic_files import atomic_file, clean_dead_temps
from ...clock import samples_of_seconds
from ...errors import MediaError
from ...values import Waveform
from ..film_clock import film_clock
from ..paths import FilePath, as_media_error, check_target, opened, require_av, shown
from ..sound import AAC_BITS_PER_CHANNEL, AAC_BLOCK, AAC_RATES, LAYOUTS, checked_samples
from ..sound_frames import frame_of
from ..video_reader import video_stream
from .film_extension import film_packets
from .stream_copy import TICK_LIMIT

_IN_MP4 = ("h264", "hevc", "av1", "mpeg4", "vp9")  # pictures that an MP4 holds as they are
_TICKS_A_FRAME = 512


def check_picture_can_stay(path: FilePath) -> None:
    """Raises MediaError for a film whose picture no MP4 can hold as it is."""
    with opened(path) as container:
        codec = video_stream(container, path).codec_context.codec.canonical_name
    if codec not in _IN_MP4:
        raise MediaError(
            f"the picture of {shown(path)} is {codec}, which an MP4 cannot hold as it is: convert the film to H.264"
        )


def write_with_sound(
    source: FilePath, path: FilePath, sound: Iterable[Waveform], *, metadata: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Write a film with a new sound in place of its own, as an MP4 that appears whole or not at all. Returns what is
    left out, one sentence each.

    sound: pieces in order, all of one format that AAC takes; cut or filled with silence to the film's length. metadata:
    tags; the film's own stay. Raises MediaError.
    """
    check_picture_can_stay(source)
    path = check_target(path)
    with as_media_error(f"cannot write {shown(path)}"):
        clean_dead_temps(path.parent)
        with atomic_file(path) as file:
            return _write(source, Path(file.name), sound, metadata or {})


def _write(source: FilePath, partial: Path, sound: Iterable[Waveform], metadata: Mapping[str, Any]) -> tuple[str, ...]:
    av = require_av()
    pieces = iter(sound)
    first = next(pieces, None)
    if first is None:
        raise MediaError(f"there is no sound to write beside {shown(source)}")
    rate, channels = first.sample_rate, first.samples.shape[0]
    if rate not in AAC_RATES or channels not in LAYOUTS:
        raise MediaError(f"sound of {channels} channels at {rate} Hz is no AAC: resample it")
    with opened(source) as film:
        stream = video_stream(film, source)
        clock, base = film_clock(film, stream, source), stream.time_base
        if clock.constant:
            # the times of some containers are rounded to milliseconds, and the rate of an MP4 follows from its times
            base = 1 / Fraction(clock.fps.numerator * _TICKS_A_FRAME)
        ticks = math.lcm(base.denominator, rate)
        options = {
            "movflags": "faststart+use_metadata_tags",
            "video_track_timescale": str(base.denominator),
            "movie_timescale": str(ticks if ticks < TICK_LIMIT else rate),
        }
        tags = {**film.metadata, **metadata}
        others = len(film.streams) - 1
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(av.open(str(partial), "w", format="mp4", options=options))
        for key, value in tags.items():
            container.metadata[key] = value if isinstance(value, str) else json.dumps(value)
        film = stack.enter_context(opened(source))
        picture = container.add_stream_from_template(video_stream(film, source), opaque=True)
        track = container.add_stream("aac", rate=rate, layout=LAYOUTS[channels])
        track.bit_rate = AAC_BITS_PER_CHANNEL * channels
        for packet, _ in film_packets(source, sound=False):
            if clock.constant:
                _on_clock(packet, clock.fps, base)
            packet.stream = picture
            container.mux(packet)
        at, end = 0, samples_of_seconds(clock.end, rate)
        for block in _blocks([first], pieces, end, channels):
            frame = frame_of(block.clamp(-1, 1), LAYOUTS[channels], rate)
            frame.pts = at
            container.mux(track.encode(frame))
            at += block.shape[1]
        container.mux(track.encode(None))
    if not others:
        return ()
    what = "its own sound is" if others == 1 else f"{others} other tracks, its own sound among them, are"
    return (f"{shown(source)}: {what} left out",)


def _on_clock(packet: Any, fps: Fraction, base: Fraction) -> None:
    """The times of a packet of a film of constant rate, exact."""
    frame, each = 1 / fps, round(1 / fps / base)
    shown, entered = (round(time * packet.time_base / frame) for time in (packet.pts, packet.dts))
    packet.time_base = base
    packet.pts, packet.dts, packet.duration = shown * each, entered * each, each


def _blocks(first: list[Waveform], pieces: Iterable[Waveform], end: int, channels: int):
    """Blocks [C, 1024] of a sound, the last one shorter, ``end`` samples in all."""
    waiting, given = torch.zeros(channels, 0), 0
    for piece in (*first, *pieces):
        waiting = torch.cat([waiting, checked_samples(piece)], dim=1)
        while waiting.shape[1] >= AAC_BLOCK and end - given >= AAC_BLOCK:
            yield waiting[:, :AAC_BLOCK].contiguous()
            waiting, given = waiting[:, AAC_BLOCK:], given + AAC_BLOCK
    while given < end:
        count = min(AAC_BLOCK, end - given)
        yield torch.nn.functional.pad(waiting[:, :count], (0, max(0, count - waiting.shape[1]))).contiguous()
        waiting, given = waiting[:, count:], given + count
