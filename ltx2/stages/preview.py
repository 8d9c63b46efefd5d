"""Small pictures of a latent on its way: by a linear map that a host keeps for this, or by a tiny autoencoder."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..networks.video_vae.tiny_decoder import TinyDecoder
from ..values import AVLatent

DRAWN_PIXELS_PER_LATENT = 8  # of a preview, which is a quarter as wide as the film
LARGEST_DRAWN = 12  # latents of a drawn picture's longer side, 384 pixels


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
    return small.repeat(DRAWN_PIXELS_PER_LATENT, axis=0).repeat(DRAWN_PIXELS_PER_LATENT, axis=1)


@torch.inference_mode()
def drawn_pictures(latent: AVLatent, decoder: TinyDecoder, largest: int = LARGEST_DRAWN) -> np.ndarray | None:
    """The first, the middle and the last frame of the first clip of a batch side by side, [H, n·W, 3] uint8; None
    without video. largest: latents of a picture's longer side, which a larger clip is reduced to first."""
    if latent.video is None:
        return None
    weight = next(decoder.parameters())
    video = latent.video[0].movedim(1, 0)  # [F, 128, h, w]
    places = sorted({0, len(video) // 2, len(video) - 1})
    pictures = []
    for place in places:
        # a frame is drawn with the one before it in mind
        window = video[max(place - 1, 0) : place + 1].to(weight.device, torch.float32)
        share = largest / max(window.shape[-2:])
        if share < 1:
            size = [max(round(side * share), 1) for side in window.shape[-2:]]
            window = F.interpolate(window, size, mode="area")
        *_, last = decoder.stream(window.to(weight.dtype).movedim(0, 1)[None])
        pictures.append(last[-1].float())
    wide = torch.cat(pictures, dim=-1).movedim(0, -1)  # [H, n·W, 3]
    return wide.mul(255).nan_to_num(0).clamp(0, 255).to("cpu", torch.uint8).numpy()
