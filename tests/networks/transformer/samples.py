"""Small random transformers in the released layouts, and inputs for each thing that a forward can be asked to do."""

import math
import zlib

import torch
from torch import nn

from ltx2.config.transformer import connector_config, text_projection_config, transformer_config
from ltx2.networks.layers.rope import audio_positions, video_positions
from ltx2.networks.transformer.connectors import Connector, TextProjection
from ltx2.networks.transformer.model import Transformer

from ..released_shapes import CONFIGS

VERSIONS = ("2.0", "2.0-interleaved", "2.3", "2.5")
STATES = 3  # hidden states of a pretended text encoder
CASES = (
    "plain", "two_sigmas", "first_frame", "frozen_audio", "text_mask", "mask", "fractional_mask", "stg", "isolated",
    "mixed", "appended",
    "slots", "sound_first",
)  # fmt: skip


def small_config(version: str, **changes) -> dict:
    """A released version's configuration with few and narrow layers."""
    config = dict(CONFIGS[version.split("-")[0]])
    config |= {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "cross_attention_dim": 32,
        "in_channels": 8,
        "out_channels": 8,
        "audio_num_attention_heads": 2,
        "audio_attention_head_dim": 8,
        "audio_cross_attention_dim": 16,
        "audio_in_channels": 8,
        "audio_out_channels": 8,
        "caption_channels": 24,
        "connector_num_attention_heads": 2,
        "connector_attention_head_dim": 16,
        "connector_num_layers": 2,
    }
    if version.startswith("2.0"):
        config |= {"connector_num_attention_heads": 2, "connector_attention_head_dim": 12}  # as wide as the captions
    else:
        config |= {"audio_connector_num_attention_heads": 2, "audio_connector_attention_head_dim": 8}
    if version.endswith("interleaved"):
        config |= {"rope_type": "interleaved", "frequencies_precision": "float32"}
    return config | changes


def random_weights(module: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Random numbers for a module's tensors, of a size that keeps activations near 1, and exact in bfloat16."""
    weights = {}
    for name, tensor in module.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        x = torch.randn(tensor.shape, generator=generator)
        if name.endswith("norm.weight"):
            x = 1 + 0.2 * x
        elif "table" in name:
            x = 0.5 * x
        elif name.endswith("bias"):
            x = 0.1 * x
        elif name.endswith("weight"):
            x = x / math.sqrt(x.shape[-1])
        weights[name] = x.bfloat16().float()
    return weights


def filled(module: nn.Module, seed: int) -> nn.Module:
    module.load_state_dict(random_weights(module, seed), strict=True, assign=True)
    return module.eval()


def small_transformer(config: dict, seed: int = 0, **options) -> Transformer:
    return filled(Transformer(transformer_config(config, {}), device="meta", **options), seed)


def small_text_path(config: dict, seed: int = 0) -> dict[str, nn.Module]:
    """The projection and both connectors, named as in a file."""
    hidden, later = config["caption_channels"], config.get("caption_proj_before_connector", False)
    streams = {stream: connector_config(config, {}, stream) for stream in ("video", "audio")}
    flat = hidden * STATES
    names = {f"{stream}_aggregate_embed.weight": (own.width, flat) for stream, own in streams.items()}
    names = names if later else {"aggregate_embed.weight": (hidden, flat)}
    out = {
        "text_embedding_projection": filled(TextProjection(text_projection_config(config, names), device="meta"), seed)
    }
    for number, (stream, own) in enumerate(streams.items()):
        out[f"{stream}_embeddings_connector"] = filled(Connector(own, device="meta"), seed + 1 + number)
    return out


def text_states(config: dict, seed: int = 3, tokens: int = 128, valid=(5, 70)) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [B, T, hidden, states] of very different sizes and a left-padded mask [B, T]."""
    generator = torch.Generator().manual_seed(seed)
    states = (
        torch.randn(len(valid), tokens, config["caption_channels"], STATES, generator=generator)
        * torch.tensor([1.0, 30.0, 0.5])
        + 0.3
    )
    mask = torch.stack([(torch.arange(tokens) >= tokens - count).long() for count in valid])
    return states, mask


SELF_ATTENTION = [["SKIP_VIDEO_SELF_ATTN", [1]], ["SKIP_AUDIO_SELF_ATTN", [1]]]
CROSS_ATTENTION = [["SKIP_A2V_CROSS_ATTN", None], ["SKIP_V2A_CROSS_ATTN", None]]
PERTURBATIONS = {
    "stg": [SELF_ATTENTION, SELF_ATTENTION],
    "isolated": [CROSS_ATTENTION, CROSS_ATTENTION],
    "mixed": [
        [["SKIP_VIDEO_SELF_ATTN", [0]], ["SKIP_V2A_CROSS_ATTN", [1]]],
        [["SKIP_AUDIO_SELF_ATTN", [0, 1]], ["SKIP_A2V_CROSS_ATTN", None]],
    ],
}
BATCH, FRAMES, HEIGHT, WIDTH, LATENTS, WORDS = 2, 3, 2, 3, 5, 4
FRAME_TOKENS, TOKENS = HEIGHT * WIDTH, FRAMES * HEIGHT * WIDTH


def plain_inputs(config: dict, noise) -> dict[str, dict]:
    """Latents, sigmas, contexts and positions of both streams. noise: shape → tensor."""
    widths = (config["caption_channels"],) * 2
    if config.get("caption_proj_before_connector", False):
        widths = (config["cross_attention_dim"], config["audio_cross_attention_dim"])
    sigma = torch.tensor([0.909375, 0.6])
    return {
        "video": {
            "latent": noise(BATCH, TOKENS, config["in_channels"]),
            "sigma": sigma,
            "context": noise(BATCH, WORDS, widths[0]),
            "positions": video_positions(FRAMES, HEIGHT, WIDTH, 24, device="cpu").repeat(BATCH, 1, 1, 1),
        },
        "audio": {
            "latent": noise(BATCH, LATENTS, config["audio_in_channels"]),
            "sigma": sigma,
            "context": noise(BATCH, WORDS, widths[1]),
            "positions": audio_positions(LATENTS, device="cpu").repeat(BATCH, 1, 1, 1),
        },
    }


def inputs(config: dict, seed: int = 1, case: str = "plain") -> dict[str, dict]:
    """``{"video": …, "audio": …}``: the parts of a stream as tensors; two samples; ``perturbations`` as lists of names
    and blocks."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    out = plain_inputs(config, noise)
    video, audio = out["video"], out["audio"]
    masks = {"video": torch.ones(BATCH, TOKENS, 1), "audio": torch.ones(BATCH, LATENTS, 1)}
    keyframes = torch.zeros(BATCH, TOKENS, 1)
    keyframes[:, :FRAME_TOKENS] = 1
    if case == "two_sigmas":
        audio["sigma"] = torch.tensor([0.35, 0.725])
    if case in ("first_frame", "appended"):
        masks["video"][0, :FRAME_TOKENS] = 0
        masks["video"][1, :FRAME_TOKENS] = 0.3
    if case == "frozen_audio":
        masks["audio"].zero_()
        audio["sigma"] = torch.zeros(BATCH)
    if case == "text_mask":
        video["context_mask"] = audio["context_mask"] = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    if case in ("mask", "fractional_mask"):
        strength = torch.ones(BATCH, TOKENS, TOKENS)
        strength[:, :-4, -4:] = strength[:, -4:, :-4] = 0.0 if case == "mask" else 0.35
        video["attention_mask"] = strength
    if case in ("appended", "slots"):
        extra = video_positions(1, 2, 2, 24, video_offset_seconds=0.5, device="cpu").repeat(BATCH, 1, 1, 1)
        video["latent"] = torch.cat([video["latent"], noise(BATCH, 4, config["in_channels"])], 1)
        video["positions"] = torch.cat([video["positions"], extra], 2)
        masks["video"] = torch.cat([masks["video"], torch.full((BATCH, 4, 1), 0.2 if case == "appended" else 1.0)], 1)
        keyframes = torch.cat([keyframes, torch.full((BATCH, 4, 1), float(case == "slots"))], 1)
    if case == "sound_first":  # the picture starts 1.4 s after the sound
        late = video_positions(FRAMES, HEIGHT, WIDTH, "24000/1001", video_offset_seconds=1.4, device="cpu")
        video["positions"] = late.repeat(BATCH, 1, 1, 1)
    for name, stream in out.items():
        stream["timesteps"] = masks[name] * stream["sigma"][:, None, None]
    if config.get("use_keyframes_abs_pos_embedding"):
        video["keyframes_mask"] = keyframes
    out["perturbations"] = PERTURBATIONS.get(case)
    return out
