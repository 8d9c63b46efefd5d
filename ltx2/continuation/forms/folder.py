"""The folder form: ``state.json``, ``frame_000.png`` …, ``audio.safetensors``. ``state.json`` lists the others with
their hashes and ends in a hash of itself; a folder says nothing that a hash does not cover."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...atomic_files import atomic_folder, read_folder, reason, write_synced
from ...errors import ContinuationError
from ..format import AGAIN, AUDIO, AUDIO_TENSOR, BLOB_ID, VIDEO, External
from ..limits import StateLimits
from ..state import envelope_of, read_document
from ..strict_json import shown
from ..tensors import read_tensors, write_tensors
from .parts import ATTACHMENT, FRAME_NAME, KIND, PAYLOAD, SHA256, AttachmentParts, ReadParts, check_version, own_texts

STATE_FILE = "state.json"
AUDIO_FILE = "audio.safetensors"
FOLDER_VERSION = 2
# written by 0.1.0: without a hash of state.json itself
_UNHASHED_VERSION = 1
_FRAME_FILE = re.compile(r"frame_\d{3}\.png")
_VERSION, _FILES = "version", "files"


def write_folder(parts: AttachmentParts, path: Path, texts: Mapping[str, str]) -> None:
    """Raises ContinuationError where the folder holds anything that is not a state's, OSError where it cannot be
    written."""
    if path.exists():
        if not path.is_dir():
            raise ContinuationError(f"{path} is a file, expected a folder for the state: choose another name")
        strangers = sorted(entry.name for entry in path.iterdir() if not _is_ours(entry.name))
        if strangers:
            raise ContinuationError(
                f"{path} holds other files ({strangers[0][:60]}): choose a new folder for the state"
            )
    files = {f"{FRAME_NAME.format(index)}.png": png for index, png in enumerate(parts.pngs)}
    if parts.latents is not None:
        files[AUDIO_FILE] = write_tensors({AUDIO_TENSOR: parts.latents})
    listed = {name: {"bytes": len(data), SHA256: hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    attachment: dict[str, Any] = {_VERSION: FOLDER_VERSION, _FILES: listed}
    document = {KIND: parts.envelope.kind, PAYLOAD: parts.envelope.payload, ATTACHMENT: attachment, **texts}
    attachment[SHA256] = document_sha256(document)
    files[STATE_FILE] = json.dumps(document, indent=1, allow_nan=False).encode()
    with atomic_folder(path) as temp:
        for name, data in files.items():
            write_synced(temp / name, data)


def read_state_folder(path: Path, strict: bool, limits: StateLimits) -> ReadParts:
    """What a folder holds, also while it is being replaced. Nothing is written. Raises ContinuationError."""
    return read_folder(path, lambda place: _read(place, path, strict, limits))


def _read(place: Path, path: Path, strict: bool, limits: StateLimits) -> ReadParts:
    """place: where the files are just now; path: what the user calls it."""
    name = str(path / STATE_FILE)
    if not os.path.lexists(place / STATE_FILE):
        raise ContinuationError(f"{name} is not there, expected in a state's folder: choose what was saved as a state")
    text = _read_inside(place, path, STATE_FILE, limits.inline_bytes)
    document = read_document(text, name, strict=strict, limits=limits)
    envelope = envelope_of(document, name)
    attachment = document.get(ATTACHMENT)
    listed = attachment.get(_FILES) if isinstance(attachment, dict) else None
    if not isinstance(listed, dict) or len(listed) > limits.frames + 1:
        raise ContinuationError(f"{name} lists no files, expected up to {limits.frames} frames and {AUDIO_FILE}")
    _check_names(listed, name)
    notes = _check_document(document, listed, name)
    _check_present(place, path, listed)
    frames, latents, total = {}, None, 0
    for entry, record in sorted(listed.items()):
        data = _read_inside(place, path, entry, limits.blob_bytes - total)
        total += len(data)
        stated = record.get(SHA256) if isinstance(record, dict) else None
        if hashlib.sha256(data).hexdigest() != stated:
            raise ContinuationError(
                f"{path / entry} does not match the SHA-256 in {STATE_FILE}, one of the two is damaged: copy or send "
                "the folder again"
            )
        if entry != AUDIO_FILE:
            frames[entry] = data
            continue
        latents = read_tensors(data, str(path / entry)).get(AUDIO_TENSOR)
        if latents is None:
            raise ContinuationError(f"{path / entry} holds no tensor named {AUDIO_TENSOR!r}")
    return ReadParts(envelope, External(frames, latents), own_texts(document, limits), notes)


def _check_document(document: dict[str, Any], listed: dict, name: str) -> tuple[str, ...]:
    """The hash of ``state.json``. Returns notes. Raises ContinuationError."""
    attachment = document[ATTACHMENT]
    if attachment.get(_VERSION) == _UNHASHED_VERSION and SHA256 not in attachment:
        if not listed and not _names_content(document.get(PAYLOAD)):
            raise ContinuationError(f"{name} lists no frames and no sound and names none: there is no state in it")
        return (f"{name} was written by version 0.1.0, without a hash of itself: its numbers cannot be verified",)
    check_version(attachment.get(_VERSION), name, FOLDER_VERSION)
    if attachment.get(SHA256) != document_sha256(document):
        raise ContinuationError(f"{name} does not match its SHA-256, it is damaged or was changed: {AGAIN}")
    return ()


def _names_content(payload: object) -> bool:
    members = [payload.get(VIDEO), payload.get(AUDIO)] if isinstance(payload, dict) else []
    return any(isinstance(member, dict) and member.get(BLOB_ID) is not None for member in members)


def _check_names(listed: dict, name: str) -> None:
    """The list names nothing but the files of a state. Raises ContinuationError."""
    for entry in listed:
        if entry != AUDIO_FILE and not _FRAME_FILE.fullmatch(entry):
            raise ContinuationError(f"{name} lists the file {shown(entry)}, expected frame_000.png on and {AUDIO_FILE}")


def _check_present(place: Path, path: Path, listed: dict) -> None:
    """The frames on the list are all up to the last, and no other file of a state is there. Raises
    ContinuationError."""
    frames = sorted(entry for entry in listed if entry != AUDIO_FILE)
    if frames != [f"{FRAME_NAME.format(i)}.png" for i in range(len(frames))]:
        raise ContinuationError(
            f"{path / STATE_FILE} lists {shown(frames[:3])}, expected frame_000.png on without a gap"
        )
    present = {entry.name for entry in place.iterdir() if _is_ours(entry.name) and entry.name != STATE_FILE}
    unlisted = sorted(present - set(listed))
    if unlisted:
        raise ContinuationError(f"{path / unlisted[0]} is not on the list in {STATE_FILE}: one of the two was changed")


def document_sha256(document: Mapping[str, Any]) -> str:
    """Hash of all that ``state.json`` says but the hash itself, whatever its layout."""
    attachment = {key: value for key, value in document[ATTACHMENT].items() if key != SHA256}
    try:
        plain = json.dumps({**document, ATTACHMENT: attachment}, sort_keys=True, separators=(",", ":"))
    except RecursionError as error:
        raise ContinuationError(f"{STATE_FILE} is nested too deeply to read") from error
    return hashlib.sha256(plain.encode()).hexdigest()


def _is_ours(name: str) -> bool:
    return name in (STATE_FILE, AUDIO_FILE) or bool(_FRAME_FILE.fullmatch(name))


def _read_inside(place: Path, path: Path, entry: str, most: int) -> bytes:
    file = place / entry
    if file.is_symlink():
        raise ContinuationError(
            f"{path / entry} is a link, expected the file itself: a state keeps all its parts in its folder"
        )
    return read_bytes(file, str(path / entry), most)


def read_bytes(file: Path, name: str, most: int) -> bytes:
    """A whole file of at most so many bytes, called ``name``. Raises ContinuationError."""
    try:
        if not file.is_file():
            raise ContinuationError(
                f"{name} does not exist or is no ordinary file, expected a state: name the file that was saved as one"
            )
        with open(file, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if not 0 < size <= most:
                if not size:
                    raise ContinuationError(f"{name} is empty, expected a state: {AGAIN}")
                raise ContinuationError(
                    f"{name} has {size} bytes, expected at most {most}: choose the file that was saved as a state"
                )
            return opened.read(size)
    except OSError as error:
        raise ContinuationError(f"{name} cannot be read: {reason(error)}") from error
