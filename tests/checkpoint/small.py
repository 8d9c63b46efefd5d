"""Small networks with random weights, as tensors under official bare names."""

import torch

from ltx2.config.transformer import ConnectorConfig, TextProjectionConfig, TransformerConfig
from ltx2.networks.transformer.connectors import Connector, TextProjection
from ltx2.networks.transformer.model import StreamInput, Transformer

WIDTH, AUDIO_WIDTH = 32, 16
PREFIX = "model.diffusion_model."
_SIZES = {
    "layers": 2,
    "heads": 2,
    "head_dim": 16,
    "in_channels": 8,
    "out_channels": 8,
    "context_width": WIDTH,
    "audio_heads": 2,
    "audio_head_dim": 8,
    "audio_in_channels": 8,
    "audio_out_channels": 8,
    "audio_context_width": AUDIO_WIDTH,
}
CONFIGS = {
    "2.0": TransformerConfig(
        **_SIZES, gated_attention=False, text_modulation=False, prompt_timesteps=False, caption_channels=24
    ),
    "2.3": TransformerConfig(**_SIZES),
    "2.5": TransformerConfig(**_SIZES, feed_forward_bias=False, keyframe_embedding=True),
}
# What the metadata of a file says, as far as tensors do not.
METADATA = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "cross_attention_dim": WIDTH,
    "audio_cross_attention_dim": AUDIO_WIDTH,
    "frequencies_precision": "float64",
}


def tensors_of(network: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(t.shape, generator=generator) * 0.1 for name, t in network.state_dict().items()}


def transformer(version: str = "2.3", seed: int = 0) -> dict[str, torch.Tensor]:
    return tensors_of(Transformer(CONFIGS[version], device="meta"), seed)


def connector(width: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return tensors_of(
        Connector(ConnectorConfig(heads=2, head_dim=width // 2, layers=1, registers=4), device="meta"), seed
    )


def connectors() -> dict[str, torch.Tensor]:
    both = (("video", WIDTH), ("audio", AUDIO_WIDTH))
    return {f"{s}_embeddings_connector.{name}": t for s, width in both for name, t in connector(width).items()}


def text_projection() -> dict[str, torch.Tensor]:
    return tensors_of(TextProjection(TextProjectionConfig(4, 49, WIDTH, AUDIO_WIDTH), device="meta"))


def prefixed(tensors, prefix: str = PREFIX) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def run(network, seed: int = 1) -> torch.Tensor:
    """Outputs of a transformer on random tokens, in one tensor."""
    generator = torch.Generator().manual_seed(seed)
    config = network.config

    def stream(channels, axes, context_width):
        starts = torch.rand(1, axes, 3, 1, generator=generator)
        return StreamInput(
            latent=torch.randn(1, 3, channels, generator=generator),
            timesteps=torch.full((1, 3), 0.5),
            sigma=torch.tensor([0.5]),
            positions=torch.cat([starts, starts + 0.1], -1),
            context=torch.randn(1, 4, context_width, generator=generator),
        )

    captions = config.caption_channels
    with torch.inference_mode():
        outputs = network(
            stream(config.in_channels, 3, captions or config.context_width),
            stream(config.audio_in_channels, 1, captions or config.audio_context_width),
        )
    return torch.cat([output.flatten() for output in outputs])
