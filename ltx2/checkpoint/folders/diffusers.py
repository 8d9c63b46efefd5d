"""The networks of a diffusers pipeline under the official names, told by names that only diffusers has.

Each of its folders holds one network with a ``config.json`` beside. What that file says and the tensors do not, is
taken over; all else is read from the tensors' shapes.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...errors import CheckpointError
from ..adapters.kinds import is_adapter_key
from ..adapters.names import official_segments
from ..adapters.unread import unread_kind
from ..lazy_tensor import HeldTensor
from ..quantization.packed import FileTensor

CONFIG = "config.json"
CONFIG_LIMIT_BYTES = 1_000_000
_PREFIXES = ("model.", "transformer.")
_STATISTICS = {
    "latents_mean": "per_channel_statistics.mean-of-means",
    "latents_std": "per_channel_statistics.std-of-means",
}
_VOCODER = {
    "upsamplers": "ups", "resnets": "resblocks", "conv_in": "conv_pre", "conv_out": "conv_post", "act_out": "act_post",
}  # fmt: skip
_FORWARD, _INVERSE = "mel_stft.stft_fn.forward_basis", "mel_stft.stft_fn.inverse_basis"
# Of config.json → of the official configuration; a function makes another value of it.
_TRANSFORMER: dict[str, str] = {
    key: key
    for key in (
        "num_layers", "num_attention_heads", "attention_head_dim", "cross_attention_dim", "audio_num_attention_heads",
        "audio_attention_head_dim", "audio_cross_attention_dim", "caption_channels", "norm_eps", "rope_type",
        "timestep_scale_multiplier",
    )
} | {
    "rope_theta": "positional_embedding_theta",
    "cross_attn_timestep_scale_multiplier": "av_ca_timestep_scale_multiplier",
}  # fmt: skip
_CONNECTORS = {
    "video_connector_num_attention_heads": "connector_num_attention_heads",
    "video_connector_attention_head_dim": "connector_attention_head_dim",
    "video_connector_num_layers": "connector_num_layers",
    "audio_connector_num_attention_heads": "audio_connector_num_attention_heads",
    "audio_connector_attention_head_dim": "audio_connector_attention_head_dim",
    "audio_connector_num_layers": "audio_connector_num_layers",
    "caption_channels": "caption_channels",
    "rope_type": "rope_type",
}  # fmt: skip

Tensor = TypeVar("Tensor", bound=FileTensor)


@dataclass(frozen=True)
class _Network:
    """marks: ends of names that only this network has in diffusers' files; rename: one name of all of them; config:
    what ``config.json`` says, as the official configuration."""

    marks: re.Pattern[str]
    rename: Callable[[str, int], str]
    config: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda config: {}


def in_official_names(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[dict[str, Tensor | HeldTensor], dict[str, str]]:
    """Tensors and metadata of a file as they would be in a release's own; unchanged where the names are not diffusers'.

    Raises CheckpointError for a ``config.json`` beside it that cannot be read.
    """
    network = next((one for one in _NETWORKS if any(map(one.marks.match, tensors))), None)
    # adapters keep theirs, since their configuration speaks of modules by these names
    if network is None or any(is_adapter_key(name) or unread_kind(name) for name in tensors):
        return dict(tensors), dict(metadata)
    levels = 1 + max((int(found[1]) for name in tensors if (found := _LEVEL.match(name))), default=-1)
    renamed: dict[str, Tensor | HeldTensor] = {network.rename(name, levels): tensor for name, tensor in tensors.items()}
    if len(renamed) != len(tensors):
        raise CheckpointError(f"{path} has two names for one tensor, expected one: get the file again")
    basis = renamed.get(f"vocoder.{_FORWARD}")
    if basis is not None and f"vocoder.{_INVERSE}" not in renamed:  # nothing here computes with it
        name = f"vocoder.{_INVERSE}"
        renamed[name] = HeldTensor(name, torch.zeros(basis.shape, dtype=basis.dtype), path)
    config = {} if "config" in metadata else network.config(_config(path))
    return renamed, {**metadata, **({"config": json.dumps({"transformer": config})} if config else {})}


def _config(path: Path) -> dict[str, Any]:
    beside = path.with_name(CONFIG)
    if not beside.is_file():
        return {}
    try:
        text = beside.read_text("utf-8") if beside.stat().st_size <= CONFIG_LIMIT_BYTES else ""
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{beside} is not a network's configuration, expected a JSON object: get it again")
    return found


def _taken(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    taken = {ours: config[theirs] for theirs, ours in names.items() if config.get(theirs) is not None}
    double = config.get("rope_double_precision")
    return taken if double is None else {**taken, "frequencies_precision": "float64" if double else "float32"}


# ---------------------------------------------------------------------------------------------------------------
# The networks

_LEVEL = re.compile(r"(?:encoder\.)?down_blocks\.(\d+)\.")


def _transformer(name: str, levels: int) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return ".".join(official_segments(name.split(".")))


def _transformer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    taken = _taken(config, _TRANSFORMER)
    video = [config.get(key) for key in ("pos_embed_max_pos", "base_height", "base_width")]
    if None not in video:
        taken["positional_embedding_max_pos"] = video
    if config.get("audio_pos_embed_max_pos") is not None:
        taken["audio_positional_embedding_max_pos"] = [config["audio_pos_embed_max_pos"]]
    return taken


def _connectors(name: str, levels: int) -> str:
    segments = official_segments(name.split("."))
    if segments[0].endswith("aggregate_embed"):
        return "text_embedding_projection." + ".".join(segments)
    return ".".join("transformer_1d_blocks" if one == "transformer_blocks" else one for one in segments)


def _connectors_config(config: Mapping[str, Any]) -> dict[str, Any]:
    taken = _taken(config, _CONNECTORS)
    if config.get("connector_rope_base_seq_len") is not None:
        taken["connector_positional_embedding_max_pos"] = [config["connector_rope_base_seq_len"]]
    return taken


def _video_vae(name: str, levels: int) -> str:
    """Blocks and what is between them, which diffusers nests, count on: res, down, res, down, …, res."""
    if name in _STATISTICS:
        return f"vae.{_STATISTICS[name]}"
    half, *parts = name.split(".")
    if parts[0] == "mid_block":
        parts[:1] = ["down_blocks", str(2 * levels)] if half == "encoder" else ["up_blocks", "0"]
    elif parts[0] in ("down_blocks", "up_blocks"):
        index = 2 * int(parts[1]) + (0 if half == "encoder" else 2)
        between = parts[2] in ("downsamplers", "upsamplers")
        parts[1:4] = [str(index + (1 if half == "encoder" else -1))] if between else [str(index), *parts[2:4]]
    elif parts[0] in ("time_embedder", "scale_shift_table"):
        parts[0] = f"last_{parts[0]}"
    parts = ["res_blocks" if one == "resnets" else one for one in parts]
    return ".".join(("vae", half, *parts))


def _audio_vae(name: str, levels: int) -> str:
    return f"audio_vae.{_STATISTICS.get(name, name)}"


def _vocoder(name: str, levels: int) -> str:
    parts = [_VOCODER.get(part, part) for part in name.split(".")]
    if parts[-2:] == ["downsample", "filter"]:
        parts[-1:] = ["lowpass", "filter"]
    return ".".join(("vocoder", *parts))


_NETWORKS = (
    _Network(
        re.compile(
            r"(?:model\.|transformer\.)*"
            r"(?:transformer_blocks\.\d+\..*norm_[qk]\.|(?:audio_)?time_embed\.|av_cross_attn_)"
        ),
        _transformer,
        _transformer_config,
    ),
    _Network(
        re.compile(r"(?:video|audio)_connector\.|(?:video_|audio_)?text_proj_in\."), _connectors, _connectors_config
    ),
    _Network(re.compile(r"(?:encoder|decoder)\.(?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.resnets\."), _video_vae),
    _Network(re.compile(r"latents_mean$"), _audio_vae),
    _Network(re.compile(r"(?:vocoder\.|bwe_generator\.)?resnets\.\d+\.convs"), _vocoder),
)
