"""Generated keyframes: single pictures of the clip that are made beside it and hold it together.

A slot is one picture's worth of tokens at a frame of the clip, as free as the clip itself. It is marked as the clip's
first latent frame is, which only models know that learned the mark. Slots are made in the first stage and dropped at
its end; what they did to the clip stays. Source: the released keyframe pipeline of LTX-2.5.
"""

from collections.abc import Sequence
from typing import Any

from ...errors import RequestError

MOST_SLOTS = 64
_EXPECTED = "a number, or frames such as (24, 48)"


def read_slots(value: Any) -> int | tuple[int, ...]:
    """Slots of a request as a number or as frames. Raises RequestError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_SLOTS:
        return value
    listed = isinstance(value, (list, tuple)) and len(value) <= MOST_SLOTS
    if listed and all(isinstance(one, int) and not isinstance(one, bool) for one in value):
        return tuple(value)
    raise RequestError(f"keyframe_slots is {str(value)[:40]}, expected {_EXPECTED}, at most {MOST_SLOTS}")


def slot_frames(slots: int | Sequence[int], frames: int, repeated: int = 0) -> tuple[int, ...]:
    """Frames of the slots of a clip: a number of them is spread evenly between its first and last frame, or behind the
    ``repeated`` frames of another one that it starts from. Raises RequestError for frames that are none of its."""
    first = max(repeated - 1, 0)
    if isinstance(slots, int):
        room = frames - 1 - first - 1
        if slots > max(room, 0):
            raise RequestError(
                f"{slots} keyframe slots, the clip has room for {max(room, 0)} between its ends: ask for fewer"
            )
        return tuple(round(first + (frames - 1 - first) * (index + 1) / (slots + 1)) for index in range(slots))
    if list(slots) != sorted(set(slots)):
        raise RequestError(f"keyframe slots are at {str(tuple(slots))[:60]}, expected frames that rise")
    for frame in slots:
        if not 0 <= frame < frames:
            raise RequestError(f"a keyframe slot is at frame {frame}, the clip has frames 0 to {frames - 1}")
        if repeated and frame < repeated:
            raise RequestError(
                f"a keyframe slot is at frame {frame}, frames 0 to {repeated - 1} are known: give it a later frame"
            )
    return tuple(slots)


def repeated_frames(request: Any) -> int:
    """How many frames at the start of a request's clip repeat another one."""
    whole = (clip for clip in request.clips if clip.frame == 0 and clip.mask is None)
    return max((len(clip.frames) for clip in whole), default=0)


def checked_slots(request: Any, frames: int, models: Any) -> tuple[int, ...]:
    """Frames of the slots that a request asks for. Raises RequestError on a model that does not know them."""
    slots = slot_frames(request.keyframe_slots, frames, repeated_frames(request))
    if slots and request.sound_only:
        raise RequestError("only the sound is to be made, which has no keyframes: leave keyframe_slots out")
    transformer = models.transformer
    if slots and transformer is not None and not transformer.config.keyframe_embedding:
        release = "this one" if models.release is None else f"LTX-{models.release.name}"
        raise RequestError(
            f"keyframe slots need a model that learned their mark, as LTX-2.5 did and {release} did not: use LTX-2.5, "
            "or leave keyframe_slots out"
        )
    return slots
