"""A state as something to keep and to send: a folder, one .safetensors file, one PNG card, or a JSON document.

folder: ``state.json``, ``frame_000.png`` …, ``audio.safetensors``. .safetensors: the same parts as tensors, the rest as
metadata.
card: the last frame as the picture, the .safetensors form inside it. json: the published envelope with everything
inline. Each carries texts (``prompt``, ``workflow``) where ComfyUI looks for them. The same state gives the same bytes,
and every form gives back the same state bit for bit.
"""

import dataclasses
import hashlib
import json
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..atomic_files import atomic_folder, recover_folder, write_atomic, write_synced
from ..errors import ContinuationError, Ltx2Warning
from .blob_stores import BlobStore
from .card import read_card, write_card
from .codec import AUDIO_TENSOR, External
from .frame_files import PNG_SIGNATURE, check_frame, encode_png
from .limits import DEFAULT_LIMITS, StateLimits
from .state import ContinuationState, LTX2ContinuationState, check_kind, read_envelope, write_envelope
from .strict_json import parse_json, write_json
from .tensors import as_tensor, read_tensors, tensor_metadata, write_tensors

FORMS = ("folder", "safetensors", "card", "json")
STATE_FILE = "state.json"
AUDIO_FILE = "audio.safetensors"
AUDIO_LATENTS = "audio_latents"
_VERSION = 1
_FRAME_FILE = re.compile(r"frame_\d{3}\.png")
# ComfyUI takes uploads up to this size unless it is told otherwise.
_UPLOAD_BYTES = 100 * 2**20
_EMPTY_PICTURE = (144, 256, 3)
_OTHER_FILES = {
    b"PK\3\4": "a zip archive or a PyTorch checkpoint",
    b"GGUF": "a GGUF model",
    b"\x80": "a Python pickle",
    b"\xff\xd8": "a JPEG, which cannot carry a state",
    b"RIFF": "a WebP, AVI or WAV file",
}


@dataclass(frozen=True)
class Attachment:
    """What a file or folder held: the form, the state, its texts, and what was noted while reading."""

    form: str
    state: LTX2ContinuationState
    texts: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _AttachmentParts:
    """A state taken apart: the envelope without its content, PNG files, and latents."""

    envelope: ContinuationState
    pngs: list[bytes]
    latents: torch.Tensor | None


# --- writing
# -------------------------------------------------------------------------------------------------------------


def save_attachment(
    state: LTX2ContinuationState | ContinuationState,
    path: str | Path,
    *,
    form: str | None = None,
    texts: Mapping[str, Any] | None = None,
    blob_store: BlobStore | None = None,
    limits: StateLimits = DEFAULT_LIMITS,
) -> Path:
    """Write a state to ``path``, whole or not at all; returns the path.

    form: of FORMS; None goes by the name: ``.png``, ``.safetensors``, ``.json``, else a folder. texts: such as
    ``workflow`` and ``prompt``, text or JSON data. blob_store: where content that the state only names is read from.
    Raises ContinuationError.
    """
    path = Path(path)
    form = form or {".png": "card", ".safetensors": "safetensors", ".json": "json"}.get(path.suffix.lower(), "folder")
    if form not in FORMS:
        raise ContinuationError(f"attachment form is {form!r}, expected one of {', '.join(FORMS)}")
    try:
        _save(_resolved(state, blob_store, limits), path, form, _texts(texts, limits), limits)
    except OSError as error:
        raise ContinuationError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _save(state: LTX2ContinuationState, path: Path, form: str, written: dict[str, str], limits: StateLimits) -> None:
    if form == "folder":
        _save_folder(_take_apart(state, limits), path, written)
        return
    data = attachment_bytes(state, form, texts=written, limits=limits)
    if len(data) > _UPLOAD_BYTES:
        warnings.warn(
            (
                f"{path.name} has {len(data) / 2**20:.0f} MiB, ComfyUI takes uploads of up to 100: start it with "
                "--max-upload-size"
            ),
            Ltx2Warning,
            stacklevel=3,
        )
    write_atomic(path, data)


def attachment_bytes(
    state: LTX2ContinuationState,
    form: str,
    *,
    texts: Mapping[str, Any] | None = None,
    limits: StateLimits = DEFAULT_LIMITS,
) -> bytes:
    """A state as the bytes of one file, ``safetensors``, ``card`` or ``json``. The same state gives the same bytes."""
    written = _texts(texts, limits)
    if form == "json":
        document = write_envelope(state.to_continuation_state(limits=limits))
        # members beside kind and payload are ignored by every reader of the format
        return (document if not written else f"{document[:-1]}, {write_json(written, 'texts')[1:]}").encode()
    parts = _take_apart(state, limits)
    if form == "safetensors":
        return _safetensors(parts, written)
    picture = parts.pngs[-1] if parts.pngs else encode_png(np.full(_EMPTY_PICTURE, 48, np.uint8))
    return write_card(picture, _safetensors(parts, {}), written)


def _safetensors(parts: _AttachmentParts, texts: dict[str, str]) -> bytes:
    # latents first: their numbers must lie on multiples of their size, PNG bytes need not
    tensors = {} if parts.latents is None else {AUDIO_LATENTS: parts.latents}
    for index, png in enumerate(parts.pngs):
        tensors[f"frame_{index:03d}"] = torch.frombuffer(bytearray(png), dtype=torch.uint8)
    payload = write_json(parts.envelope.payload, "payload")
    metadata = {**texts, "kind": parts.envelope.kind, "payload": payload, "attachment_version": str(_VERSION)}
    return write_tensors(tensors, {**metadata, "sha256": _sha256(metadata, tensors)})


def _save_folder(parts: _AttachmentParts, path: Path, texts: dict[str, str]) -> None:
    if path.exists():
        if not path.is_dir():
            raise ContinuationError(f"{path} is a file, expected a folder for the state: choose another name")
        strangers = sorted(entry.name for entry in path.iterdir() if not _is_ours(entry.name))
        if strangers:
            raise ContinuationError(
                f"{path} holds other files ({strangers[0][:60]}): choose a new folder for the state"
            )
    files = {f"frame_{index:03d}.png": png for index, png in enumerate(parts.pngs)}
    if parts.latents is not None:
        files[AUDIO_FILE] = write_tensors({AUDIO_TENSOR: parts.latents})
    listed = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    attachment = {"version": _VERSION, "files": listed}
    document = {"kind": parts.envelope.kind, "payload": parts.envelope.payload, "attachment": attachment, **texts}
    files[STATE_FILE] = json.dumps(document, indent=1, allow_nan=False).encode()
    with atomic_folder(path) as temp:
        for name, data in files.items():
            write_synced(temp / name, data)


def _is_ours(name: str) -> bool:
    return name in (STATE_FILE, AUDIO_FILE) or bool(_FRAME_FILE.fullmatch(name))


def _resolved(state, blob_store, limits: StateLimits) -> LTX2ContinuationState:
    """A typed state with its content at hand wherever the store has it."""
    if isinstance(state, LTX2ContinuationState):
        if blob_store is None or (state.video_frames_blob_id is None and state.audio_latents_blob_id is None):
            return state
        state = state.to_continuation_state(limits=limits)
    return LTX2ContinuationState.from_continuation_state(state, blob_store=blob_store, limits=limits)


def _take_apart(state: LTX2ContinuationState, limits: StateLimits) -> _AttachmentParts:
    envelope = dataclasses.replace(state, video_frames=None, audio_latents=None).to_continuation_state(limits=limits)
    frames = [] if state.video_frames_blob_id is not None else state.video_frames or []
    if len(frames) > limits.frames:
        raise ContinuationError(f"the state carries {len(frames)} frames, expected at most {limits.frames}")
    latents = None if state.audio_latents_blob_id is not None or state.audio_latents is None else state.audio_latents
    return _AttachmentParts(
        envelope,
        [encode_png(check_frame(frame, f"video_frames[{i}]")) for i, frame in enumerate(frames)],
        None if latents is None else as_tensor(latents, "audio_latents").contiguous(),
    )


def _texts(texts: Mapping[str, Any] | None, limits: StateLimits) -> dict[str, str]:
    written = {key: value if isinstance(value, str) else write_json(value, key) for key, value in (texts or {}).items()}
    for key in written:
        if not isinstance(key, str) or key in ("kind", "payload", "attachment", "attachment_version", "sha256"):
            raise ContinuationError(f"a text of an attachment is named {str(key)[:40]!r}, which the state itself uses")
    size = sum(len(value.encode()) for value in written.values())
    if size > limits.workflow_bytes:
        raise ContinuationError(
            f"the texts beside the state have {size} bytes, expected at most {limits.workflow_bytes}"
        )
    return written


def _sha256(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash of all that a .safetensors attachment says: its texts but the hash itself, and every tensor with name, type
    and shape."""
    digest = hashlib.sha256(
        json.dumps({key: text for key, text in metadata.items() if key != "sha256"}, sort_keys=True).encode()
    )
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b"")
    return digest.hexdigest()


# --- reading
# -------------------------------------------------------------------------------------------------------------


def load_attachment(
    path: str | Path, *, blob_store: BlobStore | None = None, strict: bool = True, limits: StateLimits = DEFAULT_LIMITS
) -> Attachment:
    """Read a state from any of the forms, which is recognised by content. Raises ContinuationError or
    BlobNotFoundError.

    blob_store: for content that the state only names; without one the ids are kept. strict: see LTX2ContinuationState.
    """
    path = Path(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recover_folder(path)
        if path.is_dir():
            form, envelope, external, texts = "folder", *_read_folder(path, strict, limits)
        else:
            form, envelope, external, texts = _read_parts(
                _read_file(path, limits.blob_bytes), str(path), strict, limits
            )
        state = LTX2ContinuationState.from_continuation_state(
            envelope, blob_store=blob_store, strict=strict, limits=limits, external=external
        )
    for warning in caught:
        warnings.warn(warning.message, warning.category, stacklevel=2)
    return Attachment(form, state, texts, tuple(str(w.message) for w in caught if issubclass(w.category, Ltx2Warning)))


def load_attachment_bytes(
    data: bytes,
    name: str = "attachment",
    *,
    blob_store: BlobStore | None = None,
    strict: bool = True,
    limits: StateLimits = DEFAULT_LIMITS,
) -> Attachment:
    """Read a state from the bytes of a .safetensors file, a card or a JSON document."""
    form, envelope, external, texts = _read_parts(data, name, strict, limits)
    state = LTX2ContinuationState.from_continuation_state(
        envelope, blob_store=blob_store, strict=strict, limits=limits, external=external
    )
    return Attachment(form, state, texts)


def _read_file(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise ContinuationError(f"{path} does not exist or is no ordinary file, expected a state attachment")
    size = path.stat().st_size
    if not 0 < size <= most:
        raise ContinuationError(f"{path} has {size} bytes, expected 1 to {most}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ContinuationError(f"{path} cannot be read: {error}") from error


def _read_parts(data: bytes, name: str, strict: bool, limits: StateLimits):
    """Form, envelope, content and texts of a single file."""
    if data[:8] == PNG_SIGNATURE:
        state, texts = read_card(data, name, limits)
        return "card", *_read_safetensors(state, name, limits)[:2], texts
    for start, what in _OTHER_FILES.items():
        if data.startswith(start):
            raise ContinuationError(f"{name} is {what}, expected a state as .png, .safetensors, .json or folder")
    # a JSON document and a safetensors header both may start with any byte; eight bytes of a length rule the first out
    if data.lstrip()[:1] == b"{" and not _looks_like_safetensors(data):
        document = parse_json(data, name, strict=strict) if len(data) <= limits.inline_bytes else None
        envelope = read_envelope(data, name, strict=strict, limits=limits)
        return "json", envelope, None, _own_texts(document, limits)
    return "safetensors", *_read_safetensors(data, name, limits)


def _looks_like_safetensors(data: bytes) -> bool:
    return len(data) > 8 and struct.unpack_from("<Q", data)[0] <= len(data) - 8


def _read_safetensors(data, name: str, limits: StateLimits):
    metadata = tensor_metadata(data, name)
    if "payload" not in metadata or "kind" not in metadata:
        raise ContinuationError(
            f"{name} is a safetensors file without a state in it, expected kind and payload in its metadata"
        )
    _check_version(metadata.get("attachment_version"), name)
    check_kind(metadata["kind"])
    tensors = read_tensors(data, name)
    if metadata.get("sha256") != _sha256(metadata, tensors):
        raise ContinuationError(f"{name} does not match its SHA-256: the file is damaged")
    names = sorted(key for key in tensors if key.startswith("frame_"))
    if names != [f"frame_{i:03d}" for i in range(len(names))] or len(names) > limits.frames:
        raise ContinuationError(
            f"{name} holds frames named {names[:3]}, expected frame_000 on, at most {limits.frames}"
        )
    for key in names:
        if tensors[key].dtype != torch.uint8 or tensors[key].ndim != 1:
            raise ContinuationError(
                f"{name}: {key} is {tensors[key].dtype} {list(tensors[key].shape)}, expected the bytes of a PNG"
            )
    payload = parse_json(metadata["payload"], f"{name} payload")
    external = External({key: tensors[key].numpy().tobytes() for key in names}, tensors.get(AUDIO_LATENTS))
    return ContinuationState(metadata["kind"], payload), external, _own_texts(metadata, limits)


def _read_folder(path: Path, strict: bool, limits: StateLimits):
    name = str(path / STATE_FILE)
    text = _read_file(_inside(path, STATE_FILE), limits.inline_bytes)
    envelope = read_envelope(text, name, strict=strict, limits=limits)
    document = parse_json(text, name, strict=strict)
    attachment = document.get("attachment")
    if attachment is None:
        return envelope, None, _own_texts(document, limits)
    listed = attachment.get("files") if isinstance(attachment, dict) else None
    if not isinstance(listed, dict) or len(listed) > limits.frames + 1:
        raise ContinuationError(f"{name} lists no files, expected up to {limits.frames} frames and {AUDIO_FILE}")
    _check_version(attachment.get("version"), name)
    frames, latents, total = {}, None, 0
    for entry, record in sorted(listed.items()):
        if entry != AUDIO_FILE and not _FRAME_FILE.fullmatch(entry):
            raise ContinuationError(f"{name} lists the file {entry[:60]!r}, expected frame_000.png on and {AUDIO_FILE}")
        data = _read_file(_inside(path, entry), limits.blob_bytes - total)
        total += len(data)
        stated = record.get("sha256") if isinstance(record, dict) else None
        if hashlib.sha256(data).hexdigest() != stated:
            raise ContinuationError(
                f"{path / entry} does not match the SHA-256 in {STATE_FILE}: one of the two is damaged"
            )
        if entry == AUDIO_FILE:
            latents = read_tensors(data, str(path / entry)).get(AUDIO_TENSOR)
        else:
            frames[entry] = data
    return envelope, External(frames, latents), _own_texts(document, limits)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_symlink():
        raise ContinuationError(
            f"{path} is a link, expected the file itself: a state keeps all its parts in its folder"
        )
    return path


def _check_version(found, name: str) -> None:
    if str(found) != str(_VERSION):
        raise ContinuationError(
            f"{name} has attachment version {str(found)[:20]!r}, expected {_VERSION}: written by another version"
        )


def _own_texts(found: Mapping[str, Any] | None, limits: StateLimits) -> dict[str, str]:
    ours = ("kind", "payload", "attachment", "attachment_version", "sha256")
    texts = {key: value for key, value in (found or {}).items() if key not in ours and isinstance(value, str)}
    if sum(len(value) for value in texts.values()) > limits.workflow_bytes:
        raise ContinuationError(f"the texts beside the state are longer than {limits.workflow_bytes} bytes")
    return texts
