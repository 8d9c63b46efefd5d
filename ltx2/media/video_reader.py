"""Video files read frame by frame, each as it is meant to be seen; nothing lost, doubled or shifted at the ends."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..clock import samples_of_seconds, seconds_of_frames
from ..errors import Ltx2Warning, MediaError
from ..values import Waveform
from .film_clock import FilmClock, film_clock, film_start, picture_tracks, seek_before, sound_tracks
from .frames import decoded_picture, pixel_shape
from .images import MAX_PIXELS
from .paths import FilePath, opened, shown
from .sound_reader import iterate_sound, stated_end

MAX_CLIP_BYTES = 16 * 2**30  # read_video holds everything; longer films go through the iterators
_WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}  # primaries, by the same standard
_HDR = {16: "PQ", 18: "HLG"}  # transfer functions of the H.264 standard
_MOST_STAND_INS = 32  # frames that no decoder can give: those before the first keyframe, at most one group of them


@dataclass(frozen=True)
class VideoInfo:
    """What a video file shows: size upright and in square pixels, the constant clock it is read on, its exact frame
    count there, and samples per channel from frame 0 on; sample_rate 0 = no sound.

    codec: of the picture, as FFmpeg calls it. notes: what is not read as it is stored, one sentence each.
    """

    width: int
    height: int
    fps: Fraction
    frames: int
    sample_rate: int = 0
    channels: int = 0
    samples: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    codec: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clip:
    """Frames uint8 [N, H, W, 3], their rate, and the sound that belongs to them, if any. notes: what is not as it is
    stored, one sentence each."""

    frames: np.ndarray
    fps: Fraction
    sound: Waveform | None
    notes: tuple[str, ...] = ()


def video_info(path: FilePath) -> VideoInfo:
    """Size, rate, exact frame count, sound and tags of a video file; only its first frame is decoded. Raises
    MediaError."""
    with opened(path) as container:
        stream = video_stream(container, path)
        clock = film_clock(container, stream, path)
        metadata, codec = dict(container.metadata), stream.codec_context.name
        rate = channels = samples = 0
        for track in sound_tracks(container)[:1]:
            rate, channels = track.rate, track.channels
            end = stated_end(container, track)
            if end is None:  # not stated: the end of the last packet
                container.seek(0)
                ends = [p.pts + (p.duration or 0) for p in container.demux(track) if p.pts is not None]
                end = max(ends, default=0) * track.time_base
            samples = max(0, samples_of_seconds(end - film_start(container), rate))
        container.seek(0)
        first = next(iter(container.decode(stream)), None)
        if first is None:
            raise MediaError(f"{shown(path)} has no frame that can be decoded")
        shape = pixel_shape(stream)
        height, width = decoded_picture(first, shape).shape[:2]
        notes = [clock.note(shown(path))]
        if shape != 1:
            notes.append(
                f"{shown(path)} has pixels {float(shape):.3g} times as wide as high: it is read as {width}x{height}"
            )
        notes += [_lost_end(container, stream, shown(path)), *_picture_notes(first, stream, shown(path))]
    known = tuple(note for note in notes if note)
    return VideoInfo(width, height, clock.fps, clock.frames, rate, channels, samples, metadata, codec, known)


def _lost_end(container: Any, stream: Any, name: str) -> str:
    """What a film that is cut off says of its frames in an index at its beginning; empty where all are there."""
    ends = [entry.pos + entry.size for entry in getattr(stream, "index_entries", ())]  # older PyAV has none
    lost = sum(end > container.size > 0 for end in ends)
    if not lost:
        return ""
    return f"{name} is cut off, {lost} of its {len(ends)} frames are missing or broken: copy or download it again"


def _picture_notes(first: Any, stream: Any, name: str) -> Iterator[str]:
    """What is not seen as it is meant, by a film's first frame."""

    def stated(what: str) -> int:
        return int(getattr(first, what, None) or getattr(stream.codec_context, what, 0) or 0)

    pale = "its colours are taken as they are stored and look pale"
    if stated("color_trc") in _HDR:
        yield f"{name} is HDR ({_HDR[stated('color_trc')]}), {pale}: convert it to SDR"
    elif stated("color_primaries") in _WIDE:
        yield f"{name} has the wide colours of {_WIDE[stated('color_primaries')]}, {pale}: convert it to BT.709"
    if any(part.is_alpha for part in first.format.components) and first.to_ndarray(format="rgba")[..., 3].min() < 255:
        yield f"{name} has transparent parts, which are seen in the colour that is stored there: fill them first"
    if getattr(first, "interlaced_frame", False):
        fix = f"deinterlace it first (ffmpeg -i {name} -vf yadif NEW.mp4)"
        yield f"{name} is interlaced, what moves in it may have combs: {fix}"


def iterate_frames(path: FilePath, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] uint8 RGB in order, from frame ``start`` (negative: from the end), ``count`` of them or all.

    The n-th frame is the n-th that is shown, wherever the keyframes are; in a film whose rate varies, what is shown at
    n / fps (see :func:`video_info`). Upright, in square pixels. Holds one frame at a time. Raises MediaError when the
    file has fewer frames than asked for.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        clock = film_clock(container, stream, path)
        start, count = span(path, clock.frames, start, count)
        yield from pictures(container, stream, path, clock, map(clock.source_frame, range(start, start + count)))


def pictures(
    container: Any, stream: Any, path: FilePath, clock: FilmClock, wanted: Iterable[int]
) -> Iterator[np.ndarray]:
    """The frames of these indices in the order shown, which never fall, as RGB uint8 [H, W, 3].

    A frame that no decoder can give, such as one before the first keyframe, is shown as the one after it; in a
    recording whose size changes, as when a window is drawn larger, all have that of the first. Raises MediaError for a
    file that ends early.
    """
    shape, stored, size = pixel_shape(stream), (stream.width, stream.height), None
    wanted = iter(wanted)
    index = next(wanted, None)
    at = -1
    for at, frame in _decoded(container, stream, clock, index):
        if index is not None and at - index > _MOST_STAND_INS:
            raise MediaError(f"{shown(path)} is damaged: frames {index} to {at - 1} cannot be decoded")
        picture = None
        if size is None and (frame.width, frame.height) != stored:
            size = _first_size(path)
        while index is not None and index <= at:
            picture = decoded_picture(frame, shape, size) if picture is None else picture
            yield picture
            index = next(wanted, None)
        if index is None:
            return
    if index is not None:
        raise MediaError(f"{shown(path)} is damaged: it ends after {at + 1} of {len(clock.starts)} frames")


def _first_size(path: FilePath) -> tuple[int, int]:
    """Width and height of a film's first picture as it is stored."""
    with opened(path) as container:
        first = next(container.decode(video_stream(container, path)))
        return first.width, first.height


def _decoded(container, stream, clock: FilmClock, first: int | None) -> Iterator[tuple[int, Any]]:
    """(index in the order shown, frame) from frame ``first`` on, decoded from the keyframe before it."""
    if first is None:
        return
    stream.thread_type = "AUTO"
    if clock.ticks is None:  # frames without times can only be counted
        container.seek(0)
        yield from ((at, frame) for at, frame in enumerate(container.decode(stream)) if at >= first)
        return
    # Some files need more run-up: a keyframe may stand after frames that are shown later than it.
    second = round(1 / stream.time_base)
    for runup in (0, 2 * second, 10 * second, None) if first else (None,):
        if runup is None:
            container.seek(0)
        else:
            seek_before(container, int(clock.ticks[first]) - runup, stream)
        found = False
        for frame in container.decode(stream):
            at = first if frame.pts is None else int(np.searchsorted(clock.ticks, frame.pts, side="right")) - 1
            if at < first:
                found = True
                continue
            if not found and at > first and runup is not None:
                break
            found = True
            yield at, frame
        if found or runup is None:
            return


def read_video(path: FilePath, start: int = 0, count: int | None = None) -> Clip:
    """Frames ``start`` (negative: from the end) to ``start + count`` of a video, and the sound of just these frames.

    Without ``count`` the rest of the picture and of the sound track, which may be longer. What is not read as it is
    stored is told (Ltx2Warning, and the clip's notes). Raises MediaError for what is not a video, for frames that the
    file does not have, and above 16 GiB of frames (use :func:`iterate_frames`).
    """
    info = video_info(path)
    start, frames = span(path, info.frames, start, count)
    size = frames * info.height * info.width * 3
    if size > MAX_CLIP_BYTES:
        raise MediaError(
            f"{shown(path)}: {frames} frames need {size / 2**30:.0f} GiB at once, read fewer or iterate over them"
        )
    for note in info.notes:
        warnings.warn(note, Ltx2Warning, stacklevel=2)
    out = np.empty((frames, info.height, info.width, 3), np.uint8)
    for i, frame in enumerate(iterate_frames(path, start, frames)):
        out[i] = frame
    sound = None
    if info.sample_rate:
        seconds = None if count is None else seconds_of_frames(frames, info.fps)
        pieces = [p.samples for p in iterate_sound(path, seconds_of_frames(start, info.fps), seconds)]
        samples = torch.cat(pieces, dim=1) if pieces else torch.zeros(info.channels, 0)
        sound = Waveform(samples, info.sample_rate)
    return Clip(out, info.fps, sound, info.notes)


def span(path: FilePath, frames: int, start: int, count: int | None) -> tuple[int, int]:
    """First frame and count that are meant, of a film of so many frames. Raises MediaError."""
    first = start + frames if start < 0 else start
    wanted = frames - first if count is None else count
    if not 0 <= first < frames or wanted < 0 or first + wanted > frames:
        asked = f"from {start} on" if count is None else f"{count} from {start} on"
        raise MediaError(f"{shown(path)} has {frames} frames, asked for {asked}")
    return first, wanted


def video_stream(container: Any, path: FilePath) -> Any:
    """The picture track of an open file. Raises MediaError."""
    streams = picture_tracks(container)
    if not streams:
        raise MediaError(f"{shown(path)} has no picture track, expected a video: choose a file with a picture")
    stream = streams[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise MediaError(
            f"{shown(path)} has frames of {stream.width}x{stream.height}, above the bound of {MAX_PIXELS:,} pixels"
        )
    if not stream.width or not stream.height:
        codec = stream.codec_context.name
        raise MediaError(f"{shown(path)} is damaged, or of a kind that cannot be decoded ({codec}): convert it to MP4")
    return stream
