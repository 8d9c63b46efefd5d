"""Blocks of sound on their way out of FFmpeg's decoders and into its encoders.

PyAV's own ``to_ndarray`` and ``from_ndarray`` take the number of planes from what lies behind the list of them, which
for eight channels is something else: reading ends the process, writing fails. Here the layout says how many there are.
"""

from typing import Any

import numpy as np
import torch

from .paths import require_av

_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # FFmpeg's names of samples


def samples_of(frame: Any) -> torch.Tensor:
    """A decoded PyAV frame as float32 [C, N] in -1…1."""
    channels, count = frame.layout.nb_channels, frame.samples
    kind = np.dtype(_TYPES[frame.format.name.removesuffix("p")])
    if frame.format.is_planar:
        planes = frame.planes[:channels]
        array = np.stack([np.frombuffer(plane, kind, count) for plane in planes])
    else:
        array = np.frombuffer(frame.planes[0], kind, count * channels).reshape(count, channels).T
    if kind == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif kind.kind == "i":
        array = array / 2.0 ** (8 * kind.itemsize - 1)
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def frame_of(samples: torch.Tensor, layout: str, rate: int) -> Any:
    """Samples [C, N] of a layout as the PyAV frame of planar floats that encoders and resamplers take."""
    array = np.ascontiguousarray(samples.detach().float().cpu().numpy())
    frame = require_av().AudioFrame(format="fltp", layout=layout, samples=array.shape[1])
    for plane, channel in zip(frame.planes[: array.shape[0]], array):
        # a plane may be longer than its samples
        plane.update(np.pad(channel, (0, plane.buffer_size // 4 - len(channel))).tobytes())
    frame.sample_rate = rate
    return frame
