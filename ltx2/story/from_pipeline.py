"""The pipeline as a story's generator, and what identifies the models that a story was made with."""

import hashlib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import Ltx2Error, Ltx2Warning, StoryError
from ..film.reference_film import reference_frames_of, reference_mask_of
from ..media.images import open_image
from ..media.sound_reader import read_sound
from ..stages import pipeline
from ..stages.models import Models
from ..stages.pipeline import Segment
from ..stages.request import Request, make_job
from ..values import ImageCondition, Progress, ReferenceCondition, VoiceCondition
from .script import StoryReference, StoryScript
from .segment_job import silence_notes
from .tasks import Generate, MadeSegment, SegmentTask, task_of

_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 64 * 1024


def pipeline_generator(
    models: Models,
    *,
    progress: Callable[[Progress], None] | None = None,
    generate: Callable[..., Segment] = pipeline.generate,
    draft: bool = False,
) -> Generate:
    """A generator for ``run_story`` that makes each segment with these models.

    generate: the pipeline's, or one of several processes that work together. draft: a quick look at each segment.
    """

    def make(task: SegmentTask) -> MadeSegment:
        request = replace(request_of(task), draft=draft)
        segment = generate(models, make_job(models, request), progress=progress)
        frames, base = segment.frames(progress=progress), segment.base
        return MadeSegment(
            frames,
            segment.latent.audio,
            segment.sound,
            segment.notes,
            rounds=segment.rounds,
            before=None if base is None else base.frames(progress=progress),
            drift_reference=segment.drift_reference,
        )

    return make


def request_of(task: SegmentTask) -> Request:
    """The pipeline's request for a segment of a story."""
    last = task.frames - 1
    images = tuple(
        ImageCondition(open_image(i.path), last if i.frame is None else i.frame, i.strength, attention=i.attention)
        for i in task.images
    )
    return Request(
        prompt=task.prompt,
        negative_prompt=task.negative,
        preset=task.preset,
        width=task.width,
        height=task.height,
        frames=task.frames,
        fps=task.fps,
        seed=task.seed,
        images=images if task.anchor is None else (*images, task.anchor),
        references=tuple(_reference(one, task) for one in task.references),
        voice=None if task.voice is None else VoiceCondition(read_sound(task.voice.path), task.voice.identity),
        clips=tuple(clip for clip in (task.clip, task.end) if clip is not None),
        audio=task.audio,
        audio_latents=task.audio_latents,
        video_offset_seconds=task.video_offset_seconds,
        overrides=nested_overrides(task.overrides),
        double_rate=task.double_rate,
        keyframe_slots=task.keyframe_slots,
        latent_drift=task.latent_drift,
    )


def _reference(reference: StoryReference, task: SegmentTask) -> ReferenceCondition:
    """The piece of a control film that runs along with a segment."""
    piece = (task.frames, task.fps, task.reference_start)
    return ReferenceCondition(
        reference_frames_of(reference.path, *piece),
        reference.strength,
        reference.attention,
        None if reference.mask is None else reference_mask_of(reference.mask, *piece),
        reference.stages,
    )


def nested_overrides(flat: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``{"stage.name": value}`` as the pipeline takes it."""
    nested: dict[str, dict[str, Any]] = {}
    for path, value in flat.items():
        stage, _, name = path.partition(".")
        nested.setdefault(stage, {})[name] = value
    return nested


def check_story(models: Models, script: StoryScript, *, draft: bool = False) -> frozenset[str]:
    """Raise StoryError naming the line of a segment that the pipeline could not make, before any is made. Returns the
    notes that all segments have in common."""
    if script.drift is not None and script.drift.loudness:
        if script.audio is not None:
            raise StoryError("drift: loudness is of sound that is made, and the film has its own: leave loudness out")
        models.need("audio_encoder")
    missing = 0.0 if script.audio is None else float(script.audio.missing(script.total_frames / script.fps))
    for note in silence_notes(missing, "the film's sound"):
        warnings.warn(note, Ltx2Warning, stacklevel=2)
    checked, notes = set(), []
    for index, segment in enumerate(script.segments):
        # each segment is shown another piece of its references
        asked = (
            (segment.prompt, segment.negative, segment.frames),
            (segment.images, segment.voice),
            index if segment.references else None,
        )
        if asked in checked:
            continue
        checked.add(asked)
        try:
            notes.append(make_job(models, replace(request_of(task_of(script, index)), draft=draft)).notes)
        except Ltx2Error as error:
            raise script.error(segment, error) from error
    return frozenset.intersection(*map(frozenset, notes))


def prompt_notes(models: Models, script: StoryScript) -> tuple[str, ...]:
    """What is to be told of prompts of a story that the models do not read to the end, one sentence each."""
    found = ((number, models.prompt_note(one.prompt)) for number, one in enumerate(script.segments, 1))
    return tuple(f"segment {number}: {note}" for number, notes in found for note in notes)


def files_below(paths: Iterable[str | Path]) -> list[Path]:
    """Files, and in place of a folder all that are in it and below."""
    found = ((path, sorted(one for one in path.rglob("*") if one.is_file())) for path in map(Path, paths))
    return [one for path, inside in found for one in (inside if path.is_dir() else [path])]


def identity_of(paths: Iterable[str | Path], settings: Iterable[object] = ()) -> str:
    """A text that differs for other weight files or settings: names do not count, sizes and samples of the content
    do."""
    digest = hashlib.sha256()
    for path in paths:
        for file in files_below([path]):
            size = file.stat().st_size
            digest.update(f"{size} ".encode())
            with open(file, "rb") as opened:
                # a released file has tens of gigabytes: blocks spread over all of it tell other weights apart
                for block in range(_SAMPLED_BLOCKS):
                    opened.seek(max(0, size - _BLOCK_BYTES) * block // (_SAMPLED_BLOCKS - 1))
                    digest.update(opened.read(_BLOCK_BYTES))
        digest.update(b"|")
    digest.update(repr([str(setting) for setting in settings]).encode())
    return digest.hexdigest()
