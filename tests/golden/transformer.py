"""Golden files of the transformer: ``dit_*`` with the inputs of both streams and the velocities."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ltx2.config.transformer import transformer_config
from ltx2.networks.transformer.block import Perturbation
from ltx2.networks.transformer.model import StreamInput, Transformer

from ._differences import absolute
from ._weights import loaded, shapes, weights_beside

NOT_THE_TRANSFORMER = ("video_embeddings_connector.", "audio_embeddings_connector.", "text_embedding_projection.")
PERTURBATIONS = {
    "SKIP_VIDEO_SELF_ATTN": "skip_video_self_attention",
    "SKIP_AUDIO_SELF_ATTN": "skip_audio_self_attention",
    "SKIP_A2V_CROSS_ATTN": "skip_audio_to_video",
    "SKIP_V2A_CROSS_ATTN": "skip_video_to_audio",
}


def matches(path: Path, metadata: dict) -> bool:
    return path.name.startswith("dit_") and "weights" in metadata


def differences(path: Path):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    config, weights = weights_beside(path, metadata)
    model = build(config, weights)
    with torch.no_grad():
        outputs = model(
            *(stream_input(tensors, name) for name in ("video", "audio")), perturbations(metadata.get("perturbations"))
        )
    for name, output in zip(("video", "audio"), outputs):
        if f"output.{name}" in tensors:
            yield f"{path.stem}.{name}", absolute(output, tensors[f"output.{name}"])


def build(config: dict | None, weights: dict, **options) -> Transformer:
    """A transformer with the weights that are its own among ``weights``."""
    own = {name: tensor for name, tensor in weights.items() if not name.startswith(NOT_THE_TRANSFORMER)}
    return loaded(Transformer(transformer_config(config, shapes(own)), device="meta", **options), own)


def stream_input(tensors: dict, name: str) -> StreamInput | None:
    parts = {key.split(".", 2)[2]: tensor for key, tensor in tensors.items() if key.startswith(f"input.{name}.")}
    return StreamInput(**parts) if parts else None


def perturbations(text: str | None) -> list[Perturbation] | None:
    samples = json.loads(text or "null")
    if samples is None:
        return None
    return [
        Perturbation(**{PERTURBATIONS[kind]: None if blocks is None else tuple(blocks) for kind, blocks in s})
        for s in samples
    ]
