"""A found film and the segment made behind it, as one film: the found part is the source, the sound goes over at the
seam."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..clock import (
    DEFAULT_FPS,
    FRAMES_PER_LATENT,
    decoded_audio_seconds,
    round_half_up,
    samples_of_seconds,
    seconds_of_frames,
)
from ..continuation.state import LTX2ContinuationState
from ..media import FilmExtension, FoundFilm
from ..media.found.film_extension import Kept
from ..media.found.found_film import RUN_UP_LATENTS
from ..values import Waveform
from .audio_format import AudioFormat, file_format, in_format
from .drift import DriftCorrection
from .handoff import capture_state
from .join import FinishedSegment, join_segments
from .provenance import Source
from .retake import fade_gain
from .seam_metrics import SeamReport
from .timeline import AUDIO_OVERLAP_FRAMES, Overlap, SegmentTiming, sound_join

# The last latents of a found film: what breaks off while it sounds, or was filled with silence by an encoder, is not
# what goes on. Made anew.
_BROKEN_OFF = 2
_SOUND_SECONDS = seconds_of_frames(AUDIO_OVERLAP_FRAMES, DEFAULT_FPS)  # that the next segment hears, at whatever rate


def timing_of_found_film(film: FoundFilm) -> SegmentTiming:
    """The clocks of a found film's end, as those of a segment whose picture ends exactly two audio latents after its
    sound. It has eight frames more than were read, which nobody needs: no segment is repeated whole."""
    frames, count = len(film.frames) + FRAMES_PER_LATENT, film.audio_latents - RUN_UP_LATENTS
    if film.sound is None:
        return SegmentTiming(index=0, frames=frames, fps=film.fps, audio_latents=0)
    offset = decoded_audio_seconds(count) - seconds_of_frames(frames, film.fps)
    return SegmentTiming(
        index=0, frames=frames, fps=film.fps, audio_latents=count - _BROKEN_OFF, video_offset_seconds=offset
    )


def state_of_found_film(
    film: FoundFilm, audio_latents: torch.Tensor | None, *, about: Mapping[str, Any] | None = None
) -> LTX2ContinuationState:
    """The state that a found film leaves, as if a segment that nobody knows had ended with it.

    audio_latents: [1, 8, T, 16] of ``film.sound``, None for a silent one. about: what its provenance tells beside the
    clocks. Raises ContinuationError for latents of another kind.
    """
    timing = timing_of_found_film(film)
    if audio_latents is not None:
        audio_latents = audio_latents[:, :, RUN_UP_LATENTS : RUN_UP_LATENTS + timing.audio_latents]
    count = len(film.frames)
    return capture_state(
        film.frames,
        audio_latents,
        timing,
        overlap=Overlap(count, max(count, round_half_up(_SOUND_SECONDS * film.fps))),
        source=Source(found=about or {}),
        sample_rate=None if film.sound is None else film.sound.sample_rate,
    )


@dataclass(frozen=True)
class Writing:
    """How a film is written behind another. note: is given what was adjusted. crf: H.264 quality; metadata: tags;
    drift_correction, against the film's end, and report: see ``join.join_segments``."""

    note: Callable[[str], None]
    crf: float = 18
    metadata: Mapping[str, Any] | None = None
    drift_correction: DriftCorrection | None = None
    report: Callable[[SeamReport], None] | None = None


def write_extended(
    source: str | Path, film: FoundFilm, new: FinishedSegment, path: str | Path, writing: Writing
) -> Path:
    """Write a found film with the segment that was made behind it. Returns the path.

    source: the film; film: its end as it was read for the model. new: the segment made from the state of that. Raises
    MediaError and ContinuationError.
    """
    return write_behind(source, film, timing_of_found_film(film), [new], path, writing)


def write_behind(
    source: str | Path,
    film: FoundFilm,
    before: SegmentTiming,
    segments: Sequence[FinishedSegment],
    path: str | Path,
    writing: Writing,
) -> Path:
    """Write a film as it is with the segments that follow its end behind it. Returns the path.

    film: its end; before: the clocks of the segment that it ends with, of which only the end counts. Raises MediaError
    and ContinuationError.
    """
    new, *rest = segments
    note, to_film = writing.note, film.end_seconds - before.picture_end  # from the segments' clock to the film's
    read, own = _end_of(film, before)
    heard = own is not None and new.sound is not None
    begin = sound_join(before, new.timing).fade_start if heard else before.picture_end
    fresh = file_format([one.sound for one in segments])
    with FilmExtension(
        source,
        path,
        fps=film.fps,
        kept=Kept(sound=begin + to_film),
        sample_rate=None if fresh is None else fresh.sample_rate,
        channels=2 if fresh is None else fresh.channels,
        crf=writing.crf,
        metadata=writing.metadata,
    ) as writer:
        for text in writer.notes:
            note(text)
        audio = AudioFormat(writer.sample_rate, writer.channels) if writer.sample_rate else None
        if audio is not None and new.sound is not None:
            new = replace(new, sound=in_format(new.sound, audio, "the new part", note))
        if audio is not None and own is not None:
            own = in_format(own, audio, Path(source).name, lambda text: None)
        if own is not None and new.sound is not None:
            own, sound = evened(own, new.sound, read, new.timing)
            new = replace(new, sound=sound)
        joined = join_segments(
            [FinishedSegment(read, [film.frames], own), new, *rest],
            audio=audio,
            drift_correction=writing.drift_correction,
            report=writing.report,
            note=note,
        )
        rate = writer.sample_rate or 1
        sound_left = samples_of_seconds(begin, rate) - samples_of_seconds(read.picture_start, rate)
        for piece in without_head(joined, len(film.frames), sound_left):
            if not isinstance(piece, Waveform):
                writer.write_frames(piece)
            elif audio is not None:
                writer.write_sound(piece)
    return Path(path)


def _end_of(film: FoundFilm, before: SegmentTiming) -> tuple[SegmentTiming, Waveform | None]:
    """The end of a film as a segment of its own that ends in picture and sound where ``before`` does, and its sound
    from where its clock begins."""
    seconds = seconds_of_frames(len(film.frames), film.fps)
    latents = 0 if film.sound is None else min(before.audio_latents, film.audio_latents - RUN_UP_LATENTS)
    start = before.sound_end - decoded_audio_seconds(latents) if latents else before.picture_end - seconds
    read = replace(
        before,
        frames=len(film.frames),
        audio_latents=latents,
        start=start,
        video_offset_seconds=before.picture_end - start - seconds,
        audio_overlap_latents=0,
        video_overlap=0,
        end_offset=0,
    )
    if film.sound is None:
        return read, None
    rate = film.sound.sample_rate
    count = samples_of_seconds(before.picture_end, rate) - samples_of_seconds(start, rate)
    return read, Waveform(film.sound.samples[:, -count:], rate)


def evened(own: Waveform, new: Waveform, before: SegmentTiming, after: SegmentTiming) -> tuple[Waveform, Waveform]:
    """Two sounds of one format, louder where the crossfade of their segments would be too quiet (see fade_gain)."""
    join, rate = sound_join(before, after), own.sample_rate
    begin = samples_of_seconds(before.start, rate)
    first, last = (samples_of_seconds(time, rate) - begin for time in (join.fade_start, join.fade_end))
    shift = samples_of_seconds(after.start, rate) - begin
    if last <= first or shift > first or last - shift > new.samples.shape[1] or last > own.samples.shape[1]:
        return own, new
    a, b = own.samples[:, first:last].float(), new.samples[:, first - shift : last - shift].float()
    rise = (torch.arange(last - first, dtype=torch.float32) + 0.5) / (last - first)
    gain = fade_gain(a, b, rise)
    return (
        Waveform(torch.cat([own.samples[:, :first], a * gain, own.samples[:, last:]], dim=1), rate),
        Waveform(torch.cat([new.samples[:, : first - shift], b * gain, new.samples[:, last - shift :]], dim=1), rate),
    )


def without_head(pieces: Iterable[np.ndarray | Waveform], frames: int, samples: int) -> Iterable[np.ndarray | Waveform]:
    """Pieces of a film without its first frames and samples."""
    for piece in pieces:
        if isinstance(piece, Waveform):
            left = min(samples, piece.samples.shape[1])
            samples -= left
            if left < piece.samples.shape[1]:
                yield Waveform(piece.samples[:, left:], piece.sample_rate)
        else:
            left = min(frames, len(piece))
            frames -= left
            if left < len(piece):
                yield piece[left:]
