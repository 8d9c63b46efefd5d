"""What a bridge leads to: the first pictures and sound of the segment behind it, on the bridge's own clocks."""

import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from ...clock import AUDIO_LATENTS_PER_SECOND, seconds_of_frames
from ...film.state_content import read_content
from ...film.timeline import SegmentTiming
from ...values import AudioCondition, ClipCondition
from ..records import SegmentRecord
from ..segment_files import PICTURE, StoredFrames, read_state
from ..tasks import SegmentTask
from .bridges import frames_ahead

_LEAST_LATENTS = 4  # 160 ms, in which the crossfade of a join lies


@dataclass(frozen=True)
class Ends:
    """What is known at the end of a segment that is made anew. after: the segment behind it; stood: the one that this
    went on from; known_as: the hash of that one's state."""

    after: SegmentRecord
    stood: SegmentRecord
    known_as: str

    @property
    def identity(self) -> str:
        """Hash of all that is known of it."""
        text = f"{self.after.files[PICTURE].sha256} {self.stood.state_sha256}"
        return hashlib.sha256(text.encode()).hexdigest()


def led_into(
    task: SegmentTask, timing: SegmentTiming, ends: Ends, segments: Path, *, sound: bool
) -> tuple[SegmentTask, tuple[str, ...]]:
    """A segment's task with its end known as the segment behind repeats it, and what is to be told.

    timing: of the segment; segments: the folder of all; sound: whether its sound is to be led over too. Pictures lie in
    place on the segment's own grid of latent frames; of the sound as much is known as of the pictures.
    """
    step = int(ends.after.timing.fps / timing.fps)  # more than one where it is stored at a doubled rate
    overlap = -(-ends.after.timing.video_overlap // step)
    count = frames_ahead(overlap)
    first, last = (overlap - count) * step, (overlap - 1) * step
    stored = itertools.islice(_frames(StoredFrames(segments / ends.after.folder)), first, last + 1, step)
    begin = task.frames - count
    clip = ClipCondition(np.stack(list(stored)), frame=begin)
    last = task.frames - 1
    inside = [image for image in task.images if (last if image.frame is None else image.frame) >= begin]
    notes = tuple(
        f"the picture {image.path.name} at frame {last if image.frame is None else image.frame} is as the segment "
        "behind repeats it"
        for image in inside
    )
    images = tuple(image for image in task.images if image not in inside)
    task = replace(task, end=clip, images=images)
    if sound and task.audio_latents:
        task = replace(task, audio=_sound(task, timing, begin, read_content(read_state(_folder(segments, ends)), [])))
    return task, notes


def _frames(chunks: StoredFrames) -> Iterator[np.ndarray]:
    for chunk in chunks:
        yield from chunk


def _folder(segments: Path, ends: Ends) -> Path:
    return segments / ends.stood.folder


def _sound(task: SegmentTask, timing: SegmentTiming, begin: int, content) -> AudioCondition | None:
    """The whole sound of the segment with what is known of its start and of its end."""
    start = task.audio if isinstance(task.audio, AudioCondition) else None
    end, count = content.audio, task.audio_latents or 0
    if end is None:
        return start
    place = timing.video_offset_seconds + seconds_of_frames(begin, timing.fps)
    kept = min(end.shape[2], max(_LEAST_LATENTS, count - math.ceil(place * Fraction(AUDIO_LATENTS_PER_SECOND))))
    latent, mask = torch.zeros(1, end.shape[1], count, end.shape[3]), torch.ones(count)
    if start is not None:
        known = start.latent.shape[2]
        latent[:, :, :known] = start.latent.float()
        mask[:known] = torch.as_tensor(start.mask, dtype=torch.float32)
    latent[:, :, count - kept :] = end[:, :, end.shape[2] - kept :].float()
    mask[count - kept :] = 0
    return AudioCondition(latent, mask)
