"""Films as phones, cameras, recorders and converters write them, made with PyAV for the tests."""

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import torch

from ltx2.values import Waveform


def grey(count, height=48, width=64):
    """Frames [N, H, W, 3] whose grey says which frame they are."""
    return np.repeat((np.arange(count) * 4 % 232 + 20).astype(np.uint8), height * width * 3).reshape(
        count, height, width, 3
    )


def number_of(frame) -> int:
    """Which of the grey frames this is."""
    return round((float(np.asarray(frame, np.float64).mean()) - 20) / 4)


def sound_of(seconds, rate=48000, channels=2, hertz=440):
    """A tone as Waveform, quieter in each further channel."""
    count = round(Fraction(seconds) * rate)
    wave = 0.5 * torch.sin(torch.arange(count, dtype=torch.float64) * (2 * torch.pi * hertz / rate)).float()
    return Waveform(torch.stack([wave / (channel + 1) for channel in range(channels)]), rate)


@dataclass(frozen=True)
class Kind:
    """How a film is written: codecs by FFmpeg's names, the encoder's options, width of pixels over height, matrix of
    colours, tags of the file, layout of the sound."""

    video: str = "libx264"
    audio: str = "aac"
    pix_fmt: str = "yuv420p"
    options: dict = field(default_factory=dict)
    shape: Fraction | None = None
    matrix: str = "ITU601"
    tags: dict = field(default_factory=dict)
    layout: str = "stereo"


def make_film(path, frames, *, times=None, fps=24, sound=None, **kind):
    """A film of frames [N, H, W, 3] at seconds ``times`` (else at fps), and a Waveform beside them. kind: see Kind."""
    kind = Kind(**kind)
    base = 1 / Fraction(fps) if times is None else Fraction(1, 90000)
    with av.open(str(path), "w") as file:
        picture = file.add_stream(kind.video, rate=Fraction(fps), options={"crf": "4", **kind.options})
        picture.width, picture.height, picture.pix_fmt = frames.shape[2], frames.shape[1], kind.pix_fmt
        if times is not None:
            picture.codec_context.time_base = base
        if kind.shape is not None:
            picture.codec_context.sample_aspect_ratio = kind.shape
        track = None
        if sound is not None:
            track = file.add_stream(kind.audio, rate=sound.sample_rate, layout=kind.layout)
            if kind.audio == "aac":
                track.bit_rate = 160_000 * sound.samples.shape[0]
        for key, value in kind.tags.items():
            file.metadata[key] = value
        values = "JPEG" if kind.pix_fmt.startswith("yuvj") else "MPEG"
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=kind.pix_fmt, dst_colorspace=kind.matrix, dst_color_range=values)
            frame.pts = index if times is None else round(times[index] / base)
            frame.time_base = base
            file.mux(picture.encode(frame))
        if track is not None:
            write_track(file, track, sound, kind.layout)
        file.mux(picture.encode())
        if track is not None:
            file.mux(track.encode())
    return path


def write_track(file, track, sound, layout):
    kind = track.codec_context.format.name
    for start in range(0, sound.samples.shape[1], 1024):
        samples = sound.samples[:, start : start + 1024].numpy()
        if kind.startswith("s16"):
            samples = (samples * 32767).astype(np.int16)
        elif kind.startswith("s32"):
            samples = (samples.astype(np.float64) * (2**31 - 1)).astype(np.int32)
        packed = not kind.endswith("p")
        samples = np.ascontiguousarray(samples.T.reshape(1, -1)) if packed else np.ascontiguousarray(samples)
        frame = av.AudioFrame.from_ndarray(samples, format=kind, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sound.sample_rate, start, Fraction(1, sound.sample_rate)
        file.mux(track.encode(frame))


def make_sound(path, sound, *, layout="stereo", audio="pcm_s16le", tags=None):
    """A sound file of a Waveform."""
    with av.open(str(path), "w") as file:
        track = file.add_stream(audio, rate=sound.sample_rate, layout=layout)
        for key, value in (tags or {}).items():
            file.metadata[key] = value
        write_track(file, track, sound, layout)
        file.mux(track.encode())
    return path


# a, b, c, d of the matrix for quarter turns, clockwise
_CORNERS = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}


def turn(path, quarter_turns, mirrored=False):
    """State in an MP4 that its picture is to be mirrored at the vertical axis, as a front camera's is, or not, and then
    to be turned by 90 degrees, clockwise, so many times."""
    a, b, c, d = _CORNERS[quarter_turns]
    numbers = (-a if mirrored else a, -b if mirrored else b, 0, c, d, 0, 0, 0)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + (40 if data[data.index(b"tkhd") + 4] == 0 else 52)
    matrix = b"".join((number << 16).to_bytes(4, "big", signed=True) for number in numbers)
    data[at : at + 36] = matrix + (1 << 30).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    return path
