"""A state as something to keep and to send: a folder, one .safetensors file, one PNG card, or a JSON document.

folder: ``state.json``, ``frame_000.png`` …, ``audio.safetensors``. .safetensors: the same parts as tensors, the rest as
metadata.
card: the last frame as the picture, the .safetensors form inside it. json: the published envelope with everything
inline. Each carries texts (``prompt``, ``workflow``) where ComfyUI looks for them. The same state gives the same bytes,
and every form gives back the same state bit for bit.
"""

import os
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic_files import clean_dead_temps, file_path, folder_exists, reason, write_atomic
from ..errors import ContinuationError, Ltx2Warning
from .forms.card import read_card, sound_levels, write_card
from .forms.folder import read_bytes, read_state_folder, write_folder
from .forms.parts import KIND, PAYLOAD, ReadParts, check_texts, own_texts, take_apart
from .forms.tensor_file import read_tensor_file, write_tensor_file
from .frame_files import PNG_SIGNATURE, encode_png
from .limits import DEFAULT_LIMITS, StateLimits
from .state import ContinuationState, LTX2ContinuationState, envelope_of, read_document, write_envelope
from .stores.blobs import BlobStore
from .strict_json import shown, write_json

_BLANKS = 4096  # may stand in front of a document
# How a text begins that an editor or a shell has written again; the longer ones first.
_ENCODINGS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"{\0": "utf-16-le",
    b"\0{": "utf-16-be",
}
FORMS = ("folder", "safetensors", "card", "json")
_FORM_OF_SUFFIX = {".png": "card", ".safetensors": "safetensors", ".json": "json"}
# ComfyUI takes uploads up to this size unless it is told otherwise.
_UPLOAD_BYTES = 100 * 2**20
# Where a signature stands, and what has it.
_OTHER_FILES = {
    (0, b"PK\3\4"): "a zip archive or a PyTorch checkpoint",
    (0, b"GGUF"): "a GGUF model",
    (0, b"\x80"): "a Python pickle",
    (0, b"\xff\xd8"): "a JPEG, which cannot carry a state",
    (8, b"WEBP"): "a WebP picture, which cannot carry a state",
    (8, b"WAVE"): "a sound",
    (0, b"ID3"): "a sound",
    (0, b"fLaC"): "a sound",
    (0, b"OggS"): "a sound",
    (0, b"GIF8"): "a GIF, which cannot carry a state",
}
_FILMS = ((4, b"ftyp"), (4, b"moov"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "))
_HEAD_BYTES = 16  # of a file, by which all of these are known
_EXPECTED = "expected a state as .png, .safetensors, .json or folder"
_CHOOSE = "choose the file that was saved as one"


@dataclass(frozen=True)
class Attachment:
    """What a file or folder held: the form, the state, its texts, and what was noted while reading."""

    form: str
    state: LTX2ContinuationState
    texts: dict[str, str]
    notes: tuple[str, ...] = ()


# --- writing ---------------------------------------------------------------------------------------------------------


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
    What saves that were killed left in the folder goes. Raises ContinuationError; notes come as Ltx2Warning.
    """
    path = _checked_path(path)
    form = form or _FORM_OF_SUFFIX.get(path.suffix.lower(), "folder")
    if form not in FORMS:
        raise ContinuationError(f"attachment form is {shown(form)}, expected one of {', '.join(FORMS)}")
    resolved, notes = _resolved(state, blob_store, limits)
    written = check_texts(texts, limits)
    try:
        clean_dead_temps(path.parent)
        if form == "folder":
            parts = take_apart(resolved, limits)
            write_folder(parts, path, written)
            notes += parts.notes
        else:
            data, more = _file_bytes(resolved, form, written, limits)
            write_atomic(path, data)
            notes += more + _upload_notes(path, len(data))
    except OSError as error:
        raise ContinuationError(f"{path} cannot be written: {reason(error)}") from error
    _warn(notes)
    return path


def attachment_bytes(
    state: LTX2ContinuationState,
    form: str,
    *,
    texts: Mapping[str, Any] | None = None,
    limits: StateLimits = DEFAULT_LIMITS,
) -> bytes:
    """A state as the bytes of one file, ``safetensors``, ``card`` or ``json``. The same state gives the same bytes.
    Raises ContinuationError; notes come as Ltx2Warning."""
    data, notes = _file_bytes(state, form, check_texts(texts, limits), limits)
    _warn(notes)
    return data


def _file_bytes(
    state: LTX2ContinuationState, form: str, texts: dict[str, str], limits: StateLimits
) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a single file, and notes."""
    if form == "json":
        envelope, notes = state.encoded(limits=limits)
        document = write_envelope(envelope)
        # members beside kind and payload are ignored by every reader of the format
        return (document if not texts else f"{document[:-1]}, {write_json(texts, 'texts')[1:]}").encode(), notes
    if form not in FORMS or form == "folder":
        raise ContinuationError(f"attachment form is {shown(form)}, expected safetensors, card or json")
    parts = take_apart(state, limits)
    if form == "safetensors":
        return write_tensor_file(parts, texts), parts.notes
    picture = parts.pngs[-1] if parts.pngs else encode_png(sound_levels(parts.latents))
    return write_card(picture, write_tensor_file(parts, {}), texts), parts.notes


def _upload_notes(path: Path, size: int) -> tuple[str, ...]:
    if size <= _UPLOAD_BYTES:
        return ()
    return (
        f"{path.name} has {size / 2**20:.0f} MiB, ComfyUI takes uploads of up to 100: start it with --max-upload-size",
    )


def _warn(notes: tuple[str, ...]) -> None:
    for note in notes:
        warnings.warn(note, Ltx2Warning, stacklevel=3)


def _resolved(
    state, blob_store: BlobStore | None, limits: StateLimits
) -> tuple[LTX2ContinuationState, tuple[str, ...]]:
    """A typed state with its content at hand wherever the store has it, and notes."""
    if isinstance(state, LTX2ContinuationState):
        if blob_store is None or (state.video_frames_blob_id is None and state.audio_latents_blob_id is None):
            return state, ()
        state, _ = state.encoded(limits=limits)
    return LTX2ContinuationState.decoded(state, blob_store=blob_store, limits=limits)


def _checked_path(path: str | Path) -> Path:
    try:
        found = file_path(path)
    except TypeError as error:
        raise ContinuationError(f"the path of a state is a {type(path).__name__}, expected text") from error
    if found is None:
        raise ContinuationError(
            f"the state's name {shown(str(path)[-40:])} is too long for this file system or holds characters that no "
            "file name can: choose another name"
        )
    # the folder that one is in has no name as it is written
    found = found if found.name else found.absolute()
    if not found.name:
        raise ContinuationError(f"the path of a state is {found}, expected a file, or a folder with a name")
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def load_attachment(
    path: str | Path, *, blob_store: BlobStore | None = None, strict: bool = True, limits: StateLimits = DEFAULT_LIMITS
) -> Attachment:
    """Read a state from any of the forms, which is recognised by content; what was noted is in the result.

    blob_store: for content that the state only names; without one the ids are kept. strict: see LTX2ContinuationState.
    A state is never written to while it is read; only what killed saves left beside it is taken away. Raises
    ContinuationError or BlobNotFoundError.
    """
    path = _checked_path(path)
    clean_dead_temps(path.parent)
    try:
        if folder_exists(path):
            form, parts = "folder", read_state_folder(path, strict, limits)
        else:
            _refuse_other_file(path)
            form, parts = _read_parts(read_bytes(path, str(path), limits.blob_bytes), str(path), strict, limits)
    except OSError as error:
        raise ContinuationError(f"{path} cannot be read: {reason(error)}") from error
    return _decoded(form, parts, blob_store, strict, limits)


def load_attachment_bytes(
    data: bytes,
    name: str = "attachment",
    *,
    blob_store: BlobStore | None = None,
    strict: bool = True,
    limits: StateLimits = DEFAULT_LIMITS,
) -> Attachment:
    """Read a state from the bytes of a .safetensors file, a card or a JSON document."""
    form, parts = _read_parts(data, name, strict, limits)
    return _decoded(form, parts, blob_store, strict, limits)


def _decoded(form: str, parts: ReadParts, blob_store, strict: bool, limits: StateLimits) -> Attachment:
    state, notes = LTX2ContinuationState.decoded(
        parts.envelope, blob_store=blob_store, strict=strict, limits=limits, external=parts.external
    )
    return Attachment(form, state, parts.texts, parts.notes + notes)


def _read_parts(data: bytes, name: str, strict: bool, limits: StateLimits) -> tuple[str, ReadParts]:
    """Form and content of a single file."""
    if data[:8] == PNG_SIGNATURE:
        state, texts = read_card(data, name, limits)
        found = read_tensor_file(state, name, limits)
        return "card", ReadParts(found.envelope, found.external, texts)
    if not _looks_like_safetensors(data, len(data)):
        _refuse_others(data, name)
        if data[:4] == PNG_SIGNATURE[:4]:
            raise ContinuationError(
                f"{name} is a PNG whose line ends were changed on its way, as of a text: send the file as it is"
            )
        data = _as_utf8(data)
        if data[:_BLANKS].lstrip()[:1] == b"{":
            document = read_document(data, name, strict=strict, limits=limits)
            if not {KIND, PAYLOAD} & document.keys():
                raise ContinuationError(f"{name} is JSON without a state, expected kind and payload in it: {_CHOOSE}")
            return "json", ReadParts(envelope_of(document, name), None, own_texts(document, limits))
        if name.lower().endswith(".json"):
            raise ContinuationError(f"{name} is no JSON of a state, expected an object that begins with {{: {_CHOOSE}")
        if data[8:9] != b"{":
            begins = f"it begins with {data[:8].hex()}" if data else "it is empty"
            raise ContinuationError(f"{name} is no state, {begins}, {_EXPECTED}: {_CHOOSE}")
    return "safetensors", read_tensor_file(data, name, limits)


def _as_utf8(data: bytes) -> bytes:
    """A JSON text of another encoding, or with a mark of its encoding in front, as JSON has to be; else the bytes as
    they are."""
    for start, encoding in _ENCODINGS.items():
        if data.startswith(start):
            try:
                return data.decode(encoding).removeprefix("\ufeff").encode("utf-8")
            except UnicodeError:
                return data
    return data


def _looks_like_safetensors(data: bytes, size: int) -> bool:
    """By its first nine bytes: the length that it begins with may be of any bytes, those of another file's signature
    too."""
    return data[8:9] == b"{" and struct.unpack_from("<Q", data)[0] <= size - 8


def _refuse_others(data: bytes, name: str) -> None:
    """Raises ContinuationError for the beginning of a file of another kind."""
    if any(data.startswith(signature, at) for at, signature in _FILMS):
        raise ContinuationError(
            f"{name} is a film, {_EXPECTED}: go on from a film with Extend Video, or with ltx2 continue"
        )
    for (at, signature), what in _OTHER_FILES.items():
        if data.startswith(signature, at):
            raise ContinuationError(f"{name} is {what}, {_EXPECTED}: {_CHOOSE}")


def _refuse_other_file(path: Path) -> None:
    """The same for a file, of which little is read: films are long."""
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            if not _looks_like_safetensors(head, os.fstat(file.fileno()).st_size):
                _refuse_others(head, str(path))
