"""Golden files of the text path behind the encoder: ``connector_*`` with hidden states, mask and both contexts."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ltx2.config.transformer import connector_config, text_projection_config
from ltx2.networks.transformer.connectors import Connector, TextProjection

from ._differences import absolute
from ._weights import loaded, shapes, under, weights_beside


def matches(path: Path, metadata: dict) -> bool:
    return path.name.startswith("connector_") and "weights" in metadata


def differences(path: Path):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        config, weights = weights_beside(path, file.metadata())
    contexts = run(config, weights, tensors["input.states"], tensors["input.mask"])
    for name, context in zip(("video", "audio"), contexts):
        yield f"{path.stem}.{name}", absolute(context, tensors[f"output.{name}"])


def run(config: dict | None, weights: dict, states: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Contexts for video and audio of states [B, T, hidden, states]."""
    own = under(weights, "text_embedding_projection.")
    projection = loaded(TextProjection(text_projection_config(config, shapes(own)), device="meta"), own)
    contexts = []
    with torch.no_grad():
        for stream, features in zip(("video", "audio"), projection(states, mask)):
            own = under(weights, f"{stream}_embeddings_connector.")
            connector = loaded(Connector(connector_config(config, shapes(own), stream), device="meta"), own)
            contexts.append(connector(features, mask))
    return contexts
