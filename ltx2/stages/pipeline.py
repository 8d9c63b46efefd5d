"""One segment from request to frames and sound: the stages put together.

Draws come from one generator per sample, in this order: stage-1 video, stage-1 audio, stage-2 video, stage-2 audio, then what
the video decoder draws. Which stage's sound is heard: the second's for distilled presets, the first's for dev and HQ presets,
whose second stage runs a model that was made for the picture; a sound of one's own is handed through.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..errors import Ltx2Warning, RequestError
from ..media.frames import uint8_frames
from ..networks.audio_codec import encode_waveform
from ..sampling import noise as sampling_noise
from ..sampling.guidance import passes
from ..text.prompts import negative_prompt
from ..values import AudioCondition, AVLatent, Progress, TextContext, Waveform
from . import memory
from .audio_decoding import decode_audio
from .conditioning import Conditioning, condition_video, encode_own_audio, encode_pictures, place_audio
from .denoising import denoise
from .latent_preparation import VIDEO_CHANNELS, draw_noise, empty_latent
from .models import Models
from .presets import Plan, RefineSettings, StageSettings, find_preset, guidance_of, preset_for, resolve, sigmas_of
from .refinement import stage_transformer, upsampled
from .request import Geometry, Request, check_request
from .text_encoding import encode_prompts
from .video_decoding import decode_video, plan_video

Report = Callable[[Progress], None] | None


@dataclass(frozen=True, eq=False)
class Segment:
    """A finished segment; its pictures are decoded when they are asked for, the same ones every time.

    latent: of all samples, on the CPU: the last stage's video and the audio that is heard. sounds: one a sample, None in a
    silent film. seconds: wall time by stage. notes: what was adjusted or chosen, one sentence each. peak_bytes: most memory
    taken on a GPU, None elsewhere.
    """

    latent: AVLatent
    sounds: tuple[Waveform | None, ...]
    geometry: Geometry
    plan: Plan
    seed: int
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    decoder: Callable[..., Iterator[torch.Tensor]] | None = None

    @property
    def samples(self) -> int:
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


def prepare(models: Models, request: Request) -> tuple[Plan, Geometry, tuple[str, ...]]:
    """What a request will run with, checked without running anything: settings, clip, and notes on adjustments.

    Raises RequestError and CheckpointError for what cannot work; warns of what may not.
    """
    if request.preset is None:
        preset = preset_for(models.names, models.release)
    else:
        preset = find_preset(request.preset, request.preset_version)
    plan = resolve(preset, models.release, request.overrides)
    geometry, notes = check_request(request, preset, plan)
    notes = (*(() if request.preset else (f"preset {preset.name} was chosen by the checkpoint's name",)), *notes)
    _check_models(models, request, plan, geometry)
    _check_memory(models, plan, geometry, request.samples)
    return plan, geometry, notes


def encode_texts(models: Models, prompts: Sequence[str], *, progress: Report = None) -> list[TextContext]:
    """Contexts of prompts, on the CPU. Prompts encoded before, here or by ``generate``, cost nothing."""
    found = [models.contexts.find(models.context_identity, prompt) for prompt in prompts]
    if all(context is not None for context in found):
        return found
    encoder, projection, (video, audio) = models.need("text_encoder"), models.need("text_projection"), models.need("connectors")
    # the language model goes before anything else comes to the device
    with _on(models, encoder.model) as language, _on(models, projection) as projection, _on(models, video) as video:
        with _on(models, audio) as audio:
            contexts = encode_prompts(replace(encoder, model=language), projection, (video, audio), prompts, cache=models.contexts,
                                      progress=progress)
    # the cache holds them on the CPU; what a stage needs it moves
    return [replace(c, video=c.video.cpu(), audio=None if c.audio is None else c.audio.cpu()) for c in contexts]


def generate(models: Models, request: Request, *, progress: Report = None) -> Segment:
    """Make one segment, except for its pictures, which the result decodes when asked.

    progress: called at every prompt, step and tile; its preview is an AVLatent while denoising. Raising from it stops the work.
    Raises RequestError, CheckpointError and MediaError, each before the first long stage where it can be known.
    """
    plan, geometry, notes = prepare(models, request)
    config, clock = models.config, _Clock()
    seed = plan.preset.seed if request.seed is None else request.seed
    seeds = range(seed, seed + request.samples)
    generators = sampling_noise.generators(seed, request.samples, config.noise_device)
    refine = plan.refine
    first = geometry if refine is None else geometry.half()
    if torch.device(config.device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(config.device)

    with clock.running("text encoding"):
        positive, negative = _contexts(models, request, plan, progress)
    with clock.running("conditioning"):
        sound = _sound_condition(models, request, geometry)
        conditions = _conditions(models, request, plan, geometry, sound, progress)

    def run(settings: StageSettings, start: AVLatent, known: Conditioning, at: Geometry, stage: str, offset, add_noise: bool) -> AVLatent:
        """One denoising stage on the device."""
        guidance = guidance_of(settings)
        noise = draw_noise(start, generators, conditioning=known, dtype=config.latents)
        strength = settings.distilled_lora_strength
        with stage_transformer(models.transformer, models.distilled_lora, strength, device=config.device) as transformer:
            return denoise(
                transformer,
                start,
                sigmas=sigmas_of(settings, tokens=at.video_tokens, shift=config.schedule_shift),
                noise=noise,
                positive=positive,
                negative=negative,
                guidance=guidance,
                conditioning=known,
                fps=at.fps,
                video_position_offset_seconds=offset,
                sampler=settings.sampler,
                seeds=seeds,
                noise_device=config.noise_device,
                noise_scale=None if add_noise else 0.0,
                passes_at_once=_passes_at_once(models, guidance, at, request.samples),
                device=config.device,
                dtype=config.transformer,
                progress=progress,
                stage=stage,
            )

    with clock.running("denoising"):
        start = empty_latent(
            width=first.width, height=first.height, frames=first.frames, audio_latents=first.audio_latents, samples=request.samples,
            dtype=config.latents, device=config.device,
        )  # fmt: skip
        offset = geometry.video_position_offset_seconds
        latent = run(plan.denoise, start, conditions[0], first, "denoising", offset, True)
    if refine is not None:
        with clock.running("refining"):
            stage_audio = latent.audio
            statistics = models.need("video_decoder").per_channel_statistics
            with _on(models, models.need("upsampler")) as upsampler, _on(models, statistics) as statistics:
                start = upsampled(upsampler, statistics, latent, device=config.device, progress=progress)
            again = offset if refine.video_position_offset_sec is None else refine.video_position_offset_sec
            latent = run(refine.stage, start, conditions[1], geometry, "refining", again, refine.add_noise)
            if plan.audio_from == "denoise":
                latent = replace(latent, audio=stage_audio)
    latent = AVLatent(latent.video.cpu(), None if latent.audio is None else latent.audio.cpu())

    with clock.running("audio decoding"):
        sounds = _sounds(models, latent, sound, request.samples, progress)
    peak = torch.cuda.max_memory_allocated(config.device) if torch.device(config.device).type == "cuda" else None
    # decoding draws on from where denoising stopped, and each time from the same place
    states = [generator.get_state() for generator in generators]

    def decode(sample: int, report: Report) -> Iterator[torch.Tensor]:
        if not 0 <= sample < request.samples:
            raise RequestError(f"sample {sample}, expected 0 to {request.samples - 1}")
        return _decoded(models, latent.video[sample : sample + 1], states[sample], report)

    return Segment(
        latent=latent, sounds=sounds, geometry=geometry, plan=plan, seed=seed, notes=notes, seconds=clock.seconds, peak_bytes=peak,
        decoder=decode,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------
# Parts


@contextmanager
def _on(models: Models, module):
    """A network on the device, for its stage."""
    if module is None:
        yield None
        return
    with memory.resident(module, models.config.device) as there:
        yield there


def _contexts(models: Models, request: Request, plan: Plan, progress: Report) -> tuple[TextContext, TextContext | None]:
    """Positive and, where some stage's guidance needs it, negative context."""
    stages = [plan.denoise, *([plan.refine.stage] if plan.refine else [])]
    wanted = any("negative" in passes(guidance_of(stage)) for stage in stages)
    prompts = [] if request.positive is not None else [request.prompt]
    if wanted and request.negative is None:
        text = plan.preset.negative_prompt if request.negative_prompt is None else request.negative_prompt
        prompts.append(negative_prompt(text))
    encoded = encode_texts(models, prompts, progress=progress) if prompts else []
    positive = request.positive if request.positive is not None else encoded.pop(0)
    negative = request.negative if request.negative is not None or not wanted else encoded.pop(0)
    return positive, negative


def _sound_condition(models: Models, request: Request, geometry: Geometry) -> AudioCondition | None:
    if not isinstance(request.audio, Waveform):
        return request.audio
    with _on(models, models.need("audio_encoder")) as encoder, torch.no_grad():
        def encode(waveform: Waveform) -> torch.Tensor:
            return encode_waveform(encoder, waveform, device=models.config.device)

        return encode_own_audio(request.audio, encode, audio_latents=geometry.audio_latents)


def _conditions(
    models: Models, request: Request, plan: Plan, geometry: Geometry, sound: AudioCondition | None, progress: Report
) -> list[Conditioning]:
    """What is known, at the size of each stage; pictures are encoded for both while the encoder is there."""
    sizes: list[tuple[Geometry, StageSettings]] = [(geometry, plan.denoise)]
    if plan.refine is not None:
        sizes = [(geometry.half(), plan.denoise), (geometry, plan.refine.stage)]
    known = Conditioning()
    if sound is not None:
        known = place_audio(known, sound, audio_latents=geometry.audio_latents)
    if not (request.images or request.clips or request.latents):
        return [known] * len(sizes)
    encoder = models.need("video_encoder") if request.images or request.clips else None
    result = []
    with _on(models, encoder) as encoder:
        def encode(pixels: torch.Tensor) -> torch.Tensor:
            return encode_pictures(encoder, pixels, device=models.config.device, dtype=models.config.video_vae, progress=progress)

        for i, (size, settings) in enumerate(sizes):
            shape = (request.samples, VIDEO_CHANNELS, size.latent_frames, size.height // 32, size.width // 32)
            result.append(
                condition_video(
                    shape,
                    height=size.height,
                    width=size.width,
                    frames=size.frames,
                    encode_pixels=encode,
                    images=request.images,
                    clips=request.clips,
                    latent=request.latents[i] if request.latents else None,
                    image_crf=settings.image_crf,
                    conditioning=known,
                )
            )
    return result


def _passes_at_once(models: Models, guidance, geometry: Geometry, samples: int) -> int:
    wanted = len(passes(guidance, audio=geometry.audio_latents > 0))
    config = models.config
    if config.pass_batching == "always":
        return wanted
    # on a CPU a stacked call is no faster, and needs more memory
    if config.pass_batching == "never" or torch.device(config.device).type == "cpu":
        return 1
    free = memory.free_bytes(config.device)
    return memory.passes_that_fit(
        wanted, free, width=models.transformer.config.width, video_tokens=geometry.video_tokens, samples=samples, dtype=config.transformer
    )


def _sounds(models: Models, latent: AVLatent, known: AudioCondition | None, samples: int, progress: Report) -> tuple[Waveform | None, ...]:
    if known is not None and known.frozen and known.waveform is not None:
        return (known.waveform,) * samples
    if latent.audio is None:
        return (None,) * samples
    config = models.config
    with _on(models, models.need("audio_decoder")) as decoder, _on(models, models.need("vocoder")) as vocoder:
        return tuple(
            decode_audio(decoder, vocoder, sample, device=config.device, dtype=config.audio_vae, progress=progress)
            for sample in latent.audio.split(1)
        )


def _decoded(models: Models, latent: torch.Tensor, state: torch.Tensor, progress: Report) -> Iterator[torch.Tensor]:
    config = models.config
    generator = torch.Generator(config.noise_device)
    generator.set_state(state)
    with _on(models, models.need("video_decoder")) as decoder:
        plan = plan_video(decoder, tuple(latent.shape), mode=config.video_decoding, device=config.device, dtype=config.video_vae)
        yield from decode_video(
            decoder, latent, plan=plan, generator=generator, device=config.device, dtype=config.video_vae, progress=progress
        )


def _check_models(models: Models, request: Request, plan: Plan, geometry: Geometry) -> None:
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
    if plan.refine is not None:
        needed.append("upsampler")
    for name in needed:
        models.need(name)
    stages: list[StageSettings | RefineSettings] = [plan.denoise, *([plan.refine.stage] if plan.refine else [])]
    if models.distilled_lora is None and plan.preset.guided and any(stage.distilled_lora_strength for stage in stages):
        warnings.warn(
            f"preset {plan.preset.name} runs a dev model in few steps without its distilled LoRA: the result will be soft; name the "
            f"release's distilled LoRA (rank {models.release.distilled_lora_rank}), or override distilled_lora_strength to 0",
            Ltx2Warning,
            stacklevel=3,
        )


def _check_memory(models: Models, plan: Plan, geometry: Geometry, samples: int) -> None:
    config = models.config
    weights = 0 if config.offload == "none" else memory.weight_bytes(models.transformer)
    if torch.device(config.device).type == "cpu":
        weights = 0  # mapped from the file
    needed = weights + memory.denoising_bytes(
        width=models.transformer.config.width, video_tokens=geometry.video_tokens, samples=samples, dtype=config.transformer
    )
    free = memory.free_bytes(config.device)
    if needed > free:
        warnings.warn(
            f"denoising {geometry} needs about {needed / 2**30:.1f} GiB on {config.device}, {free / 2**30:.1f} GiB are free: make it "
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
