"""The published test vectors of ``ltx2.v1``: payloads of the reference writer, malformed ones, and what each decodes
to."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from ltx2.continuation import BlobStore

DATA = Path(__file__).parent / "data"
VECTORS = json.loads((DATA / "manifest.json").read_text("utf-8"))["vectors"]
VALID = [v for v in VECTORS if v["group"] == "valid"]
MALFORMED = [v for v in VECTORS if v["group"] == "malformed"]
SCALARS = (
    "segment_index",
    "video_conditioning_frame_idx",
    "video_conditioning_strength",
    "audio_sample_rate",
    "audio_conditioning_num_frames",
    "audio_conditioning_strength",
    "video_position_offset_sec",
    "metadata",
    "video_frames_blob_id",
    "audio_latents_blob_id",
)


class GivenBlobs(BlobStore):
    """Blobs under given ids, and a record of what was put."""

    def __init__(self, blobs):
        self.blobs = dict(blobs)

    def put(self, data, *, mime="application/octet-stream"):
        self.blobs[f"new{len(self.blobs)}"] = data
        return f"new{len(self.blobs) - 1}"

    def get(self, blob_id):
        return self.blobs[blob_id]

    def drop(self, blob_id):
        self.blobs.pop(blob_id, None)

    def __contains__(self, blob_id):
        return blob_id in self.blobs


def blobs_of(vector) -> GivenBlobs:
    return GivenBlobs({blob_id: (DATA / blob["file"]).read_bytes() for blob_id, blob in vector["blobs"].items()})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def described(state) -> dict:
    """A decoded state in the terms of the manifest."""
    found = {name: getattr(state, name) for name in SCALARS}
    found = {name: repr(value) if isinstance(value, float) else value for name, value in found.items()}
    frames, latents = state.video_frames, state.audio_latents
    found["video"] = frames and {
        "count": len(frames),
        "shapes": [list(frame.shape) for frame in frames],
        "dtype": str(frames[0].dtype),
        "sha256_per_frame": [sha(frame.tobytes()) for frame in frames],
        "sha256_all": sha(b"".join(frame.tobytes() for frame in frames)),
    }
    found["audio"] = None
    if latents is not None:
        data = latents.contiguous().view(torch.uint8).numpy().tobytes()
        found["audio"] = {
            "dtype": str(latents.dtype).removeprefix("torch."),
            "shape": list(latents.shape),
            "sha256": sha(data),
        }
    return found


def formula_frame(index: int, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    channels = (3 * x + 5 * y + 17 * index, 7 * x + 2 * y + 31 * index, x * y + 11 * index)
    return np.stack([channel % 256 for channel in channels], -1).astype(np.uint8)


def formula_latents(latents: int, dtype=torch.float32, batch: int = 1) -> torch.Tensor:
    shape = (batch, 8, latents, 16)
    k = torch.arange(int(np.prod(shape)))
    return (((37 * k % 257) - 128) / 64).to(dtype).reshape(shape)
