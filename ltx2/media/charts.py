"""Pictures of a film for a reader: a strip of its frames, and its sound as a waveform over a spectrogram."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..values import Waveform

GAP, PAPER = 4, 255
WAVE_ROWS, BAND_ROWS = 80, 160
INK, JOIN = (40, 90, 160), (220, 60, 60)
_WINDOW_SECONDS = 0.032
_FLOOR_DB = -70.0
# Dark to bright, as heat: levels of 0…1 and their colours.
_LEVELS = (0.0, 0.4, 0.75, 1.0)
_HEAT = np.array([(12, 12, 40), (110, 20, 110), (240, 110, 40), (255, 250, 190)])


def frame_strip(rows: Sequence[np.ndarray], scale: int = 1) -> Image.Image:
    """Frames side by side: rows of [n, H, W, 3] uint8, each pixel ``scale`` wide."""
    most = max(len(row) for row in rows)
    height, width = rows[0].shape[1] * scale, rows[0].shape[2] * scale
    size = most * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP
    strip = Image.new("RGB", size, (PAPER,) * 3)
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            large = frame.repeat(scale, 0).repeat(scale, 1)
            strip.paste(Image.fromarray(large), (x * (width + GAP), y * (height + GAP)))
    return strip


def sound_picture(
    sound: Waveform, *, joins: Sequence[float] = (), width: int = 900, top_hertz: float = 4000.0
) -> Image.Image:
    """Waveform over spectrogram up to ``top_hertz``; joins: seconds, marked in red."""
    samples = sound.samples.detach().float().mean(0).cpu().numpy()
    picture = np.concatenate([_wave(samples, width), _spectrogram(samples, sound.sample_rate, width, top_hertz)])
    for seconds in joins:
        column = round(seconds * sound.sample_rate / max(len(samples), 1) * width)
        if 0 <= column < width:
            picture[:, column] = JOIN
    return Image.fromarray(picture)


def _wave(samples: np.ndarray, width: int) -> np.ndarray:
    """[80, width, 3]: from the least to the most of each column's samples."""
    picture = np.full((WAVE_ROWS, width, 3), PAPER, np.uint8)
    middle = (WAVE_ROWS - 1) / 2
    for column, part in enumerate(np.array_split(samples, width)):
        low, high = (part.min(), part.max()) if len(part) else (0.0, 0.0)
        first, last = (int(round(middle - middle * min(1.0, max(-1.0, value)))) for value in (high, low))
        picture[first : last + 1, column] = INK
    return picture


def _spectrogram(samples: np.ndarray, rate: int, width: int, top_hertz: float) -> np.ndarray:
    """[160, width, 3], low frequencies below."""
    window = max(16, round(_WINDOW_SECONDS * rate))
    padded = np.pad(samples, window // 2)
    starts = np.linspace(0, max(len(padded) - window, 0), width).astype(int)
    pieces = np.stack([np.resize(padded[start : start + window], window) for start in starts]) * np.hanning(window)
    levels = np.abs(np.fft.rfft(pieces, 4 * window, axis=1)) * 4 / window
    bins = np.linspace(min(top_hertz, rate / 2), 0, BAND_ROWS) * 4 * window / rate
    decibels = 20 * np.log10(levels[:, bins.astype(int)].T + 1e-6)
    shares = np.clip(1 - decibels / _FLOOR_DB, 0, 1)
    return np.stack([np.interp(shares, _LEVELS, channel) for channel in _HEAT.T], -1).round().astype(np.uint8)
