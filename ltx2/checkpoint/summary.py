"""What weight files hold, in words and numbers, for people who wonder what they downloaded."""

import math
from collections import Counter
from typing import Any

from .. import mini
from ..config.versions import RELEASES, release
from ..errors import CheckpointError
from ..networks.video_vae.tiny_decoder import MARKER as TINY_DECODER
from .adapters.unread import unread_kind
from .layout import components, home_of, model_version
from .lora import Lora, adapter_part
from .lora_purpose import Purpose
from .lora_report import PREFIXES, network_of, report_lora
from .reader import Checkpoint, CheckpointFile
from .recognition.families import family_of_names

# Of a whole pipeline; the others are extras.
NEEDED = (
    "transformer", "video_connector", "audio_connector", "text_projection", "text_encoder", "video_encoder",
    "audio_decoder", "vocoder",
)  # fmt: skip
METADATA_SHOWN = 200
SCALES_SHOWN = 5


def is_lora(file: CheckpointFile) -> bool:
    """Whether a file looks like an adapter by its tensor names."""
    parts = map(adapter_part, file.tensors)
    known = any(part is not None and part[2] is not None for part in parts)
    return known or (bool(file.tensors) and all(unread_kind(name) is not None for name in file.tensors))


def summarise(checkpoint: Checkpoint) -> dict[str, Any]:
    """Version, components, files, metadata, and what is missing for a whole pipeline. Plain JSON values."""
    version = model_version(checkpoint)
    found = components(checkpoint)
    known = sum(len(component.tensors) for name, component in found.items())
    summary: dict[str, Any] = {
        "files": [_file(file) for file in checkpoint.files],
        "version": None if version is None else ".".join(map(str, version)),
        "release": _release(version, checkpoint),
        "components": {name: _component(component) for name, component in found.items()},
        "tensors": len(checkpoint.tensors),
    }
    if not known:
        summary["note"] = _note(checkpoint)
    missing = [name for name in NEEDED if name not in found]
    if not {"video_decoder", "diffusion_decoder"} & found.keys():
        missing.append("video_decoder")
    summary["missing"] = {name: home_of(name, checkpoint) for name in missing}
    return summary


def _note(checkpoint: Checkpoint) -> str:
    """What files without a network of a pipeline are."""
    if TINY_DECODER in checkpoint.tensors:
        return "a tiny autoencoder, for drafts and previews: --tiny-decoder, or models/vae_approx"
    family = family_of_names(checkpoint.tensors)
    return "none of the tensors belongs to a network of LTX-2" + (f": it is {family}" if family else "")


def summarise_lora(lora: Lora, purpose: Purpose, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Kinds, ranks, scales, what it is for and, where networks are at hand, how much of an adapter fits them."""
    ranks = Counter(rank for found in lora.differences.values() if (rank := found.rank) is not None)
    scales = Counter(scale for found in lora.differences.values() if (scale := _scale(found.kind)) is not None)
    summary: dict[str, Any] = {
        "file": str(lora.path),
        "kind": purpose.kind,
        "use": purpose.use,
        "weights": lora.kinds,
        "modules": len(lora.differences),
        "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
        "scales": {f"{scale:g}": count for scale, count in scales.most_common(SCALES_SHOWN)},
        "networks": _networks(lora),
        "metadata": _shortened(lora.metadata),
        "notes": list(lora.notes),
    }
    if lora.reference is not None:
        summary["reference"] = str(lora.reference)
        summary["reference_downscale_factor"] = lora.reference.downscale
        summary["reference_temporal_scale_factor"] = lora.reference.temporal
    found = components(checkpoint) if checkpoint is not None else {}
    if "transformer" in found:
        summary["fit"] = _fit(lora, {name: found[name].shapes for name in PREFIXES if name in found})
    return summary


def _scale(kind) -> float | None:
    return getattr(getattr(kind, "inner", kind), "scale", None)


def _networks(lora: Lora) -> dict[str, int]:
    """Which networks the names are of, and how many."""
    found: Counter[str] = Counter()
    for name in lora.differences:
        found[network_of(name).replace("_", " ")] += 1
    return dict(found.most_common())


def _fit(lora: Lora, networks) -> str:
    try:
        report = report_lora(lora, networks)
    except CheckpointError as error:
        return str(error)
    return str(report)


def _release(version, checkpoint: Checkpoint) -> str | None:
    if version is None:
        return None
    try:
        found = release(version)
    except CheckpointError:
        return f"unknown, expected {', '.join(known.name for known in RELEASES.values())}"
    own = any(file.path.name == mini.CHECKPOINT.name for file in checkpoint.files)
    return f"LTX-{found.name}, text encoder {'a small Gemma 3 of its own' if own else found.text_encoder}"


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
