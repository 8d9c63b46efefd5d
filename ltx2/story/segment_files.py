"""A finished segment on disk: exact pictures, exact sound, the state it leaves, all verified by hash.

``picture.mov`` holds every frame as PNG (any player shows it), ``sound.safetensors`` the float samples,
``state.safetensors`` the state.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..atomic_files import reason, sync, sync_folder, write_synced
from ..continuation.attachments import attachment_bytes, load_attachment
from ..continuation.frame_files import decode_frame, encode_png
from ..continuation.state import LTX2ContinuationState
from ..continuation.tensors import read_tensors, tensor_metadata, write_tensors
from ..errors import MediaError, StoryError
from ..media.frames import LastFrames
from ..media.paths import require_av
from ..values import Waveform

StateOf = Callable[[np.ndarray, int], LTX2ContinuationState]
PICTURE, SOUND, STATE = "picture.mov", "sound.safetensors", "state.safetensors"


@dataclass(frozen=True)
class StoredFile:
    """What a file of a segment is recognised by."""

    bytes: int
    sha256: str


def write_segment(
    folder: Path, frames: Iterable, sound: Waveform | None, fps: Fraction, keep_last: int, state_of: StateOf
) -> dict[str, StoredFile]:
    """Write a segment's files durably into an empty folder; returns what each is recognised by.

    frames: chunks in order, gone through once. state_of: called with the last ``keep_last`` frames [n, H, W, 3] and the
    count of all, returns the state. Raises OSError of the file system as it is.
    """
    last = LastFrames(keep_last)
    count = _write_pictures(folder / PICTURE, last.watch(frames), fps)
    if sound is not None:
        samples = sound.samples.detach().to("cpu").float().contiguous()
        write_synced(folder / SOUND, write_tensors({"samples": samples}, {"sample_rate": str(sound.sample_rate)}))
    state = state_of(last.frames, count)
    write_synced(folder / STATE, attachment_bytes(state, "safetensors"))
    sync_folder(folder)
    return {path.name: StoredFile(path.stat().st_size, file_sha256(path)) for path in sorted(folder.iterdir())}


def _write_pictures(path: Path, frames: Iterable[np.ndarray], fps: Fraction) -> int:
    av = require_av()
    count = 0
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("png", rate=fps)
        stream.pix_fmt = "rgb24"
        for chunk in frames:
            for frame in chunk:
                if not count:
                    stream.height, stream.width = size = frame.shape[:2]
                elif frame.shape[:2] != size:
                    raise StoryError(
                        f"frame {count} is {frame.shape[1]}x{frame.shape[0]} px, the ones before {size[1]}x{size[0]}"
                    )
                packet = av.Packet(encode_png(frame))
                packet.stream, packet.is_keyframe = stream, True
                packet.time_base, packet.pts, packet.dts, packet.duration = 1 / fps, count, count, 1
                container.mux(packet)
                count += 1
        if not count:
            raise StoryError("the segment has no frames")
    sync(path)
    return count


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def is_whole(folder: Path, files: Mapping[str, StoredFile]) -> bool:
    """Whether a segment's folder holds what was recorded; what cannot be read is not whole."""
    try:
        return all(
            (folder / name).is_file()
            and (folder / name).stat().st_size == file.bytes
            and file_sha256(folder / name) == file.sha256
            for name, file in files.items()
        )
    except OSError:
        return False


class StoredFrames:
    """The frames of a stored segment in chunks of one, read again each time they are gone through."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PICTURE

    def __iter__(self) -> Iterator[np.ndarray]:
        av = require_av()
        try:
            with av.open(str(self._path)) as container:
                for number, packet in enumerate(p for p in container.demux(video=0) if p.size):
                    yield decode_frame(bytes(packet), f"{self._path} frame {number}")[0][None]
        except OSError as error:
            raise MediaError(f"cannot read {self._path}: {reason(error)}") from error


def read_sound(folder: Path) -> Waveform | None:
    """The exact sound of a stored segment, or None when it is silent."""
    path = folder / SOUND
    if not path.exists():
        return None
    data = path.read_bytes()
    return Waveform(read_tensors(data, str(path))["samples"], int(tensor_metadata(data, str(path))["sample_rate"]))


def read_state(folder: Path) -> LTX2ContinuationState:
    """The state that a stored segment left."""
    return load_attachment(folder / STATE).state
