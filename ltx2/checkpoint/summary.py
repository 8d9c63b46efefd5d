"""What weight files hold, in words and numbers, for people who wonder what they downloaded."""

import math
from collections import Counter
from typing import Any

from ..config.versions import RELEASES, release
from ..errors import CheckpointError
from .layout import components, model_version, released_file
from .lora import Lora, LowRank, match_lora, read_lora
from .reader import Checkpoint, CheckpointFile

# Of a whole pipeline; the others are extras.
NEEDED = (
    "transformer", "video_connector", "audio_connector", "text_projection", "text_encoder", "video_encoder",
    "audio_decoder", "vocoder",
)  # fmt: skip
METADATA_SHOWN = 200


def is_lora(file: CheckpointFile) -> bool:
    """Whether a file looks like a LoRA by its tensor names."""
    return any(".lora" in name or name.endswith((".diff", ".diff_b")) for name in file.tensors)


def summarise(checkpoint: Checkpoint) -> dict[str, Any]:
    """Version, components, files, metadata, and what is missing for a whole pipeline. Plain JSON values."""
    version = model_version(checkpoint)
    found = components(checkpoint)
    known = sum(len(component.tensors) for name, component in found.items())
    summary: dict[str, Any] = {
        "files": [_file(file) for file in checkpoint.files],
        "version": None if version is None else ".".join(map(str, version)),
        "release": _release(version),
        "components": {name: _component(component) for name, component in found.items()},
        "tensors": len(checkpoint.tensors),
    }
    if not known:
        summary["note"] = "none of the tensors belongs to a network of LTX-2"
    missing = [name for name in NEEDED if name not in found]
    if not {"video_decoder", "diffusion_decoder"} & found.keys():
        missing.append("video_decoder")
    summary["missing"] = {name: released_file(name, version) for name in missing}
    return summary


def summarise_lora(path, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Rank, size and, where a transformer is at hand, how much of a LoRA fits it."""
    lora = read_lora(path)
    ranks = Counter(found.rank for found in lora.differences.values() if isinstance(found, LowRank))
    summary: dict[str, Any] = {
        "file": str(path),
        "kind": "LoRA",
        "modules": len(lora.differences),
        "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
        "metadata": _shortened(lora.metadata),
    }
    transformer = components(checkpoint).get("transformer") if checkpoint is not None else None
    if transformer is not None:
        summary["fit"] = _fit(lora, transformer.shapes)
    return summary


def _fit(lora: Lora, shapes) -> str:
    try:
        match = match_lora(lora, shapes)
    except CheckpointError as error:
        return str(error)
    left = (
        f"; not in the model: {', '.join(match.unmatched[:3])}" + (", …" if len(match.unmatched) > 3 else "")
        if match.unmatched
        else ""
    )
    return f"{match}{left}"


def _release(version) -> str | None:
    if version is None:
        return None
    try:
        found = release(version)
    except CheckpointError:
        return f"unknown, expected {', '.join(known.name for known in RELEASES.values())}"
    return f"LTX-{found.name}, text encoder {found.text_encoder}"


def _file(file: CheckpointFile) -> dict[str, Any]:
    size = file.path.stat().st_size
    return {"path": str(file.path), "bytes": size, "tensors": len(file.tensors), "metadata": _shortened(file.metadata)}


def _component(component) -> dict[str, Any]:
    kinds = Counter(tensor.stored for tensor in component.tensors.values())
    return {
        "tensors": len(component.tensors),
        "parameters": sum(math.prod(shape) for shape in component.shapes.values()),
        "bytes": sum(tensor.nbytes for tensor in component.tensors.values()),
        "stored": dict(kinds.most_common()),
        "files": [path.name for path in component.paths],
    }


def _shortened(metadata) -> dict[str, str]:
    """Metadata to look at: control characters become spaces, long texts are cut."""
    shown = {}
    for key, text in metadata.items():
        cut = "".join(letter if letter.isprintable() else " " for letter in text[:METADATA_SHOWN])
        shown[key] = cut if len(text) <= METADATA_SHOWN else f"{cut}… ({len(text)} characters)"
    return shown
