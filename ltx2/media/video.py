"""A film written while it is made: H.264 and AAC in MP4 with exact frame and sample counts, or a folder of PNG."""

import contextlib
import json
import math
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from ..atomic_files import NewFile, clean_dead_temps, new_folder
from ..clock import parse_fps, samples_of_frames, seconds_of_frames
from ..errors import Ltx2Warning, MediaError
from ..values import Waveform
from .frames import Pixels, uint8_frames
from .paths import FilePath, as_media_error, check_target, require_av, shown
from .sound import AAC_BITS_PER_CHANNEL, AAC_BLOCK, AAC_RATES, LAYOUTS, checked_samples, fill_wav
from .sound_frames import frame_of

# Of small pictures libx264's macroblock tree makes now one file and now another: seen with sides of up to 96, never in
# hundreds of films with both of 128 and more. Without it the same frames always make the same file.
_SMALL_SIDE = 128
_BT709, _LIMITED = 1, 1  # numbers of the H.264 standard: colour matrix, primaries and transfer of HD video; 16…235


class VideoWriter:
    """Writes an MP4 frame by frame; frames and sound may come in any order and in pieces.

    path: the file, which appears whole at the end or not at all; name: what errors call it, by default its path. fps:
    see clock.parse_fps. sample_rate: of the sound to come, None for a silent film. channels: 1, 2, 6 or 8. crf: H.264
    quality, lower is better. metadata: tags; values that are not text become JSON. Sound is as long as the picture to
    the sample: round(frames / fps · rate); missing sound becomes silence, and sound after the last frame is left out
    with a warning. Use it in a ``with`` block. Every method raises MediaError.

    Sound ahead of the picture waits as the tensors that were handed in; the picture never waits.
    """

    def __init__(
        self,
        path,
        *,
        fps,
        sample_rate: int | None = None,
        channels: int = 2,
        crf: float = 18,
        preset: str = "medium",
        metadata: Mapping[str, object] | None = None,
        name: str | None = None,
    ):
        av = require_av()
        self.path = check_target(path)
        self.name = name or shown(self.path)
        self.fps = parse_fps(fps)
        self.sample_rate = sample_rate
        self.channels = channels
        self.frames = 0  # written so far
        self._samples = 0  # given to the encoder so far
        self._waiting: deque[torch.Tensor] = deque()
        if sample_rate is not None and sample_rate not in AAC_RATES:
            raise MediaError(
                f"sound has {sample_rate} samples per second, MP4 takes {', '.join(map(str, AAC_RATES))}: resample it"
            )
        if sample_rate is not None and channels not in LAYOUTS:
            raise MediaError(f"sound has {channels} channels, expected {', '.join(map(str, LAYOUTS))}")
        # The edit list states the length of the sound in ticks of the movie clock. With the default of 1/1000 s it
        # could not be exact to the sample.
        ticks = math.lcm(sample_rate or 1000, self.fps.numerator)
        options = {
            "movflags": "faststart+use_metadata_tags",
            "movie_timescale": str(ticks if ticks < 2**31 else sample_rate or 1000),
        }
        self._container = None
        self._picture = None
        self._colours = av.video.reformatter.VideoReformatter()  # one for all frames: making one takes long
        self._file: NewFile | None = None
        with self._whole_or_nothing():
            clean_dead_temps(self.path.parent)
            self._file = NewFile(self.path, rescue=True)
            self._container = av.open(str(self._file.temp), "w", format="mp4", options=options)
            for key, value in (metadata or {}).items():
                self._container.metadata[key] = value if isinstance(value, str) else json.dumps(value)
            self._picture = self._container.add_stream(
                "libx264", rate=self.fps, options={"crf": str(crf), "preset": preset}
            )
            self._picture.pix_fmt = "yuv420p"
            context = self._picture.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
            self._track = None
            if sample_rate is not None:
                self._track = self._container.add_stream("aac", rate=sample_rate, layout=LAYOUTS[channels])
                self._track.bit_rate = AAC_BITS_PER_CHANNEL * channels

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.close()
        else:
            self.abort()

    def write_frames(self, chunk: Pixels) -> None:
        """Append frames in any of the layouts of frames.uint8_frames. The first chunk sets the size, which must be
        even."""
        with self._open():
            av = require_av()
            for frame in uint8_frames(chunk):
                self._check_size(frame)
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture = self._colours.reformat(
                    picture, format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
                )
                picture.pts, picture.time_base = self.frames, 1 / self.fps
                self._container.mux(self._picture.encode(picture))
                self.frames += 1
                self._write_waiting(samples_of_frames(self.frames, self.fps, self.sample_rate or 1))

    def write_sound(self, sound: Waveform) -> None:
        """Append sound; it may run ahead of the picture or follow it."""
        with self._open():
            if self._track is None:
                raise MediaError(f"{self.name} was begun without sound: pass sample_rate to write sound")
            samples = checked_samples(sound)
            if (sound.sample_rate, samples.shape[0]) != (self.sample_rate, self.channels):
                raise MediaError(
                    f"sound for {self.name} has {samples.shape[0]} channels at {sound.sample_rate} Hz, the file "
                    f"was begun with {self.channels} at {self.sample_rate} Hz"
                )
            self._waiting.append(samples)
            self._write_waiting(samples_of_frames(self.frames, self.fps, self.sample_rate))

    def close(self) -> Path:
        """Finish the film: sound to the picture's length, everything on disk, the file under its name. Returns the
        path."""
        if self._container is None or self._file is None:
            return self.path
        with self._open():
            if not self.frames:
                raise MediaError(f"there are no frames to write to {self.name}")
            if self._track is not None:
                self._finish_sound()
                self._container.mux(self._track.encode(None))
            self._container.mux(self._picture.encode(None))
            self._container.close()
            self._file.finish()
            self._container = None
        return self.path

    def abort(self) -> None:
        """Throw away what was written; the path is left as it was before."""
        container, self._container = self._container, None
        self._waiting.clear()
        if container is not None:
            # one that was never begun has no trailer to write, and where memory ran out there is none for it either
            with contextlib.suppress(Exception):
                container.close()
        if self._file is not None:
            self._file.discard()

    @contextlib.contextmanager
    def _whole_or_nothing(self) -> Iterator[None]:
        """Any error or interruption inside throws the half file away; those of the file system become one sentence."""
        try:
            with as_media_error(f"cannot write {self.name}"):  # PyAV's errors are OSErrors too
                yield
        except BaseException:
            self.abort()
            raise

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        if self._container is None:
            raise MediaError(f"{self.name} is closed already")
        with self._whole_or_nothing():
            yield

    def _check_size(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if not self.frames:
            if height % 2 or width % 2:
                raise MediaError(
                    f"frames are {width}x{height}, H.264 needs even sides: use {max(2, width // 2 * 2)}x"
                    f"{max(2, height // 2 * 2)}"
                )
            self._picture.width, self._picture.height = width, height
            if small := reproducible(width, height):
                context = self._picture.codec_context
                context.options = {**context.options, "x264-params": ":".join(small)}
        elif (width, height) != (self._picture.width, self._picture.height):
            raise MediaError(
                f"frame {self.frames} is {width}x{height}, the film was begun with {self._picture.width}x"
                f"{self._picture.height}"
            )

    def _write_waiting(self, limit: int) -> None:
        """Encode whole blocks of the waiting sound as far as the picture reaches."""
        while self._track is not None and self._samples + AAC_BLOCK <= limit and self._waiting_samples() >= AAC_BLOCK:
            self._encode_sound(self._take(AAC_BLOCK))

    def _finish_sound(self) -> None:
        end = samples_of_frames(self.frames, self.fps, self.sample_rate)
        over = self._samples + self._waiting_samples() - end
        if over > samples_of_frames(1, self.fps, self.sample_rate):  # less than a frame is only rounding
            warnings.warn(
                f"{over / self.sample_rate:.2f} s of sound after the last frame of {self.name} are left "
                f"out (picture {float(seconds_of_frames(self.frames, self.fps)):.2f} s)",
                Ltx2Warning,
                stacklevel=3,
            )
        while self._samples < end:
            samples = self._take(min(AAC_BLOCK, end - self._samples))
            self._encode_sound(samples)

    def _waiting_samples(self) -> int:
        return sum(piece.shape[1] for piece in self._waiting)

    def _take(self, count: int) -> torch.Tensor:
        """The next samples of the waiting sound, silence where it ends."""
        parts, missing = [], count
        while missing and self._waiting:
            piece = self._waiting.popleft()
            parts.append(piece[:, :missing])
            if piece.shape[1] > missing:
                self._waiting.appendleft(piece[:, missing:])
            missing -= parts[-1].shape[1]
        return torch.cat([*parts, torch.zeros(self.channels, missing)], dim=1)

    def _encode_sound(self, samples: torch.Tensor) -> None:
        frame = frame_of(samples.clamp(-1, 1), LAYOUTS[self.channels], self.sample_rate)
        frame.pts = self._samples
        self._container.mux(self._track.encode(frame))
        self._samples += samples.shape[1]


def reproducible(width: int, height: int) -> tuple[str, ...]:
    """What libx264 must be told so that pictures of this size give the same file every time."""
    return ("mbtree=0",) if min(width, height) < _SMALL_SIDE else ()


def write_video(
    path: FilePath,
    frames: Pixels | Iterable[Pixels],
    *,
    fps: object,
    sound: Waveform | None = None,
    crf: float = 18,
    metadata: Mapping[str, object] | None = None,
) -> Path:
    """Write one MP4 from frames (one chunk, or an iterable of chunks made on the way) and a whole sound track. Returns
    the path."""
    rate, channels = (sound.sample_rate, sound.samples.shape[0]) if sound is not None else (None, 2)
    with VideoWriter(path, fps=fps, sample_rate=rate, channels=channels, crf=crf, metadata=metadata) as writer:
        if sound is not None:
            writer.write_sound(sound)
        for chunk in [frames] if hasattr(frames, "shape") else frames:
            writer.write_frames(chunk)
    return writer.path


def write_png_sequence(
    folder: FilePath,
    frames: Pixels | Iterable[Pixels],
    *,
    first: int = 0,
    sound: Waveform | None = None,
    metadata: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write ``frame_000000.png`` … into a new or empty folder, which appears whole or not at all. Returns the files.

    frames: one chunk or an iterable of chunks, in the layouts of frames.uint8_frames. first: number of the first file.
    sound: beside them as ``sound.wav``; metadata: text chunks for every file. Raises MediaError.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MediaError(f"{shown(folder)} exists and is not an empty folder: choose another name")
    tags = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        tags.add_text(key, value)
    names: list[str] = []
    with as_media_error(f"cannot write {shown(folder)}"):
        clean_dead_temps(folder.parent)
        with new_folder(folder) as partial:
            for chunk in [frames] if hasattr(frames, "shape") else frames:
                for frame in uint8_frames(chunk):  # type: ignore[arg-type]
                    names.append(f"frame_{first + len(names):06d}.png")
                    Image.fromarray(frame).save(partial / names[-1], pnginfo=tags, compress_level=4)
            if not names:
                raise MediaError(f"there are no frames to write to {shown(folder)}")
            if sound is not None:
                with open(partial / "sound.wav", "xb") as file:
                    fill_wav(file, [sound], "pcm16", shown(folder))
    return [folder / name for name in names]
