"""The released versions and what each of them does differently by default."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError

Version = tuple[int, ...]


@dataclass(frozen=True)
class ModelVersion:
    """Defaults of one release. ``ancestral_distilled``: the distilled model's first stage adds noise at each step."""

    name: str
    steps: int  # of the dev model
    stg_blocks: tuple[int, ...]
    image_crf: int  # H.264 quality that conditioning pictures are put through first; 0 = off
    ancestral_distilled: bool
    distilled_lora_rank: int
    text_encoder: str
    text_projection_file: str  # the released file that holds it


RELEASES: dict[Version, ModelVersion] = {
    (2, 0): ModelVersion("2.0", 40, (29,), 33, False, 384, "Gemma 3 12B", "transformer"),
    (2, 3): ModelVersion("2.3", 30, (28,), 33, False, 384, "Gemma 3 12B", "transformer"),
    (2, 4): ModelVersion("2.4", 30, (28,), 18, False, 384, "Gemma 4 12B", "text encoder"),
    (2, 5): ModelVersion("2.5", 30, (28,), 18, True, 450, "Gemma 4 12B", "text encoder"),
}


def parse_version(text: str | None) -> Version | None:
    """The leading integers of a ``model_version``: "2.3.0" → (2, 3, 0), "2.4-rc2" → (2, 4); None when there are
    none."""
    parts = re.split(r"[.\-]", (text or "").strip())
    numbers = []
    for part in parts:
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers) or None


def version_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Version | None:
    """The release that a transformer's bare tensor names and shapes belong to, or None when it is no transformer of
    ours."""
    table = shapes.get("transformer_blocks.0.scale_shift_table")
    if table is None or "audio_adaln_single.linear.weight" not in shapes:
        return None
    if table[0] == 6:
        return (2, 0)
    newest = "keyframes_abs_pos_embedding" in shapes or "transformer_blocks.0.ff.net.0.proj.bias" not in shapes
    return (2, 5) if newest else (2, 3)


def release(version: Version | None, where: str = "the checkpoint") -> ModelVersion:
    """Defaults of a version: those of the newest release that is not newer. None (unknown) means 2.0.

    Raises CheckpointError for a version that this package does not know, naming ``where`` it was found.
    """
    if version is None:
        version = (2, 0)
    known = [number for number in RELEASES if number <= version]
    if not known or version[:2] > max(RELEASES):
        text = ".".join(map(str, version))
        fix = "update ltx2-continuum" if known else "choose an LTX-2 checkpoint, which makes sound too"
        raise CheckpointError(f"{where} is of model version {text}, expected 2.0 to 2.5: {fix}")
    return RELEASES[max(known)]
