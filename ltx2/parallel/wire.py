"""Requests as bytes, for ranks and workers: JSON for the structure, safetensors for arrays. No code travels.

Only the kinds listed here are written and read; what a reader does not know is refused.
"""

import dataclasses
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from ..errors import RequestError
from ..stages.request import Request
from ..values import (
    AudioCondition,
    AVLatent,
    ChannelStatistics,
    ClipCondition,
    ImageCondition,
    LatentCondition,
    LatentDrift,
    ReferenceCondition,
    TextContext,
    VoiceCondition,
    Waveform,
)

KINDS = {
    kind.__name__: kind
    for kind in (
        AudioCondition,
        AVLatent,
        ChannelStatistics,
        ClipCondition,
        ImageCondition,
        LatentCondition,
        LatentDrift,
        ReferenceCondition,
        Request,
        TextContext,
        VoiceCondition,
        Waveform,
    )
}
_PLAIN = (str, int, float, bool, type(None))


def to_bytes(value: Any) -> bytes:
    """A request, condition, latent, or a mapping or sequence of these and plain values. Raises RequestError."""
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_pack(value, tensors), allow_nan=True).encode()
    tensors = tensors or {"": torch.zeros(0)}
    return safetensors.torch.save(tensors, {"tree": tree.decode()})


def from_bytes(data: bytes) -> Any:
    """What :func:`to_bytes` was given; tensors on the CPU. Raises RequestError for what it does not know."""
    length = int.from_bytes(data[:8], "little")
    tree = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["tree"])
    return _unpack(tree, safetensors.torch.load(data))


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Fraction):
        return {"fraction": [str(value.numerator), str(value.denominator)]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, (torch.Tensor, np.ndarray)):
        name, array = str(len(tensors)), isinstance(value, np.ndarray)
        if isinstance(value, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(value))
        else:
            tensor = value.detach().cpu().contiguous()
        tensors[name] = tensor.clone()
        return {"array" if array else "tensor": name}
    if dataclasses.is_dataclass(value) and type(value).__name__ in KINDS:
        fields = {field.name: _pack(getattr(value, field.name), tensors) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {"map": [[_pack(key, tensors), _pack(one, tensors)] for key, one in value.items()]}
    if isinstance(value, (tuple, list, range)):
        return {"tuple" if not isinstance(value, list) else "list": [_pack(one, tensors) for one in value]}
    raise RequestError(f"a {type(value).__name__} cannot be sent to another process: give plain values and tensors")


def _unpack(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(tree, _PLAIN):
        return tree
    if "fraction" in tree:
        return Fraction(*map(int, tree["fraction"]))
    if "path" in tree:
        return Path(tree["path"])
    if "array" in tree:
        return tensors[tree["array"]].numpy()
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    if "kind" in tree:
        if tree["kind"] not in KINDS:
            raise RequestError(
                f"a message holds the unknown kind {str(tree['kind'])[:40]!r}: use one version everywhere"
            )
        return KINDS[tree["kind"]](**{name: _unpack(one, tensors) for name, one in tree["fields"].items()})
    if "map" in tree:
        return {_unpack(key, tensors): _unpack(one, tensors) for key, one in tree["map"]}
    if "list" in tree:
        return [_unpack(one, tensors) for one in tree["list"]]
    return tuple(_unpack(one, tensors) for one in tree["tuple"])
