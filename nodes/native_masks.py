"""Noise masks of native audio-video latents: what the graph before has fixed already, which a continuation adds to."""

import torch

from . import host


def masks_of(latent: dict, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fresh masks [B, 1, F, ., .] and [B, 1, T, .] of a latent, 1 where nothing is known; what is ``noise_mask`` of
    video alone counts too."""
    given = latent.get("noise_mask")
    of_video, of_audio = (None, None) if given is None else host.streams(given)
    return _of_stream(of_video, video), _of_stream(of_audio, audio)


def _of_stream(given: torch.Tensor | None, samples: torch.Tensor) -> torch.Tensor:
    dimensions = samples.ndim - 2
    if given is None:
        return torch.ones(1, 1, samples.shape[2], *(1,) * (dimensions - 1))
    if given.ndim == samples.ndim and given.shape[2] == samples.shape[2]:
        return given[:, :1].float().clone()
    # an image's mask, or one of another length: the host stretches it over the stream
    height, width = given.shape[-2:]
    shaped = given.reshape(1, 1, -1, height, width) if dimensions == 3 else given.reshape(-1, 1, height, width)
    return torch.nn.functional.interpolate(
        shaped.float(), size=samples.shape[2:], mode="trilinear" if dimensions == 3 else "bilinear"
    )


def guide_frames(video_mask: torch.Tensor) -> int:
    """How many latent frames at the end are guides or references, which the host's LTXVAddGuide hangs on there and
    LTXVCropGuides takes off after sampling.

    They are known, and the frames before them are not all known. Those of a smaller reference lie on every second cell
    or so; the cells between, which are no tokens, have a mask below 0.
    """
    frames = video_mask.movedim(2, 0).flatten(1)
    spread = frames.amin(1) < 0
    known = (spread | (frames.amax(1) < 1)).tolist()
    return _at_the_end(spread.tolist() if all(known) else known)


def guides_of(latent: dict, video: torch.Tensor) -> int:
    """The same of a latent's video stream [B, 128, F, h, w], whether or not it has a mask."""
    given = latent.get("noise_mask")
    return 0 if given is None else guide_frames(_of_stream(host.streams(given)[0], video))


def _at_the_end(marked: list[bool]) -> int:
    """How many at the end are marked."""
    return (marked[::-1] + [False]).index(False)
