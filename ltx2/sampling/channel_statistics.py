"""Mean and deviation of each latent channel, and latents brought nearer to a reference: adaptive instance normalisation
(Huang and Belongie 2017, arXiv 1703.06868) with a reference that moves along with a film."""

from dataclasses import replace

import torch

from ..values import ChannelStatistics

MOVES = 0.1  # how much of a new segment the reference takes on
# A deviation that is made larger makes grain larger too.
MOST_GAIN = 1.2
MOST_GROWTH = 1.05  # of the reference's deviation, over the first segment's
_LEAST_DEVIATION = 1e-6


def statistics_of(latent: torch.Tensor) -> ChannelStatistics:
    """Mean and deviation of latents [B, C, F, h, w], over everything but the channels."""
    values = latent.detach().to("cpu", torch.float32).transpose(0, 1).flatten(1)  # [C, B·F·h·w]
    deviation = values.std(dim=1, correction=0)
    return ChannelStatistics(values.mean(dim=1), deviation, deviation)


def toward(latent: torch.Tensor, reference: ChannelStatistics, amount: float) -> torch.Tensor:
    """Latents [B, C, F, h, w] with a share (0…1) of their channels' difference in mean and deviation taken back."""
    found = statistics_of(latent)
    gain = (reference.deviation / found.deviation.clamp_min(_LEAST_DEVIATION)).clamp_max(MOST_GAIN)
    shape = (1, -1, *[1] * (latent.ndim - 2))
    # (1 − a)·x + a·((x − mean)·gain + reference), as one factor and one summand
    factor = 1 + amount * (gain - 1)
    summand = amount * (reference.mean - found.mean * gain)
    factor, summand = (one.reshape(shape).to(latent.device) for one in (factor, summand))
    return (latent.float() * factor + summand).to(latent.dtype)


def moved(reference: ChannelStatistics | None, found: ChannelStatistics) -> ChannelStatistics:
    """The reference after a segment: the segment's own where there was none, else a little nearer to it."""
    if reference is None:
        return found
    deviation = torch.lerp(reference.deviation, found.deviation, MOVES)
    return replace(
        reference,
        mean=torch.lerp(reference.mean, found.mean, MOVES),
        deviation=torch.minimum(deviation, MOST_GROWTH * reference.first_deviation),
    )
