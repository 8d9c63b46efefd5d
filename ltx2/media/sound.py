"""Sound as WAV files, written sample-exact and whole."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ..atomic_files import atomic_file, clean_dead_temps
from ..errors import MediaError
from ..values import Waveform
from .paths import FilePath, as_media_error, check_target, shown

FORMATS = {"pcm16": (1, 2), "pcm24": (1, 3), "float32": (3, 4)}  # name -> WAVE format tag, bytes per sample
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # of AAC in MP4, by how many channels they have
AAC_BLOCK = 1024  # samples that are coded together
AAC_BITS_PER_CHANNEL = 128_000  # a second
USUAL_RATE = 48_000  # in place of one that AAC has not
_DATA_LIMIT = 2**32 - 64  # sizes in a WAV header are 32 bits


def checked_samples(sound: Waveform, name: str = "sound") -> torch.Tensor:
    """Samples [C, N] float32 on the CPU. Raises MediaError for a wrong shape, NaN or infinity, or an impossible
    rate."""
    samples = sound.samples
    if samples.ndim != 2 or not 1 <= samples.shape[0] <= 8 or not samples.is_floating_point():
        raise MediaError(
            f"{name} has shape {list(samples.shape)} and type {samples.dtype}, expected float [channels, samples]"
        )
    if not 1000 <= sound.sample_rate <= 768_000:
        raise MediaError(f"{name} has {sound.sample_rate} samples per second, expected 1000 to 768000")
    samples = samples.detach().to("cpu", torch.float32)
    if not torch.isfinite(samples).all():
        raise MediaError(f"{name} holds NaN or infinite samples: it was lost before it was written")
    return samples


def write_wav(path: FilePath, sound: Waveform | Iterable[Waveform], *, format: str = "pcm16") -> Path:
    """Write a WAV file from one Waveform or from consecutive pieces; whole or not at all. Returns the path.

    format: ``pcm16``, ``pcm24`` (rounded, clipped at ±1) or ``float32`` (bit-exact). Raises MediaError.
    """
    if format not in FORMATS:
        raise MediaError(f"WAV format is {format!r}, expected one of {', '.join(FORMATS)}")
    path = check_target(path)
    with as_media_error(f"cannot write {shown(path)}"):
        clean_dead_temps(path.parent)
        with atomic_file(path) as file:
            fill_wav(file, [sound] if isinstance(sound, Waveform) else sound, format, shown(path))
    return path


def fill_wav(file: BinaryIO, pieces: Iterable[Waveform], format: str, name: str) -> None:
    """Write all of a WAV file to an empty one. name: what errors call it. Raises MediaError, and OSError as it is."""
    pieces = iter(pieces)
    first = next(pieces, None)
    if first is None:
        raise MediaError(f"there is no sound to write to {name}")
    channels, rate = first.samples.shape[0], first.sample_rate
    file.write(_wav_header(format, channels, rate, 0))
    written = _write_piece(file, first, format)
    for piece in pieces:
        if (piece.samples.shape[0], piece.sample_rate) != (channels, rate):
            raise MediaError(
                f"pieces of {name} differ: {channels} channels at {rate} Hz, then {piece.samples.shape[0]} at "
                f"{piece.sample_rate} Hz"
            )
        written += _write_piece(file, piece, format)
        if written > _DATA_LIMIT:
            raise MediaError(f"{name} would pass 4 GiB, the most a WAV file holds: write pcm16, or in parts")
    file.write(b"\0" * (written % 2))
    file.seek(0)
    file.write(_wav_header(format, channels, rate, written))


def _wav_header(format: str, channels: int, rate: int, size: int) -> bytes:
    tag, width = FORMATS[format]
    # Non-PCM formats carry an empty extension and a fact chunk with the count of samples per channel.
    extra = b"" if tag == 1 else struct.pack("<H", 0)
    fact = b"" if tag == 1 else struct.pack("<4sII", b"fact", 4, size // (width * channels))
    layout = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * width, channels * width, 8 * width) + extra
    body = b"WAVE" + struct.pack("<4sI", b"fmt ", len(layout)) + layout + fact + struct.pack("<4sI", b"data", size)
    return struct.pack("<4sI", b"RIFF", len(body) + size + size % 2) + body


def _write_piece(file, sound: Waveform, format: str) -> int:
    samples = checked_samples(sound).numpy().T  # [N, C], the order of a WAV file
    if format == "float32":
        data = samples.astype("<f4").tobytes()
    else:
        full = 2.0 ** (8 * FORMATS[format][1] - 1)
        whole = np.rint(samples.astype(np.float64) * full).clip(-full, full - 1).astype("<i4")
        # the low 2 or 3 of each number's 4 bytes, little end first
        data = np.ascontiguousarray(whole)[..., None].view(np.uint8)[..., : FORMATS[format][1]].tobytes()
    file.write(data)
    return len(data)
