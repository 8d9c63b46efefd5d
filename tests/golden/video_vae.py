"""Video encoder and convolutional decoder goldens: random weights under official names, inputs, outputs of a published
release."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from ltx2.config.video_vae import video_vae_config
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder

from ._differences import relative

KINDS = {"video_encoder": VideoEncoder, "video_decoder": VideoDecoder}


def matches(path: Path, metadata: dict) -> bool:
    return metadata.get("component") in KINDS


def load(path: Path, metadata: dict):
    """The network of a golden file, its inputs and the outputs it must give (all fp32)."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    component = metadata["component"]
    half = f"weight.vae.{component[6:]}."
    weights = {name[len(half) :]: t for name, t in tensors.items() if name.startswith(half)}
    prefix = "weight.vae."
    weights |= {
        name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(f"{prefix}per_channel_statistics.")
    }
    config = video_vae_config(
        json.loads(metadata["config"])["vae"], {name: tuple(t.shape) for name, t in weights.items()}
    )
    network = KINDS[component](config)
    network.load_state_dict(weights, strict=True)
    inputs = {name[6:]: t for name, t in tensors.items() if name.startswith("input.")}
    outputs = {name[7:]: t for name, t in tensors.items() if name.startswith("output.")}
    return network, inputs, outputs


def differences(path: Path):
    """(name, largest difference relative to the output's scale) per output."""
    from .__main__ import metadata_of

    metadata = metadata_of(path)
    network, inputs, outputs = load(path, metadata)
    every = int(metadata.get("every", 1))  # smaller files hold every n-th value of the flattened output
    with torch.no_grad():
        for name, wanted in outputs.items():
            ours = network(inputs[name])
            ours = ours.flatten()[::every] if every > 1 else ours
            yield f"{path.stem}.{name}", relative(ours, wanted, smallest_scale=1)
