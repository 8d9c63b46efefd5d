"""The engine's LoRAs as patches of the host: it puts them on weights wherever it keeps these, and takes them off again."""

import torch

from ..ltx2.checkpoint.adapters.difference import LoadedDifference
from . import host


class EngineChange(host.WeightAdapter):
    """One of the engine's differences as the host's patches are: it calls, moves and keeps them.

    weights: (the kind, names of the factors, the factors …); the host may make another one with factors elsewhere.
    """

    name = "ltx2"

    def __init__(self, loaded_keys, weights):
        self.loaded_keys, self.weights = loaded_keys, weights

    def calculate_weight(
        self, weight, key, strength, strength_model, offset, function, intermediate_dtype=torch.float32,
        original_weight=None,
    ):  # fmt: skip
        kind, names, *factors = self.weights
        LoadedDifference(kind, strength, dict(zip(names, factors))).apply(weight)
        return weight


def with_lora(base, differences: dict, strength: float):
    """A clone of a patcher with differences added: {weight name: the engine's, loaded at strength 1}.

    Returns (clone, names patched).
    """
    clone = base.clone()
    patches = {
        name: EngineChange(set(), (found.kind, tuple(found.parts), *found.parts.values()))
        for name, found in differences.items()
    }
    return clone, clone.add_patches(patches, strength)


def with_tables(patcher, change, names):
    """The patcher, a clone of one's own, with parameters of blocks changed: change(name, parameter) gives the new one.

    The host patches what its layers own and passes over what a block of layers owns.
    """
    for name in names:
        changed = change(name, patcher.get_model_object(name))
        patcher.add_object_patch(name, torch.nn.Parameter(changed, requires_grad=False))
    return patcher
