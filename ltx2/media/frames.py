"""Pixels in the layouts that travel through the engine, and decoded frames, as the uint8 RGB that files hold."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..errors import MediaError

Pixels = np.ndarray | torch.Tensor
# A float picture may overshoot 1 a little by resampling; above this it was surely meant as 0…255.
HIGHEST_FLOAT = 2.0


def uint8_frames(chunk: Pixels) -> np.ndarray:
    """Frames [N, H, W, 3] uint8 RGB from whatever a stage hands on.

    chunk: uint8 [H, W, 3] or [N, H, W, 3]; float [H, W, 3] or [N, H, W, 3] in 0…1; float [1, 3, N, H, W] in -1…1 (what
    the video decoders give). numpy or torch. A fourth (alpha) channel of a channels-last chunk is dropped. Floats are
    rounded and clamped in float32. Raises MediaError for other shapes and types, NaN, or floats that were meant as
    0…255.
    """
    if isinstance(chunk, np.ndarray):
        # torch takes neither read-only arrays (what Pillow gives) nor negative strides (what turning gives)
        chunk = torch.from_numpy(chunk if chunk.flags.writeable and chunk.flags.c_contiguous else chunk.copy())
    tensor = torch.as_tensor(chunk)
    shape = list(tensor.shape)
    signed = tensor.ndim == 5
    if signed and shape[:2] != [1, 3]:
        raise MediaError(
            f"frames have shape {shape}, expected [1, 3, N, H, W]: pass the samples of a batch one at a time"
        )
    if not signed and not (tensor.ndim in (3, 4) and shape[-1] in (3, 4)):
        raise MediaError(f"frames have shape {shape}, expected [N, H, W, 3], or [1, 3, N, H, W] in -1…1")
    if signed:
        tensor = tensor[0].permute(1, 2, 3, 0)  # [N, H, W, 3]
    else:
        tensor = tensor[..., :3] if tensor.ndim == 4 else tensor[None, ..., :3]
    if tensor.dtype == torch.uint8 and not signed:
        return tensor.cpu().numpy()
    if not tensor.is_floating_point():
        raise MediaError(f"frames are {str(tensor.dtype).removeprefix('torch.')}, expected uint8 or float")
    out = torch.empty(tensor.shape, dtype=torch.uint8)
    # One frame at a time: a float32 copy of a whole clip would be four times the size of what is kept.
    for i, frame in enumerate(tensor.detach()):
        frame = frame.float()
        most = float(frame.max())
        if most != most:
            raise MediaError(f"frame {i} holds NaN: the values were lost before they became pictures")
        if most > HIGHEST_FLOAT and not signed:
            raise MediaError(f"frame {i} holds floats up to {most:.3g}, expected 0…1: divide by 255 or pass uint8")
        scaled = (frame + 1) * 127.5 if signed else frame * 255
        out[i].copy_(scaled.round_().clamp_(0, 255))
    return out.numpy()


# --- what a decoder gives ----------------------------------------------------------------------------------------


class LastFrames:
    """Hands the frames of a segment on and keeps the last ones, which its state will carry."""

    def __init__(self, count: int) -> None:
        self._frames: deque[np.ndarray] = deque(maxlen=count)

    def watch(self, chunks: Iterable) -> Iterator[np.ndarray]:
        """Chunks in any of the layouts of uint8_frames, in order, as uint8 [n, H, W, 3]."""
        for chunk in chunks:
            frames = uint8_frames(chunk)
            self._frames.extend(np.array(frame) for frame in frames[-self._frames.maxlen :] if self._frames.maxlen)
            yield frames

    @property
    def frames(self) -> np.ndarray:
        """[n, H, W, 3] uint8, copies."""
        return np.stack(self._frames)


def last_frames_of(chunks: Iterable, count: int) -> np.ndarray:
    """The last frames [n, H, W, 3] uint8 of chunks that nobody else wants to see."""
    last = LastFrames(count)
    for _ in last.watch(chunks):
        pass
    return last.frames


_BT709, _UNSPECIFIED, _BT601 = 1, 2, 5  # numbers of the colour matrices in the H.264 standard
_LIMITED, _FULL = 1, 2  # numbers of the value ranges in FFmpeg: 16…235 and 0…255
_HD = (1280, 576)  # pictures at least as wide or higher than this are HD
_SQUARE = Fraction(1)
_MATRIX_BYTES = 36  # nine numbers of 32 bits
_ODDEST_PIXEL = 4  # a pixel wider or higher than this is a damaged header


def colour_matrix(frame: Any) -> int:
    """The colour matrix that a decoded PyAV frame means, as a number of the H.264 standard; where it states none, that
    of HD or of SD video by its size, as players take it."""
    stated = int(frame.colorspace)
    if stated not in (0, _UNSPECIFIED, 3):
        return stated
    return _BT709 if frame.width >= _HD[0] or frame.height > _HD[1] else _BT601


def pixel_shape(stream: Any) -> Fraction:
    """Width of a video stream's pixels over their height; 1 where nothing sensible is stated."""
    stated = stream.sample_aspect_ratio or getattr(stream.codec_context, "sample_aspect_ratio", None)
    if not stated or not Fraction(1, _ODDEST_PIXEL) <= stated <= _ODDEST_PIXEL:
        return _SQUARE
    return Fraction(stated)


def square_size(width: int, height: int, shape: Fraction) -> tuple[int, int]:
    """Width and height of the same picture in square pixels; the side that grows is the one that was squeezed."""
    return (round(width * shape), height) if shape >= 1 else (width, round(height / shape))


def decoded_picture(frame: Any, shape: Fraction = _SQUARE, size: tuple[int, int] | None = None) -> np.ndarray:
    """A decoded PyAV frame as it is meant to be seen: RGB uint8 [H, W, 3], contiguous, in its own colours, square
    pixels, upright and not mirrored.

    shape: see :func:`pixel_shape`; size: (width, height) of the film's stored pictures, None for the frame's own.
    """
    matrix = colour_matrix(frame)
    width, height = size or (frame.width, frame.height)
    width, height = square_size(width, height, shape)
    rgb = frame.reformat(
        width=width,
        height=height,
        format="gbrp16le",  # FFmpeg rounds down on its way to 8 bits, by two levels in the dark
        src_colorspace=matrix,
        # of no meaning for RGB, but PyAV leaves the matrix alone where both are the same
        dst_colorspace=_BT601 if matrix == _BT709 else _BT709,
        src_color_range=_value_range(frame),
        dst_color_range=_FULL,
    )
    wide = rgb.to_ndarray()  # [H, W, 3] uint16
    levels = (wide.astype(np.uint32) * 255 + 32895) >> 16  # the nearest to wide / 257
    return orientation(frame).upright(levels.astype(np.uint8))


def _value_range(frame) -> int:
    # only brightness and colour apart are ever stored in the limited range without saying so
    plain = frame.format.is_rgb or frame.format.name.startswith(("yuvj", "gray", "ya", "pal", "mono"))
    return _FULL if plain or int(frame.color_range) == _FULL else _LIMITED


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes the one that is meant: mirrored at the vertical axis first, as front cameras have
    it, where it is, then turned by 90 degrees, counter-clockwise, so many times."""

    turns: int = 0
    mirrored: bool = False

    def upright(self, stored: np.ndarray) -> np.ndarray:
        """The picture [H, W, C] as it is meant, contiguous."""
        return np.ascontiguousarray(np.rot90(stored[:, ::-1] if self.mirrored else stored, self.turns))

    def stored(self, upright: np.ndarray) -> np.ndarray:
        """The picture as it is to be stored, contiguous."""
        turned = np.rot90(upright, -self.turns)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)


def orientation(frame: Any) -> Orientation:
    """How a decoded PyAV frame is to be shown, by the matrix that its file states."""
    stated = frame.side_data.get("DISPLAYMATRIX")
    if stated is None or len(bytes(stated)) < _MATRIX_BYTES:
        return Orientation(round(getattr(frame, "rotation", 0) / 90) % 4)
    # x' = a·x + c·y, y' = b·x + d·y, with y downwards
    a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(stated), np.int32)[:5])
    mirrored = a * d - b * c < 0
    if mirrored:  # what is left to turn when left and right have changed places
        a, b = -a, -b
    return Orientation(round(-math.degrees(math.atan2(b, a)) / 90) % 4, mirrored)
