"""Random weights of tiny checkpoints, under the official tensor names. The same name and seed give the same numbers."""

import hashlib
import math
from collections.abc import Mapping

import torch

from ..config.transformer import connector_config, text_projection_config, transformer_config
from ..networks.transformer.connectors import Connector, TextProjection
from ..networks.transformer.model import Transformer
from . import configs as tiny_configs
from . import text as tiny_text

Tensors = dict[str, torch.Tensor]

LORA_RANK = 4
LORA_GAIN = 0.3
# Modulation and velocity of random weights stay of the size of trained ones, so that guidance does not run away.
# A prompt's few tokens stand out among the thousand registers: these are alike, and the text attention is choosy.
REGISTER_SPREAD = 0.05
TEXT_ATTENTION = 4.0
GAINS = {"proj_out": 0.3, "adaln_single.linear": 0.3, "to_gate_logits": 0.3}


def generator(name: str, seed: int) -> torch.Generator:
    """A stream of its own for every tensor, so that adding one changes no other."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Float32 weights that keep the size of what passes through: by fan-in, norms near 1, biases near 0."""
    values = torch.randn(shape, generator=generator(name, seed), dtype=torch.float32)
    module, _, kind = name.rpartition(".")
    if kind == "std-of-means":
        return 1 + 0.2 * values.tanh()
    if kind in ("mean-of-means", "bias", "in_proj_bias") or "scale_shift_table" in kind:
        return 0.1 * values
    if kind == "layer_scalar" or (kind == "weight" and len(shape) == 1):
        return (TEXT_ATTENTION if module.endswith("attn2.q_norm") else 1) + 0.1 * values
    if kind == "learnable_registers":
        return REGISTER_SPREAD * values
    if kind == "query_tokens" or len(shape) < 2:
        return values
    gain = next((gain for end, gain in GAINS.items() if module.endswith(end)), 1.0)
    return values * gain / math.sqrt(math.prod(shape[1:]))


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int, prefix: str = "") -> Tensors:
    """Tensors of bare names, under their official names."""
    return {f"{prefix}{name}": random_tensor(f"{prefix}{name}", shape, seed) for name, shape in shapes.items()}


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors, as the checkpoint holds them."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def transformer_tensors(version: str, seed: int) -> Tensors:
    """The transformer and both connectors, as they stand in the transformer's file."""
    config = tiny_configs.transformer(version)
    shapes = shapes_of(Transformer(transformer_config(config, {}), device="meta"))
    for stream in ("video", "audio"):
        connector = Connector(connector_config(config, {}, stream), device="meta")
        shapes |= {f"{stream}_embeddings_connector.{name}": shape for name, shape in shapes_of(connector).items()}
    return random_tensors(shapes, seed, "model.diffusion_model.")


def text_projection_tensors(version: str, seed: int) -> Tensors:
    """What joins Gemma's states to the connectors, under the names of a file."""
    flat = tiny_text.HIDDEN * tiny_text.STATES
    if version == "2.0":
        given = {"aggregate_embed.weight": (tiny_text.HIDDEN, flat)}
    else:
        widths = {"video": tiny_configs.WIDTH, "audio": tiny_configs.AUDIO_WIDTH}
        given = {f"{stream}_aggregate_embed.weight": (width, flat) for stream, width in widths.items()}
    config = text_projection_config(tiny_configs.transformer(version), given)
    return random_tensors(shapes_of(TextProjection(config, device="meta")), seed, "text_embedding_projection.")


def bytes_tensor(data: bytes) -> torch.Tensor:
    """A file's bytes as a tensor."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def text_encoder_tensors(family: str, seed: int) -> Tensors:
    """Gemma with its tokenizer inside, as in the single files; Gemma 3 stores its norms as offsets from 1."""
    tensors = random_tensors(tiny_text.language_model_shapes(family), seed, "model.")
    if family == "gemma3":
        tensors = {name: tensor - 1 if name.endswith("norm.weight") else tensor for name, tensor in tensors.items()}
        return tensors | {"spiece_model": bytes_tensor(tiny_text.sentencepiece_proto())}
    return tensors | {
        "tokenizer_json": bytes_tensor(tiny_text.tokenizer_json()),
        "hf_asset__tokenizer_config.json": bytes_tensor(b'{"tokenizer_class": "GemmaTokenizer"}'),
    }


def lora_tensors(transformer: Tensors, seed: int) -> Tensors:
    """A distilled LoRA over every linear of the transformer, connectors apart."""
    tensors = {}
    for name, weight in transformer.items():
        if not name.endswith(".weight") or weight.ndim != 2 or "_embeddings_connector." in name:
            continue
        module = name.removeprefix("model.").removesuffix(".weight")
        for side, shape in (("A", (LORA_RANK, weight.shape[1])), ("B", (weight.shape[0], LORA_RANK))):
            key = f"{module}.lora_{side}.weight"
            tensors[key] = LORA_GAIN * random_tensor(key, shape, seed)
    return tensors
