"""Contexts of prompts in a folder, for the next run: one file each, whole or not there, the longest unused go first.

Several processes may use one folder: a file is written beside its place and gets its name when it is whole, and it is
read through one handle, so that what others replace, use or take away meanwhile is neither damage nor a mixture.
Nothing in it is touched but files of these names.
"""

import contextlib
import hashlib
import json
import os
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..atomic_files import clean_stale_temps, reason, write_atomic
from ..checkpoint.reader import CheckpointFile, held_checkpoint
from ..errors import CheckpointError, Ltx2Warning, RequestError, one_line
from ..values import TextContext

# More than two hundred contexts of the released models, which take 12 to 16 MB each.
DEFAULT_LIMIT_BYTES = 4 * 2**30
_CONTEXT, _FACTS = "ltx2-context-{}.safetensors", "ltx2-facts-{}.json"
_OURS = re.compile(r"ltx2-(context-[0-9a-f]{64}\.safetensors|facts-[0-9a-f]{64}\.json)")
_KIND, _FORMAT = "ltx2 text context", "1"
_PARTS = ("video", "audio")
_LARGEST_FACTS = 2**24  # bytes; the names and shapes of a language model are a hundredth of it
_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}


@dataclass(frozen=True, eq=False)
class KeptContext:
    """A context on the CPU, and what is to be told of its prompt, None where nothing is."""

    context: TextContext
    note: str | None = None


class ContextFolder:
    """A folder of contexts, and of short facts about model files that took long to find out.

    limit_bytes: of all its files; the longest unused go when they are more. A damaged file is told (Ltx2Warning) once,
    counts as none, and is replaced by the next one of its name; so is a disk that takes no more.
    Raises RequestError for a folder that cannot be there.
    """

    def __init__(self, folder: str | Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self._warned: set[str] = set()
        if limit_bytes < 1:
            raise RequestError(f"the cache is to hold {limit_bytes} bytes, expected 1 or more")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"texts cannot be cached in {self.folder} ({reason(error)}): name a folder that can be written to"
            ) from error
        clean_stale_temps(self.folder)

    def find(self, identity: str, prompt: str) -> KeptContext | None:
        """The context of a prompt that networks of this identity made, or None."""
        path = self._context_path(identity, prompt)
        if not path.is_file():
            return None
        try:
            with held_checkpoint(path) as file:
                found = _context_in(file)
        except FileNotFoundError:  # another process took it away just now
            return None
        except (OSError, CheckpointError) as error:
            self._tell(f"the cached text {path.name} is damaged ({reason(error)}): it is made anew", path.name)
            return None
        self._used(path)
        return found

    def note(self, identity: str, prompt: str) -> tuple[bool, str | None]:
        """Whether a prompt's context is there, and what is to be told of it, read without the context itself."""
        path = self._context_path(identity, prompt)
        if not path.is_file():
            return False, None
        try:
            with held_checkpoint(path) as file:
                metadata = file.metadata
        except (OSError, CheckpointError):
            return False, None
        return metadata.get("kind") == _KIND, metadata.get("note")

    def keep(self, identity: str, prompt: str, kept: KeptContext) -> None:
        """Write a context; what was longest unused goes where there is no room."""
        if all(part is None or part.dtype in _NAMES for part in (kept.context.video, kept.context.audio)):
            self._write(self._context_path(identity, prompt), _context_bytes(kept))

    def recall(self, key: str) -> dict[str, Any] | None:
        """Facts that were kept under a key, or None."""
        path = self._facts_path(key)
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST_FACTS + 1)
            if len(data) > _LARGEST_FACTS:
                raise ValueError("it is too long")
            document = json.loads(data.decode("utf-8"))
            facts = document["facts"]
            if document["sha256"] != _digest(json.dumps(facts, sort_keys=True)) or not isinstance(facts, dict):
                raise ValueError("it does not match its SHA-256")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self._tell(f"the cached facts {path.name} are damaged ({reason(error)}): they are found anew", path.name)
            return None
        self._used(path)
        return facts

    def remember(self, key: str, facts: Mapping[str, Any]) -> None:
        """Keep facts, which are JSON, under a key."""
        text = json.dumps(dict(facts), sort_keys=True)
        self._write(self._facts_path(key), json.dumps({"sha256": _digest(text), "facts": dict(facts)}).encode())

    @property
    def size_bytes(self) -> int:
        """How many bytes all its files take."""
        return sum(size for _, size, _ in self._files())

    def _context_path(self, identity: str, prompt: str) -> Path:
        return self.folder / _CONTEXT.format(_digest(f"{identity}\0{prompt.strip()}"))

    def _facts_path(self, key: str) -> Path:
        return self.folder / _FACTS.format(_digest(key))

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomic(path, data)
        except OSError as error:
            self._tell(f"texts are not cached in {self.folder} ({reason(error)}): the run goes on without", "write")
            return
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit_bytes:
                return
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)  # another process may have been quicker
                total -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """When each was last used, its bytes, and where it is."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _OURS.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        return found

    def _used(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # a folder that can only be read serves as well
            os.utime(path)

    def _tell(self, text: str, about: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(one_line(text), Ltx2Warning, stacklevel=4)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _context_bytes(kept: KeptContext) -> bytes:
    tensors = dict(zip(_PARTS, (kept.context.video, kept.context.audio)))
    data: list[bytes] = []
    entries: dict[str, object] = {}
    at = 0
    for name, tensor in tensors.items():
        if tensor is not None:
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            end = at + len(raw)
            entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
            data.append(raw)
            at = end
    metadata = {"kind": _KIND, "format": _FORMAT, "sha256": _content_digest(tensors, kept.note)}
    if kept.note is not None:
        metadata["note"] = kept.note
    header = json.dumps({"__metadata__": metadata, **entries}).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((struct.pack("<Q", len(header)), header, *data))


def _context_in(file: CheckpointFile) -> KeptContext:
    if file.metadata.get("kind") != _KIND or file.metadata.get("format") != _FORMAT or "video" not in file.tensors:
        raise CheckpointError("it is no text context of this version")
    tensors = {name: file.tensors[name].load(mapped=False) for name in _PARTS if name in file.tensors}
    note = file.metadata.get("note")
    if _content_digest(tensors, note) != file.metadata.get("sha256"):
        raise CheckpointError("it does not match its SHA-256")
    return KeptContext(TextContext(tensors["video"], tensors.get("audio")), note)


def _content_digest(tensors: Mapping[str, torch.Tensor | None], note: str | None) -> str:
    """The digest of everything that is read from a file."""
    digest = hashlib.sha256(json.dumps(note).encode())
    for name in _PARTS:
        tensor = tensors.get(name)
        if tensor is not None:
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
