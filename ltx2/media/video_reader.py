"""Video files read frame by frame and sample by sample, with nothing lost, doubled or shifted at the ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from ..atomic_files import reason
from ..clock import exact_seconds, samples_of_seconds, seconds_of_frames
from ..errors import MediaError
from ..values import Waveform
from .images import MAX_PIXELS
from .paths import check_source, require_av

MAX_CLIP_BYTES = 16 * 2**30  # read_video holds everything; longer films go through the iterators
_PREROLL_SECONDS = 1  # a sound decoder is exact only after a moment of run-up
_JUMP_SECONDS = Fraction(1, 10)  # timestamps that jump further mean silence; less is the container's rounding
_LONGEST_SILENCE_SECONDS = 3600
_PIECE_SAMPLES = 1 << 16


@dataclass(frozen=True)
class VideoInfo:
    """What a video file states: exact frame count, and samples per channel from frame 0 on; sample_rate 0 = no
    sound."""

    width: int
    height: int
    fps: Fraction
    frames: int
    sample_rate: int = 0
    channels: int = 0
    samples: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """Frames uint8 [N, H, W, 3], their rate, and the sound that belongs to them, if any."""

    frames: np.ndarray
    fps: Fraction
    sound: Waveform | None


def video_info(path) -> VideoInfo:
    """Size, rate, exact frame count, sound and tags of a video file, without decoding it. Raises MediaError."""
    with _opened(path) as container:
        stream = _video_stream(container, path)
        times = _frame_times(container, stream, path)
        fps = _fps(stream, path)
        metadata = dict(container.metadata)
        rate = channels = samples = 0
        if container.streams.audio:
            track = container.streams.audio[0]
            rate, channels = track.rate, track.channels
            end = _stated_end(container, track)
            if end is None:  # not stated: the end of the last packet
                container.seek(0)
                ends = [p.pts + (p.duration or 0) for p in container.demux(track) if p.pts is not None]
                end = max(ends, default=0) * track.time_base
            samples = max(0, samples_of_seconds(end - _start(container), rate))
    first = next(iterate_frames(path, 0, 1))
    return VideoInfo(first.shape[1], first.shape[0], fps, len(times), rate, channels, samples, metadata)


def iterate_frames(path, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] uint8 RGB in order, from frame ``start`` (negative: from the end), ``count`` of them or all.

    The n-th frame is the n-th that is shown, wherever the keyframes are. Holds one frame at a time. Raises MediaError
    when the file has fewer frames than asked for.
    """
    with _opened(path) as container:
        stream = _video_stream(container, path)
        stream.thread_type = "AUTO"
        first_time = None
        if start:
            times = _frame_times(container, stream, path)
            start, count = _span(path, len(times), start, count)
            first_time = times[start]
            container.seek(first_time, stream=stream)
        done = 0
        for frame in container.decode(stream) if count != 0 else ():
            if first_time is not None and frame.pts is not None and frame.pts < first_time:
                continue
            turned = np.rot90(frame.to_ndarray(format="rgb24"), getattr(frame, "rotation", 0) // 90)
            yield np.ascontiguousarray(turned)
            done += 1
            if done == count:
                return
        if count is not None and done < count:
            raise MediaError(f"{path} has {start + done} frames, {start + count} were asked for")


def iterate_sound(path, start_seconds=0, seconds=None) -> Iterator[Waveform]:
    """The sound track in pieces: float32 [C, n] in -1…1 at the file's rate, consecutive and sample-exact.

    Time 0 is the first frame of the picture (of the sound where there is no picture). With ``seconds`` the pieces add
    up to exactly round((start + seconds) · rate) − round(start · rate) samples, silence after the track's end; else
    they run to its end. Gaps are silence. Encoder delay and padding are left out. Raises MediaError.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path} has no sound track")
        track = container.streams.audio[0]
        rate, channels = track.rate, track.channels
        begin = exact_seconds(start_seconds)
        cursor = samples_of_seconds(begin, rate)  # the next sample to hand out
        end = None if seconds is None else samples_of_seconds(begin + exact_seconds(seconds), rate)
        zero = _start(container)
        stated = _stated_end(container, track)
        last = end  # nothing of the track counts from here on: padding of the encoder
        if stated is not None:
            stated = samples_of_seconds(stated - zero, rate)
            last = stated if end is None else min(end, stated)
        if begin > _PREROLL_SECONDS:
            container.seek(int((begin - _PREROLL_SECONDS + zero) / track.time_base), stream=track)
        waiting: list[torch.Tensor] = []
        position = None  # of the decoded frame, in samples from time 0
        for frame in container.decode(track):
            piece = _float_samples(frame)
            if frame.sample_rate != rate or piece.shape[0] != channels:
                raise MediaError(f"{path} changes its sound format on the way, which cannot be read")
            stamp = position
            if frame.pts is not None:
                stamp = round((frame.pts * frame.time_base - zero) * rate)
            if position is None or abs(stamp - position) > _JUMP_SECONDS * rate:
                position = stamp or 0
            if last is not None and position >= last:
                break
            if position > cursor:
                silence = position - cursor
                if silence > _LONGEST_SILENCE_SECONDS * rate:
                    raise MediaError(f"{path} has a hole of {silence / rate:.0f} s in its sound, which cannot be right")
                waiting.append(torch.zeros(channels, silence))
                cursor += silence
            used = piece[:, max(0, cursor - position) : None if last is None else last - position]
            position += piece.shape[1]
            cursor += used.shape[1]
            waiting.append(used)
            if sum(p.shape[1] for p in waiting) >= _PIECE_SAMPLES:
                yield Waveform(torch.cat(waiting, dim=1), rate)
                waiting = []
        missing = max(0, (end if end is not None else stated or 0) - cursor)
        while missing:
            waiting.append(torch.zeros(channels, min(missing, _PIECE_SAMPLES)))
            missing -= waiting[-1].shape[1]
            yield Waveform(torch.cat(waiting, dim=1), rate)
            waiting = []
        if any(p.shape[1] for p in waiting):
            yield Waveform(torch.cat(waiting, dim=1), rate)


def read_sound(path) -> Waveform:
    """The first sound track of any file that PyAV reads: float32 [C, N] in -1…1 at the file's own rate. Raises
    MediaError."""
    pieces = list(iterate_sound(path))
    if not pieces:
        raise MediaError(f"{path} has a sound track without samples")
    return Waveform(torch.cat([p.samples for p in pieces], dim=1), pieces[0].sample_rate)


def read_video(path, start: int = 0, count: int | None = None) -> Clip:
    """Frames ``start`` (negative: from the end) to ``start + count`` of a video, and the sound of just these frames.

    Without ``count`` the rest of the picture and of the sound track, which may be longer. Raises MediaError for what is
    not a video, for frames that the file does not have, and above 16 GiB of frames (use :func:`iterate_frames`).
    """
    info = video_info(path)
    start, frames = _span(path, info.frames, start, count)
    size = frames * info.height * info.width * 3
    if size > MAX_CLIP_BYTES:
        raise MediaError(
            f"{path}: {frames} frames need {size / 2**30:.0f} GiB at once, read fewer or iterate over them"
        )
    out = np.empty((frames, info.height, info.width, 3), np.uint8)
    done = 0
    for frame in iterate_frames(path, start, frames):
        out[done] = frame
        done += 1
    sound = None
    if info.sample_rate:
        seconds = None if count is None else seconds_of_frames(frames, info.fps)
        pieces = [p.samples for p in iterate_sound(path, seconds_of_frames(start, info.fps), seconds)]
        samples = torch.cat(pieces, dim=1) if pieces else torch.zeros(info.channels, 0)
        sound = Waveform(samples, info.sample_rate)
    return Clip(out, info.fps, sound)


def _span(path, frames: int, start: int, count: int | None) -> tuple[int, int]:
    first = start + frames if start < 0 else start
    wanted = frames - first if count is None else count
    if not 0 <= first < frames or wanted < 0 or first + wanted > frames:
        asked = f"from {start} on" if count is None else f"{count} from {start} on"
        raise MediaError(f"{path} has {frames} frames, asked for {asked}")
    return first, wanted


@contextmanager
def _opened(path):
    av = require_av()
    path = check_source(path)
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(f"{path} is damaged or no video or sound file ({reason(error)})") from error


def _video_stream(container, path):
    if not container.streams.video:
        raise MediaError(f"{path} has no picture track")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise MediaError(
            f"{path} has frames of {stream.width}x{stream.height}, above the bound of {MAX_PIXELS:,} pixels"
        )
    return stream


def _fps(stream, path) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not rate:
        raise MediaError(f"{path} does not state a frame rate")
    return Fraction(rate)


def _frame_times(container, stream, path) -> list[int]:
    """Presentation times of all frames in the order shown, from the packets alone."""
    packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
    if any(p.pts is None for p in packets):
        raise MediaError(f"{path} has frames without a time: convert it to MP4 first")
    if not packets:
        raise MediaError(f"{path} has no frames")
    container.seek(0)
    return sorted(p.pts for p in packets)


def _start(container) -> Fraction:
    """Seconds on the container's clock at which frame 0 is shown."""
    stream = (container.streams.video or container.streams.audio)[0]
    return (stream.start_time or 0) * stream.time_base


def _stated_end(container, track) -> Fraction | None:
    """End of the sound on the container's clock where it is exact. MP4 states it in its edit list; elsewhere the
    decoder drops the padding itself and a stated duration may be a guess."""
    if "mp4" not in container.format.name or not track.duration:
        return None
    return ((track.start_time or 0) + track.duration) * track.time_base


def _float_samples(frame) -> torch.Tensor:
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T  # [C, N]
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif array.dtype.kind == "i":
        array = array / 2.0 ** (8 * array.dtype.itemsize - 1)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
