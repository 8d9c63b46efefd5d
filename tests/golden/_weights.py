"""Weights of a golden file, which lie beside it in a file that its metadata names."""

import json
from pathlib import Path

from safetensors import safe_open
from torch import nn

PREFIX = "model.diffusion_model."


def weights_beside(path: Path, metadata: dict) -> tuple[dict, dict]:
    """The ``transformer`` configuration and all tensors, in float32 and without the transformer's prefix."""
    with safe_open(path.parent / metadata["weights"], "pt") as file:
        config = json.loads(file.metadata()["config"])["transformer"]
        return config, {name.removeprefix(PREFIX): file.get_tensor(name).float() for name in file.keys()}


def under(tensors: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def shapes(tensors: dict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def loaded(module: nn.Module, tensors: dict) -> nn.Module:
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval()
