"""One denoising stage: from noise along a sigma schedule to clean latents of both streams.

The transformer gives velocities per token; a token's timestep is its mask times sigma, so what is known counts as
clean. Each step: predict, guide, put the known tokens back, step. Checked against ltx-core 1.0.0 and FastVideo's stage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import RequestError
from ...sampling import noise as sampling_noise
from ...sampling.guidance import Guidance, needs_negative
from ...sampling.samplers import find_sampler
from ...sampling.schedules import check_sigmas
from ...sampling.tokens import AVTokens
from ...values import AVLatent, Progress
from ..conditioning import Conditioning
from .prediction import Compute, Model, Prompts, predictor
from .streams import ClipClock, Streams, streams

__all__ = ["ClipClock", "Compute", "Model", "Prompts", "Sampling", "Streams", "denoise", "predictor", "streams"]


@dataclass(frozen=True)
class Sampling:
    """How a stage goes from noise to the clean latent.

    sigmas: [steps + 1], falling. noise: see latent_preparation. sampler: its name. seeds: of the batch's clips, for
    the samplers that add noise; noise_device: where that noise is drawn. noise_scale: how much noise the start is mixed
    with, the first sigma unless given. eta: how much of the noise these samplers renew, 0…1.
    """

    sigmas: torch.Tensor | Sequence[float]
    noise: AVTokens
    sampler: str = "euler"
    seeds: Sequence[int] | None = None
    noise_device: torch.device | str = "cpu"
    noise_scale: float | None = None
    eta: float = 1.0


def denoise(
    model: Model,
    start: AVLatent,
    prompts: Prompts,
    sampling: Sampling,
    *,
    clock: ClipClock,
    compute: Compute,
    conditioning: Conditioning | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> AVLatent:
    """Denoise both streams (or the one that ``start`` has): their latents in the dtype of ``start``, on the device.

    model: transformer on ``compute.device`` computing in ``compute.dtype``. start: zeros for a fresh clip, the
    upsampled latents for a refine. progress: called before the first step and after each with the prediction so far as
    preview; raising from it stops the stage. Tokens with mask 0 come back bit for bit as given. Raises RequestError for
    settings that do not fit together.
    """
    sigmas, conditioning = check_sigmas(sampling.sigmas), conditioning or Conditioning()
    _check_parts(start, prompts, conditioning)
    _check_noise(start, sampling, conditioning)
    sampler = find_sampler(sampling.sampler)
    with torch.no_grad():
        start = start.to(compute.device)
        both = streams(start, conditioning, clock)
        scale = float(sigmas[0]) if sampling.noise_scale is None else sampling.noise_scale
        x = both.noised(sampling.noise, scale)
        clean, mask = both.tokens("clean"), both.tokens("mask")

        def report(done: int, x0: AVTokens | None) -> None:
            if progress is not None:
                preview = None if x0 is None else both.latents(x0, start)
                progress(Progress("denoising", done, len(sigmas) - 1, preview))

        report(0, None)
        predict = predictor(model, both, prompts, compute)
        extra: dict[str, Any] = {"negative": lambda: predict.negative} if sampler.uses_negative else {}
        if sampler.uses_eta:
            extra["eta"] = sampling.eta
        x = sampler.run(
            predict,
            x,
            sigmas,
            restore=lambda x0: sampling_noise.restore(x0, clean, mask),
            after_step=lambda step, x0: report(step + 1, x0),
            **sampler.sources(sampling.seeds or (), sampling.noise_device),
            **extra,
        )
        return both.latents(sampling_noise.keep_exactly(x, clean, mask), start)


def _check_parts(start: AVLatent, prompts: Prompts, conditioning: Conditioning) -> None:
    if start.video is None and start.audio is None:
        raise RequestError("there is nothing to denoise: neither a video nor an audio latent was given")
    if start.audio is not None and prompts.positive.audio is None:
        raise RequestError(
            "the text context has no audio part, but sound is to be made: encode the prompt with both connectors"
        )
    levels = [prompts.guidance] if isinstance(prompts.guidance, Guidance) else prompts.guidance.values()
    if prompts.negative is None and any(
        needs_negative(g, video=start.video is not None, audio=start.audio is not None) for g in levels
    ):
        raise RequestError(
            "text guidance or nag is on but there is no negative prompt: give one, or set the guidance scale to 1 "
            "and nag to 0"
        )
    if prompts.negative is not None and start.audio is not None and prompts.negative.audio is None:
        raise RequestError("the negative text context has no audio part, but sound is to be made")
    for name in ("video", "audio"):
        latent, known = getattr(start, name), getattr(conditioning, name)
        if latent is None or known is None:
            continue
        if known.shape[1:] != latent.shape[1:] or len(known) not in (1, len(latent)):
            raise RequestError(
                f"known {name} latents have shape {list(known.shape)}, the latent to denoise {list(latent.shape)}: "
                "make them of one size"
            )
    if start.video is not None:
        for name, extras in (("guide", conditioning.guides), ("reference", conditioning.references)):
            for extra in extras:
                if extra.latent.shape[1] != start.video.shape[1]:
                    raise RequestError(
                        f"a {name} has {extra.latent.shape[1]} channels, expected {start.video.shape[1]}"
                    )


def _check_noise(start: AVLatent, sampling: Sampling, conditioning: Conditioning) -> None:
    sampler, seeds, batch = find_sampler(sampling.sampler), sampling.seeds, start.batch_size
    if sampler.noise and (seeds is None or len(seeds) != batch):
        raise RequestError(
            f"sampler {sampler.name} needs a seed for each of the {batch} clips of the batch, got "
            f"{0 if seeds is None else len(seeds)}"
        )
    for name, tokens in zip(("video", "audio"), conditioning.tokens(start)):
        drawn = getattr(sampling.noise, name)
        if tokens is not None and (drawn is None or drawn.shape[:2] != (batch, tokens)):
            found = "missing" if drawn is None else f"for {list(drawn.shape[:2])} clips and tokens"
            raise RequestError(f"{name} noise is {found}, expected [{batch}, {tokens}]: draw it for this very latent")
