"""A small picture of a latent on its way, by a linear map that a host keeps for this."""

from collections.abc import Sequence

import numpy as np
import torch

from ..values import AVLatent

PIXELS_PER_LATENT = 8  # of the preview, which is a quarter as wide as the film


def latent_picture(
    latent: AVLatent, factors: Sequence[Sequence[float]], bias: Sequence[float] | None = None
) -> np.ndarray | None:
    """Picture [8h, 8w, 3] uint8 of the middle latent frame of the first clip of a batch; None without video.

    factors: 128 rows of red, green and blue shares, whose sum with bias lies around -1…1.
    """
    if latent.video is None:
        return None
    frame = latent.video[0, :, latent.video.shape[2] // 2].float()  # [128, h, w]
    shares = torch.tensor(factors, dtype=torch.float32, device=frame.device)  # [128, 3]
    colours = torch.einsum("chw,cr->hwr", frame, shares)
    if bias is not None:
        colours = colours + torch.tensor(bias, dtype=torch.float32, device=frame.device)
    small = colours.add(1).mul(127.5).nan_to_num(0).clamp(0, 255).to("cpu", torch.uint8).numpy()
    return small.repeat(PIXELS_PER_LATENT, axis=0).repeat(PIXELS_PER_LATENT, axis=1)
