"""Per-channel statistics of a latent space: what the samplers see is normalised, what the networks see is not."""

import torch
from torch import Tensor, nn


class PerChannelStatistics(nn.Module):
    """Mean and standard deviation of each latent channel, under the official buffer names.

    normalize and un_normalize take [B, C, …] by default; ``dim`` names another channel axis.
    """

    def __init__(self, channels: int, *, device=None, dtype=None):
        super().__init__()
        self.register_buffer("std-of-means", torch.ones(channels, device=device, dtype=dtype))
        self.register_buffer("mean-of-means", torch.zeros(channels, device=device, dtype=dtype))

    def _along(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        shape = [1] * x.ndim
        shape[dim] = -1
        mean, std = (self.get_buffer(name).to(x).view(shape) for name in ("mean-of-means", "std-of-means"))
        return mean, std

    def normalize(self, x: Tensor, dim: int = 1) -> Tensor:
        """(x − mean) / std along a channel axis."""
        mean, std = self._along(x, dim)
        return (x - mean) / std

    def un_normalize(self, x: Tensor, dim: int = 1) -> Tensor:
        """x · std + mean along a channel axis."""
        mean, std = self._along(x, dim)
        return x * std + mean
