"""Pixels in the layouts that travel through the engine, as the uint8 RGB that files hold."""

import numpy as np
import torch

from ..errors import MediaError

# A float picture may overshoot 1 a little by resampling; above this it was surely meant as 0…255.
HIGHEST_FLOAT = 2.0


def uint8_frames(chunk) -> np.ndarray:
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
