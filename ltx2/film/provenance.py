"""What the segment before says about itself, under ``metadata["comfy_ltx2"]`` of its state. All of it is optional to
readers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..clock import parse_fps
from ..errors import ContinuationError, RequestError
from .timeline import Overlap, SegmentTiming

METADATA_KEY = "comfy_ltx2"
_VERSION = 1


# What a release is called in a state. Anything else there is the name of a file, which the nodes of 0.1.0 wrote.
_RELEASE = re.compile(r"LTX-\d+(\.\d+)*")


@dataclass(frozen=True)
class Source:
    """The model that a segment is made with; either may be unknown, "".

    release: such as ``LTX-2.3``, whose latents and pictures are the same in all of its files: a state fits by it.
    file: of the weights, without its ending; told to people, never compared. draft: whether it was a quick look. found:
    of a film that no model of ours made, what is known of it, such as its name and size; else None.
    """

    release: str = ""
    file: str = ""
    draft: bool = False
    found: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Provenance:
    """The finished segment: its place on the film, and what must agree for the next one.

    timing: as it was carried out; overlap: what its state was cut for. width, height: of its frames; source: its model;
    seed: the one it ran with, or None.
    """

    timing: SegmentTiming
    overlap: Overlap
    width: int
    height: int
    source: Source = Source()
    seed: int | None = None


def provenance_metadata(producer: Provenance, next_start: Fraction) -> dict[str, Any]:
    """The metadata object; ``next_start``: where the next segment's clock starts on the film. Rationals are [num,
    den]."""
    timing = producer.timing
    found: dict[str, Any] = {
        "v": _VERSION,
        "fps": _pair(timing.fps),
        "num_frames": timing.frames,
        "width": producer.width,
        "height": producer.height,
        "video_overlap_frames": producer.overlap.video_frames,
        "audio_overlap_frames": producer.overlap.audio_frames,
        "audio_latent_frames": timing.audio_latents,
        "segment_video_offset_sec": _pair(timing.video_offset_seconds),
        "segment_start_sec": _pair(timing.start),
        "global_start_sec": _pair(next_start),
        "emitted_frames": timing.total_frames,
        "audio_strength_is": "mask",
    }
    if timing.end_offset:
        found["end_offset_frames"] = timing.end_offset
    if producer.source.release:
        found["model"] = producer.source.release
    if producer.source.file:
        found["file"] = producer.source.file
    if producer.source.draft:
        found["draft"] = True
    if producer.source.found is not None:
        found["found_film"] = dict(producer.source.found)
    if producer.seed is not None:
        found["seed"] = producer.seed
    return found


def read_provenance(metadata: dict[str, Any], segment_index: int) -> Provenance | None:
    """The producer that a state's metadata describes, or None for a state of another program.

    Raises ContinuationError when the object is there but damaged.
    """
    found = metadata.get(METADATA_KEY)
    if not isinstance(found, dict) or not {
        "fps",
        "num_frames",
        "audio_latent_frames",
        "segment_video_offset_sec",
    } <= set(found):
        return None
    try:
        frames, latents = _count(found["num_frames"]), _count(found["audio_latent_frames"], least=0)
        overlap = Overlap(*(_count(found.get(f"{kind}_overlap_frames", 0), least=0) for kind in ("video", "audio")))
        end_offset = _count(found.get("end_offset_frames", 0), least=0)
        emitted = _count(found.get("emitted_frames", frames))
        seed = found.get("seed")
        timing = SegmentTiming(
            index=segment_index,
            frames=frames,
            fps=parse_fps(tuple(found["fps"])),
            audio_latents=latents,
            video_offset_seconds=_fraction(found["segment_video_offset_sec"]),
            start=_fraction(found.get("segment_start_sec", [0, 1])),
            end_offset=end_offset,
            # counted back from the film's length, so that the next segment's place comes out right
            first_frame=emitted - (frames - end_offset),
        )
        return Provenance(
            timing=timing,
            overlap=overlap,
            width=_count(found.get("width", 0), least=0),
            height=_count(found.get("height", 0), least=0),
            source=_source(found),
            seed=_count(seed, least=0) if seed is not None else None,
        )
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError, RequestError) as error:
        raise ContinuationError(f"metadata.{METADATA_KEY} of the state is damaged: {error}") from error


def _source(found: dict[str, Any]) -> Source:
    model, file = (str(found.get(name, ""))[:200] for name in ("model", "file"))
    film, draft = found.get("found_film"), found.get("draft") is True
    if isinstance(film, dict):
        return Source(found=film)
    return Source(model, file, draft) if _RELEASE.fullmatch(model) else Source("", file or model, draft)


def _pair(value: Fraction) -> list[int]:
    return [value.numerator, value.denominator]


def _fraction(pair) -> Fraction:
    if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(n, int) for n in pair)):
        raise ValueError(f"{str(pair)[:40]!r} is not [numerator, denominator]")
    value = Fraction(*pair)
    if not 0 <= value < 10**7:
        raise ValueError(f"{str(pair)[:40]!r} is out of range")
    return value


def _count(value, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**64:
        raise ValueError(f"{str(value)[:40]!r} is not a count")
    return value
