"""The .safetensors form: frames as the bytes of PNG files, latents as they are, the rest as metadata under one hash."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import ContinuationError
from ..format import AGAIN, External
from ..limits import StateLimits
from ..state import ContinuationState
from ..strict_json import parse_json, shown, write_json
from ..tensors import read_tensors, tensor_metadata, write_tensors
from ..validation import check_kind
from .parts import FRAME_NAME, KIND, PAYLOAD, SHA256, VERSION, AttachmentParts, ReadParts, check_version, own_texts

AUDIO_LATENTS = "audio_latents"
FILE_VERSION = 1


def write_tensor_file(parts: AttachmentParts, texts: Mapping[str, str]) -> bytes:
    """The one-file form of a state, with texts beside it."""
    # latents first: their numbers must lie on multiples of their size, PNG bytes need not
    tensors = {} if parts.latents is None else {AUDIO_LATENTS: parts.latents}
    for index, png in enumerate(parts.pngs):
        tensors[FRAME_NAME.format(index)] = torch.frombuffer(bytearray(png), dtype=torch.uint8)
    payload = write_json(parts.envelope.payload, PAYLOAD)
    metadata = {**texts, KIND: parts.envelope.kind, PAYLOAD: payload, VERSION: str(FILE_VERSION)}
    return write_tensors(tensors, {**metadata, SHA256: content_sha256(metadata, tensors)})


def read_tensor_file(data: Any, name: str, limits: StateLimits) -> ReadParts:
    """Raises ContinuationError for a file that is damaged or carries no state."""
    metadata = tensor_metadata(data, name)
    if PAYLOAD not in metadata or KIND not in metadata:
        raise ContinuationError(
            f"{name} is a safetensors file without a state in it, expected kind and payload in its metadata: choose "
            "the file that was saved as a state"
        )
    check_version(metadata.get(VERSION), name, FILE_VERSION)
    check_kind(metadata[KIND])
    tensors = read_tensors(data, name)
    if metadata.get(SHA256) != content_sha256(metadata, tensors):
        raise ContinuationError(f"{name} is damaged, it does not match its SHA-256: {AGAIN}")
    names = sorted(key for key in tensors if key.startswith("frame_"))
    if names != [FRAME_NAME.format(i) for i in range(len(names))] or len(names) > limits.frames:
        raise ContinuationError(
            f"{name} holds frames named {shown(names[:3])}, expected frame_000 on, at most {limits.frames}"
        )
    for key in names:
        if tensors[key].dtype != torch.uint8 or tensors[key].ndim != 1:
            raise ContinuationError(
                f"{name}: {key} is {tensors[key].dtype} {shown(list(tensors[key].shape))}, expected the bytes of a PNG"
            )
    payload = parse_json(metadata[PAYLOAD], f"{name} payload", limits=limits)
    external = External({key: tensors[key].numpy().tobytes() for key in names}, tensors.get(AUDIO_LATENTS))
    return ReadParts(ContinuationState(metadata[KIND], payload), external, own_texts(metadata, limits))


def content_sha256(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash of all that the file says: its texts but the hash itself, and every tensor with name, type and shape."""
    digest = hashlib.sha256(
        json.dumps({key: text for key, text in metadata.items() if key != SHA256}, sort_keys=True).encode()
    )
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode("utf-8", "surrogatepass"))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
