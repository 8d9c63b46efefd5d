"""One small call of every network that the loading nodes give, on a device of choice."""

import torch

from ltx2.networks.layers.rope import audio_positions, video_positions
from ltx2.networks.transformer.model import StreamInput
from ltx2.text.gemma import run_hidden_states


def calls(parts: dict) -> dict:
    """Name → (patcher, call), where call(network, device) gives the results as a list of tensors."""
    text, video, audio = parts["text_encoder"], parts["video_vae"], parts["audio_vae"]
    widths = [connector.model.config.width for connector in text.connectors]
    states = text.projection.model.config
    diffusion = hasattr(video.decoder.model, "diff_blocks")
    found = {
        "transformer": (parts["model"].patcher, transformer),
        "language model": (text.patcher, lambda network, device: language_states(text.encoder, device)),
        "projection": (text.projection, lambda network, device: list(
            network(noise(1, 6, states.hidden_width, states.states).to(device), torch.ones(1, 6).to(device))
        )),
        "video encoder": (video.encoder, one(noise(1, 3, 9, 64, 64).clamp(-1, 1))),
        "video decoder": (video.decoder, one(noise(1, 128, 2, 2, 2), **({"steps": 1} if diffusion else {}))),
        "audio encoder": (audio.encoder, one(noise(1, 2, 16, 64))),
        "audio decoder": (audio.decoder, one(noise(1, 8, 4, 16))),
        "vocoder": (audio.vocoder, one(noise(1, 2, 8, 64))),
        "upsampler": (parts["upsampler"].patcher, one(noise(1, 128, 2, 2, 2))),
    }  # fmt: skip
    for name, connector, width in zip(("video connector", "audio connector"), text.connectors, widths):
        found[name] = connector, one(noise(1, 128, width), (torch.arange(128) < 5).long()[None])
    return found


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def one(*given: torch.Tensor, **settings):
    return lambda network, device: [network(*(tensor.to(device) for tensor in given), **settings)]


def language_states(encoder, device) -> list[torch.Tensor]:
    states = []
    run_hidden_states(
        encoder, torch.arange(3, 12)[None].to(device), None, lambda index, state: states.append(state.clone())
    )
    return states


def transformer(network, device) -> list[torch.Tensor]:
    """Both velocities. Tokens of the first frame are known, so that there are two timesteps."""
    config = network.config
    tokens, latents, words, half = 8, 5, 4, torch.tensor([0.5])
    timesteps = torch.full((1, tokens), 0.5)
    timesteps[:, :4] = 0
    sizes = (
        (tokens, config.in_channels, config.context_width),
        (latents, config.audio_in_channels, config.audio_context_width),
    )
    positions = video_positions(2, 2, 2, 24, device="cpu"), audio_positions(latents, device="cpu")
    streams = []
    for (count, channels, width), where, steps in zip(sizes, positions, (timesteps, torch.full((1, latents), 0.5))):
        given = noise(1, count, channels), steps, half, where, noise(1, words, config.caption_channels or width)
        marked = {"keyframes_mask": (steps == 0).float()[..., None].to(device)} if config.keyframe_embedding else {}
        streams.append(StreamInput(*(tensor.to(device) for tensor in given), **marked))
    return list(network(*streams))
