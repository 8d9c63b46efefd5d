"""Shape of the duration head of 2.5, which reads from a prompt's context how long a clip it describes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError


@dataclass(frozen=True)
class DurationHeadConfig:
    """Duration head: widths of the video and audio contexts, of the pooled tokens, and of the last hidden layer."""

    video_width: int = 4096
    audio_width: int = 2048
    width: int = 256
    queries: int = 1
    heads: int = 4
    hidden: int = 256


def duration_config(config: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]) -> DurationHeadConfig:
    """Config from tensor shapes and, for what they do not tell, the file's metadata.

    config: the whole metadata dictionary or its ``duration_head`` part, or None; shapes: bare names, or with
    ``duration_head.`` in front. Raises CheckpointError for tensors that are no duration head.
    """
    metadata = config or {}
    options = metadata.get("duration_head", metadata)
    heads = options.get("num_pooler_heads", 4)
    bare = {name.split("duration_head.")[-1]: tuple(shape) for name, shape in shapes.items()}
    if not bare:
        widths = metadata.get("transformer", {})
        head = DurationHeadConfig(
            video_width=widths.get("cross_attention_dim", 4096),
            audio_width=widths.get("audio_cross_attention_dim", 2048),
            width=options.get("pooler_hidden_dim", 256),
            queries=options.get("num_queries", 1),
            heads=heads,
            hidden=options.get("mlp_hidden", 256),
        )
    else:
        needed = (
            "video_input_proj.weight",
            "audio_input_proj.weight",
            "attention_pooler.query_tokens",
            "mlp_hidden.weight",
        )
        missing = [name for name in needed if name not in bare]
        if missing:
            raise CheckpointError(f"duration head has no tensor {missing[0]}: choose the duration head file of LTX-2.5")
        head = DurationHeadConfig(
            video_width=bare[needed[0]][1],
            audio_width=bare[needed[1]][1],
            width=bare[needed[2]][1],
            queries=bare[needed[2]][0],
            heads=heads,
            hidden=bare[needed[3]][0],
        )
    if head.width % head.heads:
        raise CheckpointError(
            f"duration head has {head.heads} heads for a width of {head.width}, expected a divisor: wrong config"
        )
    return head
