"""How far a result is from the golden one."""

import math

import torch


def absolute(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference; infinite where the shapes differ, which subtraction might hide."""
    return float((ours - wanted).abs().max()) if ours.shape == wanted.shape else math.inf


def relative(ours: torch.Tensor, wanted: torch.Tensor, smallest_scale: float = 1e-3) -> float:
    """The largest difference in units of the largest wanted value, which counts as ``smallest_scale`` where it is
    smaller."""
    return absolute(ours, wanted) / max(float(wanted.abs().max()), smallest_scale)
