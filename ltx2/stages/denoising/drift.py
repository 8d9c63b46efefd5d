"""What the first stage does against drift: its new video latents are measured, and brought nearer to a reference."""

import torch

from ...errors import RequestError
from ...sampling.channel_statistics import moved, statistics_of, toward
from ...values import VIDEO_CHANNELS, AVLatent, ChannelStatistics, LatentDrift
from ..conditioning import Conditioning


def check_drift(drift: LatentDrift | None) -> None:
    """Raises RequestError for an amount or a reference that cannot be."""
    if drift is None:
        return
    if isinstance(drift.amount, bool) or not isinstance(drift.amount, (int, float)) or not 0 <= drift.amount <= 1:
        raise RequestError(f"drift: latent is {str(drift.amount)[:40]}, expected 0 to 1")
    if drift.reference is not None:
        for name in ChannelStatistics.NAMES:
            values = getattr(drift.reference, name)
            if values.shape != (VIDEO_CHANNELS,) or not bool(torch.isfinite(values).all()):
                raise RequestError(
                    f"drift: the {name} of the reference has shape {list(values.shape)}, expected {VIDEO_CHANNELS} "
                    "finite numbers: begin a new scene"
                )


def against_drift(
    latent: AVLatent, conditioning: Conditioning, drift: LatentDrift | None
) -> tuple[AVLatent, ChannelStatistics | None]:
    """The first stage's latents with drift taken back, and the reference for the segment after.

    What is known in advance stays as it is and does not count: only the latent frames that were made anew throughout.
    """
    if drift is None or latent.video is None:
        return latent, None
    new = _new_frames(latent.video, conditioning)
    made = latent.video[:, :, new]
    if not made.shape[2]:
        return latent, drift.reference
    if drift.reference is not None and drift.amount:
        made = toward(made, drift.reference, drift.amount)
        video = latent.video.clone()
        video[:, :, new] = made
        latent = AVLatent(video, latent.audio)
    return latent, moved(drift.reference, statistics_of(made))


def _new_frames(video: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Indices of the latent frames of which nothing was known; of several not the clip's first, which stands for one
    picture and is not like the others."""
    wholly = torch.ones(video.shape[2], dtype=torch.bool)
    if conditioning.video_mask is not None:
        wholly = conditioning.video_mask.amin(dim=(0, 1, 3, 4)).cpu() >= 1
    wholly[0] &= video.shape[2] == 1
    return wholly.nonzero()[:, 0].to(video.device)
