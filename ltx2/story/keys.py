"""What tells one segment from another: a hash over all that decides what it becomes, and nothing else.

A scene's first segment depends on nothing before it, so its key holds neither its place in the film nor what the scenes
before it are. The others add the state that they go on from.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import StoryError
from .records import SegmentRecord
from .script import SegmentScript, StoryImage, StoryScript
from .segment_files import file_sha256
from .sentences import as_story_error, shown
from .tasks import seed_of

_VERSION = 2


class Keys:
    """Makes the keys of one script's segments. identity: text that changes with the models and settings."""

    def __init__(self, script: StoryScript, identity: str) -> None:
        self._script, self._identity = script, identity
        self._images: dict[Path, str] = {}

    def key(self, index: int, seed: int, before: SegmentRecord | None) -> str:
        """Hash of all that decides what a segment becomes; before: what it goes on from, None in a new scene."""
        script, segment = self._script, self._script.segments[index]
        described = self._described(segment) | {"version": _VERSION, "seed": seed, "before": None}
        if before is not None:
            described["before"] = before.state_sha256
            described["strength"] = segment.strength
            described["noise"] = dataclasses.asdict(script.noise) if script.noise else None
        return _hash(described)

    def older_key(self, index: int, before: SegmentRecord | None) -> str:
        """The key that version 0.1.0 gave the same segment; before: the segment before it on the film."""
        script, segment = self._script, self._script.segments[index]
        described = self._described(segment) | {
            "index": index,
            "cut": segment.cut,
            "seed": seed_of(script, segment, index),
            "strength": segment.strength,
            "noise": dataclasses.asdict(script.noise) if script.noise else None,
            "before": before.state_sha256 if before else None,
        }
        return _hash(described)

    def _described(self, segment: SegmentScript) -> dict[str, Any]:
        script = self._script
        return {
            "identity": self._identity,
            "prompt": segment.prompt,
            "negative": segment.negative,
            "frames": segment.frames,
            "fps": str(script.fps),
            "size": [script.width, script.height],
            "preset": script.preset,
            "overrides": script.overrides,
            "overlap": [script.video_overlap, script.audio_overlap],
            "images": [[self._image(segment, image), image.frame, image.strength] for image in segment.images],
        }

    def _image(self, segment: SegmentScript, image: StoryImage) -> str:
        if image.path not in self._images:
            try:
                with as_story_error(f"the image {shown(image.path, 80)} cannot be read"):
                    self._images[image.path] = file_sha256(image.path)
            except StoryError as error:
                raise self._script.error(segment, error) from error
        return self._images[image.path]


def older_records(script: StoryScript, keys: Keys, records: dict[str, SegmentRecord]) -> dict[str, SegmentRecord]:
    """Records that version 0.1.0 wrote and that still stand for the script, by the keys that they have now."""
    found: dict[str, SegmentRecord] = {}
    before: SegmentRecord | None = None
    for index, segment in enumerate(script.segments):
        record = records.get(keys.older_key(index, before))
        if record is None:
            break  # what follows went on from it
        starts = index == 0 or segment.cut
        found[keys.key(index, seed_of(script, segment, index), None if starts else before)] = record
        before = record
    return found


def _hash(described: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
