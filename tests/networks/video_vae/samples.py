"""Tiny video VAEs in the released layouts, with random weights, for the tests of the video rooms."""

import math

import torch

from ltx2.config.video_vae import VideoVaeConfig, video_vae_config
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder


def res(layers, **more):
    return ["res_x", {"num_layers": layers, **more}]


def compress(name, multiplier, **more):
    return [f"compress_{name}", {"multiplier": multiplier, **more}]


def _lists(version, layers):
    a, b, c, d, e = layers
    last = 2 if version == "2.0" else 1
    encoder = [
        res(a),
        compress("space_res", 2),
        res(b),
        compress("time_res", 2),
        res(c),
        compress("all_res", 2),
        res(d),
    ]
    encoder += [compress("all_res", last), res(e)]
    if version == "2.0":
        n = {"inject_noise": False}
        up = compress("all", 2, residual=True)
        return encoder, [res(a, **n), up, res(b, **n), up, res(c, **n), up, res(d, **n)]
    decoder = [
        res(a),
        compress("space", 2),
        res(b),
        compress("time", 2),
        res(c),
        compress("all", 1),
        res(d),
        compress("all", 2),
        res(e),
    ]
    return encoder, decoder


def vae_config(version, *, base=4, latent=4, layers=(1, 1, 1, 1, 1), **more) -> dict:
    """The ``vae`` dictionary of a checkpoint; version "2.0" or "2.3"."""
    encoder, decoder = _lists(version, layers)
    config = {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": latent,
        "encoder_blocks": encoder,
        "decoder_blocks": decoder,
        "patch_size": 4,
        "norm_layer": "pixel_norm",
        "latent_log_var": "uniform",
        "causal_decoder": False,
        "timestep_conditioning": False,
        "encoder_base_channels": base,
        "decoder_base_channels": base,
        "scaling_factor": 1.0,
    }
    if version != "2.0":
        config["spatial_padding_mode"] = "zeros"
    return {**config, **more}


def released(version) -> VideoVaeConfig:
    """The real sizes."""
    config = vae_config(version, base=128, latent=128)
    if version == "2.0":
        config["encoder_blocks"], _ = _lists("2.0", (4, 6, 6, 2, 2))
        _, config["decoder_blocks"] = _lists("2.0", (5, 5, 5, 5, 0))
    else:
        config["encoder_blocks"], config["decoder_blocks"] = _lists("2.3", (4, 6, 4, 2, 2))
    return video_vae_config(config, {})


def fill(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random weights, the same for a seed, of a size that keeps the signal's size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "timestep_scale_multiplier":
                continue
            values = torch.randn(tensor.shape, generator=generator)
            if leaf == "std-of-means":
                values = 0.5 + values.abs()
            elif tensor.ndim >= 2:
                values /= math.sqrt(math.prod(tensor.shape[1:]))
            else:
                values *= 0.1
            tensor.copy_(values.bfloat16())
    return module.eval()


def decoder(version="2.3", seed=0, **config) -> VideoDecoder:
    return fill(VideoDecoder(video_vae_config(vae_config(version, **config), {})), seed)


def encoder(version="2.3", seed=0, **config) -> VideoEncoder:
    return fill(VideoEncoder(video_vae_config(vae_config(version, **config), {})), seed)


def noise(*shape, seed=0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
