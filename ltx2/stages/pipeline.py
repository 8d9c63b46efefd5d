"""One segment from request to frames and sound: the steps put together.

Which stage's sound is heard: the second's for distilled presets, the first's for dev and HQ presets,
whose second stage runs a model that was made for the picture; a sound of one's own is handed through.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..errors import Ltx2Warning, RequestError
from ..media.frames import uint8_frames
from ..values import AVLatent, Progress, Waveform
from . import memory, steps
from .models import Models
from .presets import Settings, StageSettings, find_preset, preset_for, resolve
from .refinement import check_upsampler
from .request import Geometry, Request, check_request
from .steps import encode_texts

__all__ = ["Segment", "encode_texts", "generate", "prepare", "resolve_request"]

Report = Callable[[Progress], None] | None


@dataclass(frozen=True, eq=False)
class Segment:
    """A finished segment; its pictures are decoded when they are asked for, the same ones every time.

    latent: of all samples, on the CPU: the last stage's video and the audio that is heard. sounds: one a sample, None
    in a silent film. draws: states of the samples' generators, which decoding draws on from, each time from the same
    place.
    seconds: wall time by stage. notes: what was adjusted or chosen, one sentence each. peak_bytes: most memory taken on
    a GPU, None elsewhere.
    """

    latent: AVLatent
    sounds: tuple[Waveform | None, ...]
    geometry: Geometry
    settings: Settings
    seed: int
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    rng_state: tuple[torch.Tensor, ...] = ()
    decoder: Callable[..., Iterator[torch.Tensor]] | None = None

    @property
    def batch_size(self) -> int:
        return len(self.sounds)

    @property
    def sound(self) -> Waveform | None:
        return self.sounds[0]

    def pixels(self, sample: int = 0, *, progress: Report = None) -> Iterator[torch.Tensor]:
        """Pieces [1, 3, n, H, W] around -1…1 in order of time, each handed out as soon as it is decoded."""
        return self.decoder(sample, progress)

    def frames(self, sample: int = 0, *, progress: Report = None) -> Iterator[np.ndarray]:
        """Pieces [n, H, W, 3] uint8 RGB, rounded, in order of time."""
        for piece in self.pixels(sample, progress=progress):
            yield uint8_frames(piece)

    def __str__(self) -> str:
        sound = f", {self.sound}" if self.sound is not None else ", silent"
        return f"segment {self.geometry}{sound}, seed {self.seed}"


def resolve_request(models: Models, request: Request) -> tuple[Settings, Geometry, tuple[str, ...]]:
    """Settings and clip of a request: what its stages run with, and notes on adjustments. Only release and file names
    are asked.

    Raises RequestError for what cannot be made; warns of what the models were not trained for.
    """
    if request.preset is None:
        preset = preset_for(models.names, models.release)
    else:
        preset = find_preset(request.preset, request.preset_version)
    settings = resolve(preset, models.release, request.overrides)
    geometry, notes = check_request(request, preset, settings)
    _warn_without_lora(models, settings)
    return (
        settings,
        geometry,
        (*(() if request.preset else (f"preset {preset.name} was chosen by the checkpoint's name",)), *notes),
    )


def prepare(models: Models, request: Request) -> tuple[Settings, Geometry, tuple[str, ...]]:
    """What a request will run with, checked without running anything: settings, clip, and notes on adjustments.

    Raises RequestError and CheckpointError for what cannot work; warns of what may not.
    """
    settings, geometry, notes = resolve_request(models, request)
    _check_models(models, request, settings, geometry)
    # a host makes room itself
    if models.host_placement is None:
        _check_memory(models, settings, geometry, request.batch_size)
    return settings, geometry, notes


def generate(models: Models, request: Request, *, progress: Report = None) -> Segment:
    """Make one segment, except for its pictures, which the result decodes when asked.

    progress: called at every prompt, step and tile; its preview is an AVLatent while denoising. Raising from it stops
    the work.
    Raises RequestError, CheckpointError and MediaError, each before the first long stage where it can be known.
    """
    settings, geometry, notes = prepare(models, request)
    config, clock = models.config, _Clock()
    seed = settings.preset.seed if request.seed is None else request.seed
    seeds = range(seed, seed + request.batch_size)
    generators = steps.generators_of(models, seed, request.batch_size)
    if torch.device(config.device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(config.device)

    with clock.running("text encoding"):
        positive, negative = steps.encode_request_texts(models, request, settings, progress=progress)
    stages = steps.stages_of(request, settings, geometry)
    with clock.running("conditioning"):
        sound = steps.encode_audio_condition(models, request.audio, audio_latents=geometry.audio_latents)
        known = steps.encode_conditioning(models, request, stages, sound, progress=progress)
    common = {
        "positive": positive,
        "negative": negative,
        "generators": generators,
        "seeds": seeds,
        "progress": progress,
    }

    with clock.running("denoising"):
        start = steps.fresh_latent(models, stages[0], request.batch_size)
        latent = steps.run_stage(models, stages[0], start, known[0], **common)
    if settings.refine is not None:
        with clock.running("refining"):
            stage_audio = latent.audio
            start = steps.upsample_latent(models, latent, progress=progress)
            latent = steps.run_stage(models, stages[1], start, known[1], **common)
            if settings.audio_from == "denoise":
                latent = replace(latent, audio=stage_audio)
    latent = latent.to("cpu")

    with clock.running("audio decoding"):
        sounds = steps.decode_sounds(models, latent, sound, progress=progress)
    peak = torch.cuda.max_memory_allocated(config.device) if torch.device(config.device).type == "cuda" else None
    rng_state = tuple(generator.get_state() for generator in generators)

    def decode(sample: int, report: Report) -> Iterator[torch.Tensor]:
        if not 0 <= sample < request.batch_size:
            raise RequestError(f"sample {sample}, expected 0 to {request.batch_size - 1}")
        return steps.decode_pixels(models, latent.video[sample : sample + 1], rng_state[sample], progress=report)

    return Segment(
        latent=latent,
        sounds=sounds,
        geometry=geometry,
        settings=settings,
        seed=seed,
        notes=notes,
        seconds=clock.seconds,
        peak_bytes=peak,
        rng_state=rng_state,
        decoder=decode,
    )


# ---------------------------------------------------------------------------------------------------------------
# Parts


def _check_models(models: Models, request: Request, settings: Settings, geometry: Geometry) -> None:
    """Everything that will be needed, before the first long stage."""
    needed = ["video_decoder"]
    if request.positive is None:
        needed += ["text_encoder", "text_projection", "connectors"]
    known = request.audio
    heard_as_given = isinstance(known, Waveform) or (known is not None and known.frozen and known.waveform is not None)
    if geometry.audio_latents and not heard_as_given:
        needed += ["audio_decoder", "vocoder"]
    if isinstance(request.audio, Waveform):
        needed.append("audio_encoder")
    if request.images or request.clips:
        needed.append("video_encoder")
    if settings.refine is not None:
        needed.append("upsampler")
    for name in needed:
        models.need(name)
    if settings.refine is not None:
        check_upsampler(models.upsampler.config)
    _check_blocks(models, settings)


def _check_blocks(models: Models, settings: Settings) -> None:
    """Blocks that somebody named must exist: a pass that changes nothing costs as much as one that does."""
    count = models.transformer.config.layers
    own = () if models.release is None else models.release.stg_blocks
    for stage in (settings.denoise, *([settings.refine.stage] if settings.refine else [])):
        for scale, blocks in (
            (stage.stg_scale_video, stage.stg_blocks_video),
            (stage.stg_scale_audio, stage.stg_blocks_audio),
        ):
            missing = [block for block in blocks or () if not 0 <= block < count]
            if scale and missing and tuple(blocks) != tuple(own):
                raise RequestError(f"stg_blocks names block {missing[0]}, the transformer has blocks 0 to {count - 1}")


def _warn_without_lora(models: Models, settings: Settings) -> None:
    stages: list[StageSettings] = [settings.denoise, *([settings.refine.stage] if settings.refine else [])]
    if (
        models.distilled_lora is None
        and settings.preset.guided
        and any(stage.distilled_lora_strength for stage in stages)
    ):
        warnings.warn(
            f"preset {settings.preset.name} runs a dev model in few steps without its distilled LoRA: the result will "
            "be soft; name the "
            f"release's distilled LoRA (rank {models.release.distilled_lora_rank}), or override "
            "distilled_lora_strength to 0",
            Ltx2Warning,
            stacklevel=3,
        )


def _check_memory(models: Models, settings: Settings, geometry: Geometry, batch_size: int) -> None:
    config = models.config
    weights = 0 if config.offload in ("none", "layers") else memory.weight_bytes(models.transformer)
    if torch.device(config.device).type == "cpu":
        weights = 0  # mapped from the file
    needed = weights + memory.denoising_bytes(
        width=models.transformer.config.width,
        video_tokens=geometry.video_tokens,
        batch_size=batch_size,
        dtype=config.transformer,
    )
    free = memory.free_bytes(config.device)
    if needed > free:
        warnings.warn(
            f"denoising {geometry} needs about {needed / 2**30:.1f} GiB on {config.device}, {free / 2**30:.1f} GiB "
            "are free: make it "
            "smaller or shorter if it fails",
            Ltx2Warning,
            stacklevel=3,
        )


class _Clock:
    """Wall time by stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self, stage: str):
        begun = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begun
