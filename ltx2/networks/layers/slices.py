"""How many tokens are worked on at once: what lies between two operations is then small, wherever it is."""

import torch

# On a CPU a slice of released width stays near the caches; a card has to be told of every operation on every slice.
ON_CPU, ON_CARD = 2048, 8192


def tokens_at_once(x: torch.Tensor) -> int:
    """For operations on each token alone, on the device of ``x``."""
    return ON_CPU if x.device.type in ("cpu", "meta") else ON_CARD
