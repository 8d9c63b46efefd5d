"""The piece of a control film, or the one picture, that a clip is shown as its reference."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from ..clock import Seconds, exact_seconds
from ..errors import MediaError, RequestError
from ..media.images import SUFFIXES, open_image
from ..media.paths import shown
from ..media.video_reader import iterate_frames, video_info


def reference_frames_of(path: str | Path, frames: int, fps: Fraction, start: Seconds = 0) -> np.ndarray:
    """What a reference file shows while a clip of ``frames`` at ``fps`` runs, uint8 RGB [frames, H, W, 3]; of a picture
    [1, H, W, 3].

    start: seconds into the film at which the clip begins; a film of another rate gives what it shows at each frame's
    time. Raises MediaError and RequestError, the latter for a film that ends before the clip does.
    """
    if Path(path).suffix.lower() in SUFFIXES:
        return open_image(path)[None]
    wanted = wanted_frames(path, frames, fps, start)
    return np.stack(list(_chosen(path, wanted)))


def wanted_frames(path: str | Path, frames: int, fps: Fraction, start: Seconds = 0) -> list[int]:
    """Which frames of a film are shown at the times of a clip's frames, without decoding them. Raises MediaError and
    RequestError."""
    info, begin = video_info(path), exact_seconds(start)
    if begin < 0:
        raise RequestError(f"the reference begins at {float(begin):g} s, expected 0 or more")
    wanted = [int((begin + Fraction(i) / fps) * info.fps) for i in range(frames)]
    if wanted[-1] >= info.frames:
        end = float(begin + frames / fps)
        raise RequestError(
            f"{shown(path)} lasts {float(info.frames / info.fps):.2f} s, the clip needs it from {float(begin):.2f} s "
            f"to {end:.2f} s: give a longer reference or make the clip shorter"
        )
    return wanted


def reference_mask_of(path: str | Path, frames: int, fps: Fraction, start: Seconds = 0) -> torch.Tensor:
    """A mask film or picture as brightness 0…1, float32 [frames or 1, H, W]; otherwise as ``reference_frames_of``."""
    pictures = reference_frames_of(path, frames, fps, start)
    return torch.from_numpy(np.ascontiguousarray(pictures)).float().mean(-1).div_(255)


def _chosen(path: str | Path, wanted: list[int]) -> Iterator[np.ndarray]:
    """Frames by their indices, which never fall; one may be wanted several times."""
    left = iter(wanted)
    index = next(left, None)
    for at, picture in enumerate(iterate_frames(path, wanted[0], wanted[-1] - wanted[0] + 1), wanted[0]):
        while index == at:
            yield picture
            index = next(left, None)
    if index is not None:
        raise MediaError(f"{shown(path)} is damaged: it ends before frame {index}")
