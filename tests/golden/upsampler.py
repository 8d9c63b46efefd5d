"""Goldens of the latent upsamplers and of the duration head."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from ltx2.config.duration import duration_config
from ltx2.config.upsampler import upsampler_config
from ltx2.networks.transformer.duration_head import DurationHead
from ltx2.networks.video_vae.latent_upsampler import LatentUpsampler

from ._differences import relative

KINDS = {"upsampler": (LatentUpsampler, upsampler_config), "duration_head": (DurationHead, duration_config)}


def matches(path: Path, metadata: dict) -> bool:
    return metadata.get("component") in KINDS


def load(path: Path, metadata: dict):
    """The network of a golden file, and its inputs and outputs."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    weights = {
        name[len("weight.") :].removeprefix("duration_head."): t
        for name, t in tensors.items()
        if name.startswith("weight.")
    }
    inputs = {name[len("input.") :]: t for name, t in tensors.items() if name.startswith("input.")}
    outputs = {name[len("output.") :]: t for name, t in tensors.items() if name.startswith("output.")}
    factory, read = KINDS[metadata["component"]]
    network = factory(read(json.loads(metadata["config"]), {name: tuple(t.shape) for name, t in weights.items()}))
    network.load_state_dict(weights, strict=True)
    return network, inputs, outputs


def differences(path: Path):
    """(name, largest difference relative to the output's scale) per output."""
    from .__main__ import metadata_of

    network, inputs, outputs = load(path, metadata_of(path))
    with torch.no_grad():
        for name, wanted in outputs.items():
            if isinstance(network, DurationHead):  # outputs are named by the contexts that went in: v, a, av
                result = network(inputs["video"] if "v" in name else None, inputs["audio"] if "a" in name else None)
            else:
                result = network(inputs[name])
            yield f"{path.stem}.{name}", relative(result, wanted)
