"""One segment from request to frames and sound: the steps put together.

Which stage's sound is heard: the second's for distilled presets, the first's for dev and HQ presets,
whose second stage runs a model that was made for the picture; a sound of one's own is handed through.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from ..errors import RequestError
from ..media.frames import uint8_frames
from ..sampling.tokens import AVTokens
from ..values import AudioCondition, AVLatent, ChannelStatistics, Progress, TextContext, Waveform
from . import steps
from .conditioning import Conditioning, place_audio
from .conditioning.references import shown_first_stage
from .denoising.drift import against_drift
from .doubling.rounds import double_rate
from .models import Models
from .presets import Settings
from .request import Geometry, Job, Request, Stage, make_job
from .steps import Inputs, encode_texts

__all__ = [
    "Segment",
    "encode_texts",
    "first_pass",
    "generate",
    "held_first_pass",
    "inputs_of",
    "make_job",
    "second_pass",
]

Report = Callable[[Progress], None] | None
# Models, latent, its known sound and a report → the sounds of a batch.
SoundDecoder = Callable[..., Sequence[Waveform | None]]


@dataclass(frozen=True, eq=False)
class Segment:
    """A finished segment; its pictures are decoded when they are asked for, the same ones every time.

    latent: of the whole batch, on the CPU: the last stage's video and the audio that is heard. sounds: one a clip, None
    in a silent film. rng_state: of each clip's generator, which decoding draws on from, each time from the same place.
    seconds: wall time by stage. notes: what was adjusted or chosen, one sentence each. peak_bytes: most memory taken on
    a GPU, None elsewhere. base: of a clip whose frame rate was doubled the clip as it was before, which the next
    segment goes on from. drift_reference: what the latents of the segment after are held to, where that was asked for.
    """

    latent: AVLatent
    sounds: Sequence[Waveform | None]
    geometry: Geometry
    settings: Settings
    seed: int
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    rng_state: tuple[torch.Tensor, ...] = ()
    decoder: Callable[..., Iterator[torch.Tensor]] | None = None
    base: "Segment | None" = None
    drift_reference: ChannelStatistics | None = None

    @property
    def rounds(self) -> int:
        """How often its frame rate was doubled."""
        return 0 if self.base is None else self.settings.rounds

    @property
    def batch_size(self) -> int:
        """How many clips."""
        return len(self.sounds)

    @property
    def sound(self) -> Waveform | None:
        """The first clip's sound, None where it is silent."""
        return self.sounds[0]

    def pixels(self, index: int = 0, *, progress: Report = None) -> Iterator[torch.Tensor]:
        """Pieces [1, 3, n, H, W] around -1…1 in order of time, each handed out as soon as it is decoded."""
        return self.decoder(index, progress)

    def frames(self, index: int = 0, *, progress: Report = None) -> Iterator[np.ndarray]:
        """Pieces [n, H, W, 3] uint8 RGB, rounded, in order of time."""
        for piece in self.pixels(index, progress=progress):
            yield uint8_frames(piece)

    def __str__(self) -> str:
        sound = f", {self.sound}" if self.sound is not None else ", silent"
        return f"segment {self.geometry}{sound}, seed {self.seed}"


# Noise of a host's own: for a stage's start and what it starts from.
NoiseSource = Callable[[AVLatent, Conditioning], AVTokens]


def generate(
    models: Models,
    request: Request | Job,
    *,
    progress: Report = None,
    decode_sounds: SoundDecoder = steps.decode_sounds,
) -> Segment:
    """Make one segment, except for its pictures, which the result decodes when asked.

    request: or the job that ``make_job`` made of it. progress: called at every prompt, step and tile; its preview is an
    AVLatent while denoising. Raising from it stops the work. decode_sounds: who decodes the sound, this process unless
    several work together.
    Raises RequestError, CheckpointError and MediaError, each before the first long stage where it can be known.
    """
    job = request if isinstance(request, Job) else make_job(models, request)
    request, config, clock = job.request, models.config, _Clock()
    on_cuda = torch.device(config.device).type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(config.device)
    with clock.running("text encoding"):
        positive, negative = steps.encode_request_texts(models, job, progress=progress)
    with clock.running("conditioning"):
        inputs = inputs_of(models, job, positive, negative)
        conditioning = _conditioning(models, job, job.stages, inputs, progress)
    with clock.running("denoising"):
        latent = first_pass(models, job, inputs, conditioning=conditioning[0], progress=progress)
        latent, drift_reference = against_drift(latent, conditioning[0], request.latent_drift)
    if job.settings.refine is not None:
        with clock.running("refining"):
            larger = steps.upsample_latent(models, latent, progress=progress)
            first = latent.video if job.settings.refine.detail else None
            latent = second_pass(
                models, job, inputs, larger, first=first, conditioning=conditioning[1], progress=progress
            )
    latent = latent.to("cpu")
    rng_state = tuple(generator.get_state() for generator in inputs.generators)
    base = None
    if job.settings.rounds:
        before = partial(_decoded, models, job, latent.video, rng_state)
        with clock.running("doubling"):
            doubled = double_rate(models, job, latent, lambda index: before(index, progress), inputs, progress=progress)
        base, latent = (latent, before), doubled.to("cpu")
    with clock.running("audio decoding"):
        sounds = decode_sounds(models, latent, inputs.audio, progress=progress)
    segment = Segment(
        latent=latent,
        sounds=sounds,
        geometry=job.geometry.doubled(job.settings.rounds),
        settings=job.settings,
        seed=job.seed,
        notes=job.notes,
        seconds=clock.seconds,
        peak_bytes=torch.cuda.max_memory_allocated(config.device) if on_cuda else None,
        rng_state=rng_state,
        decoder=partial(_decoded, models, job, latent.video, rng_state),
        drift_reference=drift_reference,
    )
    if base is None:
        return segment
    return replace(segment, base=replace(segment, latent=base[0], geometry=job.geometry, decoder=base[1]))


def _decoded(
    models: Models, job: Job, video: torch.Tensor | None, rng_state: Sequence[torch.Tensor], index: int, report: Report
) -> Iterator[torch.Tensor]:
    """Pictures of one clip of a batch, drawn from the same place each time."""
    request = job.request
    if not 0 <= index < request.batch_size:
        raise RequestError(f"clip {index} of a batch of {request.batch_size}, expected 0 to {request.batch_size - 1}")
    if video is None or request.sound_only:
        raise RequestError("only the sound was made: there are no pictures to decode")
    one, own = video[index : index + 1], rng_state[index]
    if job.settings.draft:
        return steps.decode_draft(models, one, own, job.geometry, progress=report)
    return steps.decode_pixels(models, one, own, progress=report)


def inputs_of(models: Models, job: Job, positive: TextContext, negative: TextContext | None) -> Inputs:
    """What the passes of a job work with, its sound and voice encoded; fresh generators, which the passes draw on
    from."""
    audio = steps.encode_audio_condition(models, job.request.audio, audio_latents=job.geometry.audio_latents)
    voice = steps.encode_voice(models, job.request.voice)
    generators = steps.generators_of(models, job.seed, job.request.batch_size)
    return Inputs(positive, negative, audio, generators, job.seeds, voice)


def first_pass(
    models: Models,
    job: Job,
    inputs: Inputs,
    *,
    conditioning: Conditioning | None = None,
    noise: NoiseSource | None = None,
    progress: Report = None,
) -> AVLatent:
    """The first stage of a job, or its only one: latents on the transformer's device.

    conditioning: what it starts from where that is encoded already; noise: in place of what the seed gives.
    """
    start = steps.fresh_latent(models, job.stages[0], job.request.batch_size)
    return _pass(models, job, 0, inputs, start, conditioning, noise, progress)


def held_first_pass(
    models: Models, job: Job, inputs: Inputs, *, noise: NoiseSource | None = None, progress: Report = None
) -> tuple[AVLatent, ChannelStatistics | None]:
    """``first_pass`` with what the job does against drift, and what the segment after is held to."""
    (conditioning,) = _conditioning(models, job, job.stages[:1], inputs, progress)
    latent = first_pass(models, job, inputs, conditioning=conditioning, noise=noise, progress=progress)
    return against_drift(latent, conditioning, job.request.latent_drift)


def second_pass(
    models: Models,
    job: Job,
    inputs: Inputs,
    start: AVLatent,
    *,
    first: torch.Tensor | None = None,
    conditioning: Conditioning | None = None,
    noise: NoiseSource | None = None,
    progress: Report = None,
) -> AVLatent:
    """The second stage of a job on the upsampled latents of the first, with the sound that the preset lets be heard.

    inputs: its generators go on where the first pass left them. first: the first stage's video latent, where the job's
    settings show it (``refine.detail``). conditioning, noise: see ``first_pass``.
    """
    if conditioning is None:
        (conditioning,) = _conditioning(models, job, [job.stages[1]], inputs, progress)
    if job.stages[1].detail:
        if first is None:
            raise RequestError(
                "refine.detail shows the first stage's latents, which are not here: make both stages anew"
            )
        conditioning = replace(conditioning, references=(*conditioning.references, shown_first_stage(first)))
    latent = _pass(models, job, 1, inputs, start, conditioning, noise, progress)
    kept = job.settings.audio_from == "denoise" or _keeps_sound(job)
    return replace(latent, audio=start.audio) if kept else latent


def _pass(models, job: Job, number: int, inputs: Inputs, start: AVLatent, conditioning, noise, progress) -> AVLatent:
    stage = job.stages[number]
    if conditioning is None:
        (conditioning,) = _conditioning(models, job, [stage], inputs, progress)
    if number and _keeps_sound(job):
        made = AudioCondition(start.audio, frozen=True)
        conditioning = place_audio(conditioning, made, audio_latents=stage.geometry.audio_latents)
        conditioning = replace(conditioning, voice=start.audio)
    own = None if noise is None else noise(start, conditioning)
    return steps.run_stage(models, stage, start, conditioning, inputs, noise=own, progress=progress)


def _conditioning(models, job: Job, stages: Sequence[Stage], inputs: Inputs, progress: Report) -> list[Conditioning]:
    audio, voice = inputs.audio, inputs.voice
    return steps.encode_conditioning(models, job.request, stages, audio, voice=voice, progress=progress)


def _keeps_sound(job: Job) -> bool:
    """Whether a second stage leaves the sound of the first as it is."""
    return job.request.voice is not None and job.request.voice.keeps_sound


class _Clock:
    """Wall time by stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self, stage: str):
        begun = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begun
