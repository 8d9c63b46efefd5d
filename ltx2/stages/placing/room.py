"""Whether a job fits the memory that there is, or that was planned for."""

from typing import Any

import torch

from .. import memory
from ..doubling.checks import doubling_tokens
from .plan import LargestClip


def room_notes(models: Any, job: Any) -> tuple[str, ...]:
    """What to tell of a job that may not fit on the device of these models. Raises RequestError where it goes beyond
    what was planned."""
    config = models.config
    needed = memory.denoising_bytes(
        width=models.transformer.config.width,
        video_tokens=tokens_of(job),
        batch_size=job.request.batch_size,
        dtype=config.transformer,
    )
    if config.memory is not None:
        config.memory.check(needed, str(job.geometry))
        return ()
    if config.offload not in ("none", "layers") and torch.device(config.device).type != "cpu":
        needed += memory.weight_bytes(models.transformer)  # on a CPU they are mapped from the file
    free = memory.free_bytes(config.device)
    if needed <= free:
        return ()
    return (
        f"denoising {job.geometry} needs about {needed / 2**30:.1f} GiB on {config.device}, {free / 2**30:.1f} "
        "GiB are free: make it smaller or shorter if it fails",
    )


def tokens_of(job: Any) -> int:
    """How many tokens the largest pass of a job has."""
    return max(doubling_tokens(job.geometry, job.settings.rounds), *(stage.tokens for stage in job.stages))


def clip_of(job: Any) -> LargestClip:
    """The largest clip that a job denoises and decodes."""
    size = job.geometry
    latent_frames = 0 if job.request.sound_only else size.latent_frames
    return LargestClip(size.width, size.height, size.frames, latent_frames, tokens_of(job), job.request.batch_size)
