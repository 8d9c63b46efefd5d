"""Everything into the released layout of 2.3: one checkpoint and one Gemma, as ``ltx2`` loads any other.

Gemma and the connectors add nothing: a word's embedding is one-hot by its class, so the projection's columns are the
words' vectors.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from . import picture_codec, sound_codec, world
from .engine import (
    Connector,
    bytes_tensor,
    connector_config,
    shapes_of,
    tiny_scheduler,
    tiny_text,
    write_safetensors,
)
from .transformer import AUDIO_WIDTH, CONFIG, NEUTRAL, WIDTH, WORDS, MiniTransformer

CHECKPOINT, TEXT_ENCODER = "ltx-2.3-mini-distilled.safetensors", "gemma_3_mini.safetensors"
LICENSE = "Apache-2.0"
CLASS_OF = {word: WORDS.index(name) for name, text in world.WORDS.items() for word in text.split()}


def export(model: MiniTransformer, codec: tuple[nn.Module, nn.Module], folder: Path) -> dict[str, float]:
    """Write both files; codec: the cell decoder and encoder. Returns their sizes in MB."""
    video = _video_tensors(*codec)
    config = {
        "transformer": CONFIG,
        "vae": picture_codec.CONFIG,
        "scheduler": tiny_scheduler(),
        "audio_vae": sound_codec.AUDIO_VAE,
        "vocoder": sound_codec.VOCODER,
    }
    tensors = _transformer_tensors(model) | _projection_tensors(model) | video | _sound_tensors()
    metadata = {"license": LICENSE, "model_version": "2.3.0", "config": json.dumps(config)}
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / CHECKPOINT, tensors, metadata)
    write_safetensors(folder / TEXT_ENCODER, text_encoder_tensors(), {"license": LICENSE})
    return {name: (folder / name).stat().st_size / 1e6 for name in (CHECKPOINT, TEXT_ENCODER)}


def _transformer_tensors(model: MiniTransformer) -> dict[str, Tensor]:
    prefix = "model.diffusion_model."
    tensors = {f"{prefix}{name}": value.detach() for name, value in model.net.state_dict().items()}
    for stream, vectors in (("video", model.video_words), ("audio", model.audio_words)):
        connector = Connector(connector_config(CONFIG, {}, stream), device="meta")
        for name, shape in shapes_of(connector).items():
            value = torch.zeros(shape)
            if name.endswith("norm.weight"):
                value += 1
            if name == "learnable_registers":
                value += vectors[NEUTRAL].detach()
            tensors[f"{prefix}{stream}_embeddings_connector.{name}"] = value
    return tensors


def _projection_tensors(model: MiniTransformer) -> dict[str, Tensor]:
    """The projection sees each of Gemma's states normed to root mean square 1 and rescaled by the widths' ratio."""
    tensors = {}
    hidden, states = tiny_text.HIDDEN, tiny_text.STATES
    for stream, vectors, width in (("video", model.video_words, WIDTH), ("audio", model.audio_words, AUDIO_WIDTH)):
        weight = torch.zeros(width, hidden * states)
        for index, vector in enumerate(vectors.detach()):
            weight[:, index * states] = vector / (hidden**0.5 * (width / hidden) ** 0.5)
        name = f"text_embedding_projection.{stream}_aggregate_embed"
        tensors |= {f"{name}.weight": weight, f"{name}.bias": torch.zeros(width)}
    return tensors


def _halves(encoder: nn.Module, decoder: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Tensors of an autoencoder; statistics stand once."""
    tensors = {}
    for half, network in (("encoder", encoder), ("decoder", decoder)):
        for name, value in network.state_dict().items():
            shared = name.startswith("per_channel_statistics")
            tensors[f"{prefix}.{name}" if shared else f"{prefix}.{half}.{name}"] = value.clone()
    return tensors


def _video_tensors(decoder: nn.Module, encoder: nn.Module) -> dict[str, Tensor]:
    return _halves(*picture_codec.networks(decoder, encoder), "vae")


def _sound_tensors() -> dict[str, Tensor]:
    encoder, decoder, vocoder = sound_codec.networks()
    tensors = _halves(encoder, decoder, "audio_vae")
    return tensors | {f"vocoder.{name}": value.clone() for name, value in vocoder.state_dict().items()}


def text_encoder_tensors() -> Mapping[str, Tensor]:
    """A Gemma of six layers that do nothing, and a tokenizer that knows the world's words in lower and upper case."""
    space = tiny_text.SPACE
    texts = [form for word in CLASS_OF for form in (space + word, space + word.capitalize(), word, word.capitalize())]
    table = tiny_text.pieces(texts)
    shapes = tiny_text.language_model_shapes("gemma3")
    shapes["embed_tokens.weight"] = (len(table) + tiny_text.EXTRA_ROWS, tiny_text.HIDDEN)
    tensors = {f"model.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    embedding = tensors["model.embed_tokens.weight"]
    embedding[:, NEUTRAL] = 1
    for row, (text, _, _) in enumerate(table):
        word = CLASS_OF.get(text.removeprefix(space).lower())
        if word is not None:
            embedding[row] = 0
            embedding[row, word] = 1
    return tensors | {"spiece_model": bytes_tensor(tiny_text.sentencepiece_proto(table))}
