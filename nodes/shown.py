"""What nodes show on the page besides their outputs: notes on what was adjusted, and segments to play."""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ..ltx2 import errors
from ..ltx2.atomic_files import reason
from ..ltx2.errors import Ltx2Error, Ltx2Warning, MediaError
from ..ltx2.film import FinishedSegment, SegmentTiming, file_format, new_sound, write_film
from ..ltx2.film.audio_format import AudioFormat, in_format
from ..ltx2.values import Waveform
from . import host
from .sockets import SegmentValue, audio_value

# the page shows an error's kind: without the folder that the pack lies in, by which a host names its modules
for _kind in vars(errors).values():
    if isinstance(_kind, type):
        _kind.__module__ = "ltx2.errors"

PREVIEW_CRF = 23
PIECE = 16  # frames handed to the encoder at a time


@contextmanager
def collected() -> Iterator[list[str]]:
    """The engine's warnings while the block runs, each once, in a list, and in the host's log as they come: what is
    known before a long work is told before it. Those of others go where they would."""
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", Ltx2Warning)
        others = warnings.showwarning

        def show(message, category, *place, **keywords):
            if not issubclass(category, Ltx2Warning):
                others(message, category, *place, **keywords)
            elif str(message) not in notes:
                notes.extend(host.tell([str(message)])["text"])

        warnings.showwarning = show
        yield notes


def telling(node: Any) -> Any:
    """The node, now with what the engine warns of on its card, and as one line each in the host's log; its errors name
    no folder of the host."""
    execute = node.execute.__func__

    @functools.wraps(execute)
    def run(cls, *given, **inputs):
        with collected() as notes:
            try:
                result = execute(cls, *given, **inputs)
            except Ltx2Error as error:
                error.args = tuple(host.without_folders(one) if isinstance(one, str) else one for one in error.args)
                raise
        if notes:
            lines = list((result.ui or {}).get("text", ()))
            result.ui = {**(result.ui or {}), "text": [*lines, *notes]}
        return result

    node.execute = classmethod(run)
    return node


def new_video(images: torch.Tensor, sound: Waveform | None, timing: SegmentTiming):
    """What a segment adds to the film as the host's VIDEO, without the frames that repeat the one before."""
    frames = images[timing.video_overlap : timing.frames - timing.end_offset]
    return video_of(frames, audio_value(None if sound is None else new_sound(timing, sound)), timing.fps)


def video_of(images: torch.Tensor, audio: dict | None, fps: Fraction):
    """Frames [N, H, W, 3] and the host's AUDIO as its VIDEO, whose saving node takes the sound as it is: with a rate and
    channels that an MP4 has, which is told."""
    sound = None if audio is None else Waveform(audio["waveform"][0], audio["sample_rate"])
    wanted = file_format([sound])
    if sound is not None and wanted is not None and wanted != AudioFormat.of(sound):
        note = f"the sound has {AudioFormat.of(sound)}, video has it with {wanted}, as MP4 needs it"
        warnings.warn(note, Ltx2Warning, stacklevel=2)
        audio = audio_value(in_format(sound, wanted, "", lambda text: None))
    components = host.Types.VideoComponents(images=images, audio=audio, frame_rate=fps)
    return host.InputImpl.VideoFromComponents(components)


def playable(images: torch.Tensor, sound: Waveform | None, timing: SegmentTiming) -> dict:
    """A segment as the page plays it: a film with sound in the host's temp folder, and what names it in a result.

    A full disk costs the preview alone, which is told; that its sound is in an MP4's format is not.
    """
    target = host.save_target("continuum/segment", kind="temp")
    whole = FinishedSegment(replace(timing, video_overlap=0, end_offset=0), list(images.split(PIECE)), sound)
    try:
        write_film(target.path(".mp4"), [whole], file_format([sound]), crf=PREVIEW_CRF, note=lambda text: None)
    except (MediaError, OSError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        warnings.warn(f"the segment cannot be shown: {why}", Ltx2Warning, stacklevel=2)
        return {}
    return {"images": [target.result(".mp4")], "animated": (True,)}


def save_film(film, path: Path, hidden) -> None:
    """A VIDEO of the host, or what is new in a segment, as an MP4 that restores the workflow."""
    if not isinstance(film, SegmentValue):
        host.save_video(film, path, hidden)
        return
    segment = FinishedSegment(film.timing, list(film.frames.split(PIECE)), film.waveform)
    write_film(path, [segment], file_format([film.waveform]), metadata=host.workflow_texts(hidden))
