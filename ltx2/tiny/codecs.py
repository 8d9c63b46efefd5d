"""Sound networks, upsamplers and the duration head of tiny checkpoints."""

import torch
from torch import nn

from ..config.audio import audio_vae_config, vocoder_config
from ..config.duration import duration_config
from ..config.upsampler import upsampler_config
from ..networks.audio.vae import AudioDecoder, AudioEncoder
from ..networks.audio.vocoder import make_vocoder
from ..networks.transformer.duration_head import DurationHead
from ..networks.video_vae.latent_upsampler import LatentUpsampler
from . import configs as tiny_configs
from .weights import Tensors, generator, random_tensor, random_tensors, shapes_of

# Tensors that are filters rather than weights: what the networks compute for themselves is what the files hold.
FILTERS = ("filter", "forward_basis", "inverse_basis", "mel_basis", "kernel")
# Root mean square of the sound that noise latents give: audible, and far from clipping. The band above 8 kHz is softer.
LOUDNESS, HIGH_LOUDNESS = 0.1, 0.02
MEL_SPREAD, MEL_FRAMES = 0.6, 25  # of what the random audio decoder makes
SECONDS_BIAS = 1.1  # the duration head answers with e to the power of it, about three seconds


def audio_vae_tensors(seed: int) -> Tensors:
    """Encoder, decoder and statistics of the audio VAE (``audio_vae.…``)."""
    config = audio_vae_config(tiny_configs.audio_vae(), {})
    shapes = {}
    for half, network in (("encoder", AudioEncoder), ("decoder", AudioDecoder)):
        for name, shape in shapes_of(network(config, device="meta")).items():
            shapes[name if name.startswith("per_channel_statistics.") else f"{half}.{name}"] = shape
    return random_tensors(shapes, seed, "audio_vae.")


@torch.inference_mode()
def vocoder_tensors(version: str, seed: int) -> Tensors:
    """The vocoder (``vocoder.…``), its last layers scaled so that sound comes out at ``LOUDNESS``."""
    network = make_vocoder(vocoder_config(tiny_configs.vocoder(version), {}))
    tensors = _with_filters(network, seed, "vocoder.")
    for name in tensors:
        if name.endswith(("act.alpha", "act.beta")):
            tensors[name] *= 0.1
        if name.endswith("conv_post.bias"):
            tensors[name] *= 0
        if name.endswith("conv_post.weight"):
            tensors[name] -= tensors[name].mean(2, keepdim=True)  # no constant offset in the sound
    network.load_state_dict({name.removeprefix("vocoder."): tensor for name, tensor in tensors.items()})
    mel = MEL_SPREAD * torch.randn(1, 2, MEL_FRAMES, 64, generator=generator("mel", seed))
    if version == "2.0":
        _set_loudness(network.conv_post, lambda: network(mel), LOUDNESS)
    else:
        low = _set_loudness(network.vocoder.conv_post, lambda: network.vocoder(_joined(mel)), LOUDNESS)
        high = _joined(network.mel_stft(low))
        _set_loudness(network.bwe_generator.conv_post, lambda: network.bwe_generator(high), HIGH_LOUDNESS)
    return {f"vocoder.{name}": tensor for name, tensor in network.state_dict().items()}


def _joined(mel: torch.Tensor) -> torch.Tensor:
    """[B, 2, T, bins] → [B, 2 · bins, T], what a generator reads."""
    return mel.transpose(2, 3).flatten(1, 2)


def _set_loudness(layer: nn.Module, sound, loudness: float) -> torch.Tensor:
    """Scale a last layer until ``sound()`` has the given root mean square; returns that sound."""
    layer.weight.mul_(1e-3)  # so quiet that nothing is clipped while it is measured
    layer.weight.mul_(loudness / sound().square().mean().sqrt())
    return sound()


def upsampler_tensors(config: dict, seed: int) -> Tensors:
    """One latent upsampler, under bare names."""
    return _with_filters(LatentUpsampler(upsampler_config(config, {})), seed, "")


def duration_head_tensors(seed: int) -> Tensors:
    """The duration head (``duration_head.…``)."""
    config = duration_config(tiny_configs.duration_head(), {})
    tensors = random_tensors(shapes_of(DurationHead(config, device="meta")), seed, "duration_head.")
    tensors["duration_head.mlp_out.bias"] = torch.full_like(tensors["duration_head.mlp_out.bias"], SECONDS_BIAS)
    return tensors


def _with_filters(network: nn.Module, seed: int, prefix: str) -> Tensors:
    tensors = {}
    for name, tensor in network.state_dict().items():
        kept = name.rpartition(".")[2] in FILTERS
        tensors[f"{prefix}{name}"] = (
            tensor.clone() if kept else random_tensor(f"{prefix}{name}", tuple(tensor.shape), seed)
        )
    return tensors
