"""What tells one segment from another: a hash over all that decides what it becomes."""

import dataclasses
import hashlib
import json

from ..errors import StoryError
from .script import SegmentScript, StoryImage, StoryScript
from .segment_files import STATE, file_sha256
from .tasks import seed_of


def inputs_hash(script: StoryScript, index: int, before: dict | None, identity: str) -> str:
    """Hash of everything that decides what a segment becomes."""
    segment = script.segments[index]
    described = {
        "identity": identity,
        "index": index,
        "prompt": segment.prompt,
        "negative": segment.negative,
        "frames": segment.frames,
        "fps": str(script.fps),
        "size": [script.width, script.height],
        "preset": script.preset,
        "overrides": script.overrides,
        "seed": seed_of(script, segment, index),
        "strength": segment.strength,
        "cut": segment.cut,
        "overlap": [script.video_overlap, script.audio_overlap],
        "noise": dataclasses.asdict(script.noise) if script.noise else None,
        "images": [[_image_hash(script, segment, image), image.frame, image.strength] for image in segment.images],
        # the state of the segment before says all that this one can know of the past
        "before": before["files"][STATE]["sha256"] if before else None,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _image_hash(script: StoryScript, segment: SegmentScript, image: StoryImage) -> str:
    try:
        return file_sha256(image.path)
    except OSError as error:
        raise StoryError(
            f"{script.path}, line {segment.line}: the image {image.path} cannot be read: {error.strerror}"
        ) from error
