"""Diffusion decoder of LTX-2.5: latent and noise → pixels, also through the padding of small latents."""

import json

import torch
from safetensors.torch import load_file, safe_open

from ltx2.config.diffusion_decoder import diffusion_decoder_config
from ltx2.networks.video_vae.diffusion_decoder import DiffusionDecoder

from ._differences import relative


def matches(path, metadata) -> bool:
    return metadata.get("component") == "diffusion_decoder"


def load(path) -> tuple[DiffusionDecoder, dict[str, torch.Tensor], dict[str, str]]:
    """The decoder with the file's weights, its other tensors, and its metadata."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    weights = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix("weight.vae.").removeprefix("decoder.")
        if name.startswith("weight.") and not bare.startswith("encoder."):
            weights[bare] = tensor.float()
    config = diffusion_decoder_config(json.loads(metadata["config"])["vae"], {n: t.shape for n, t in weights.items()})
    decoder = DiffusionDecoder(config)
    decoder.load_state_dict(weights)
    return decoder.eval(), {n: t for n, t in tensors.items() if not n.startswith("weight.")}, metadata


@torch.no_grad()
def differences(path):
    decoder, tensors, metadata = load(path)
    noise = tensors.get("input.noise")
    if noise is None:  # compact files name a seed
        shape = json.loads(metadata["noise_shape"])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(int(metadata["noise_seed"])))
    every = int(metadata.get("every", 1))  # and keep every n-th row and column of the pixels
    for name in sorted(tensors):
        if name == "output.public":
            ours = {name: decoder(tensors["input.z_small"], generator=torch.Generator().manual_seed(0))}
        elif name.startswith("output.x0"):
            steps = int(name.rpartition("_")[2]) if "_" in name else None
            ours = {}
            for low_memory in (False, True):
                context = decoder.context(decoder.features(tensors["input.z"]), low_memory=low_memory)
                pixels = decoder.denoise(context, noise, steps, low_memory=low_memory)
                ours[f"{name} low memory" if low_memory else name] = pixels
        else:
            continue
        for label, pixels in ours.items():
            yield f"{path.stem}/{label}", relative(pixels[..., ::every, ::every], tensors[name])
