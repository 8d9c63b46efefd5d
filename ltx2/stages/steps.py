"""The steps of a segment, one function each: the pipeline runs them in a row, a host may run them one by one with the
same result.

Each brings the networks it needs to their device (placement) and hands back what the next one takes. Draws come from
one generator a clip of the batch, which goes from step to step in this order: stage-1 video, stage-1 audio, stage-2
video, stage-2 audio, then what the video decoder draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..checkpoint.stage_loras import loras_of
from ..networks.audio.codec import encode_waveform
from ..sampling import noise as sampling_noise
from ..sampling.guidance import VOICELESS, passes
from ..sampling.tokens import AVTokens
from ..values import (
    VIDEO_CHANNELS,
    AudioCondition,
    AVLatent,
    ImageCondition,
    Progress,
    TextContext,
    VoiceCondition,
    Waveform,
)
from . import memory
from .audio_decoding import decode_audio
from .conditioning import Conditioning, condition_video, encode_own_audio, encode_pictures, place_audio
from .conditioning.references import encode_reference
from .denoising import ClipClock, Compute, Prompts, Sampling, denoise
from .given import negative_text, stages_of, wants_negative
from .latent_preparation import draw_noise, empty_latent
from .models import Models
from .presets import sigmas_of
from .refinement import check_temporal_upsampler, check_upsampler, upsample_video
from .request import Geometry, Job, Request, Stage
from .text_encoding import encode_prompts
from .video_decoding import decode_tiny, decode_video, plan_video, resized, room_to_decode, tiny_bytes

Report = Callable[[Progress], None] | None

# What the upsampler holds beside its weights, about, of each value of a latent.
UPSAMPLER_BYTES_PER_VALUE = 400


@dataclass(frozen=True, eq=False)
class Inputs:
    """What every stage of a job works with.

    audio: the sound to start from as latents. generators, seeds: one a clip of the batch; starting noise is drawn from
    the generators, samplers that add noise seed their own. voice: latents [1, 8, T, 16] that the sound takes its voice
    from.
    """

    positive: TextContext
    negative: TextContext | None
    audio: AudioCondition | None
    generators: Sequence[torch.Generator]
    seeds: Sequence[int]
    voice: torch.Tensor | None = None


def encode_texts(models: Models, prompts: Sequence[str], *, progress: Report = None) -> list[TextContext]:
    """Contexts of prompts, on the CPU. Prompts encoded before with these models cost nothing."""
    found = [models.contexts.find(models.context_identity, prompt) for prompt in prompts]
    if all(context is not None for context in found):
        return found
    encoder, projection, (video, audio) = (
        models.need("text_encoder"),
        models.need("text_projection"),
        models.need("connectors"),
    )
    networks = [encoder.model, projection, video, *([audio] if audio is not None else [])]
    # the language model goes before anything else comes to the device
    with models.placement.on(*networks, activation_bytes=memory.TEXT_BYTES) as (language, projection, *there):
        connectors = there[0], there[1] if audio is not None else None
        contexts = encode_prompts(
            replace(encoder, model=language),
            projection,
            connectors,
            prompts,
            cache=models.contexts,
            identity=models.context_identity or None,
            progress=progress,
        )
    # the cache holds them on the CPU; what a stage needs it moves
    return [context.to("cpu") for context in contexts]


def encode_request_texts(
    models: Models, job: Job, *, progress: Report = None
) -> tuple[TextContext, TextContext | None]:
    """Positive and, where some stage's guidance needs it, negative context; ready ones are taken as they are."""
    request = job.request
    wanted = any(map(wants_negative, stages_of(job.settings)))
    prompts = [] if request.positive is not None else [request.prompt]
    if wanted and request.negative is None:
        prompts.append(negative_text(request.negative_prompt, job.settings))
    encoded = encode_texts(models, prompts, progress=progress) if prompts else []
    positive = request.positive if request.positive is not None else encoded.pop(0)
    negative = request.negative if request.negative is not None or not wanted else encoded.pop(0)
    return positive, negative


def pass_count(stage: Stage) -> int:
    """How many guidance passes a step of a stage takes at most of those that one call can hold."""
    wanted = passes(stage.guidance, audio=stage.geometry.audio_latents > 0)
    return len(wanted) - (VOICELESS in wanted)


def encode_audio_condition(
    models: Models, audio: AudioCondition | Waveform | None, *, audio_latents: int
) -> AudioCondition | None:
    """A request's sound as latents: a track of one's own is encoded, padded or cut to the clip; latents to be heard
    louder or softer are made so."""
    if isinstance(audio, AudioCondition) and audio.gain != 1:
        return replace(audio, latent=_at_gain(models, audio.latent, audio.gain), gain=1.0)
    if not isinstance(audio, Waveform):
        return audio
    return encode_own_audio(audio, lambda sound: encode_sound(models, sound), audio_latents=audio_latents)


def encode_voice(models: Models, voice: VoiceCondition | None) -> torch.Tensor | None:
    """A request's voice as latents [1, 8, T, 16]."""
    if voice is None or voice.sound is None:
        return None if voice is None else voice.latent
    return encode_sound(models, voice.sound)


def _at_gain(models: Models, latent: torch.Tensor, gain: float) -> torch.Tensor:
    """Latents [1, 8, T, 16] of the same sound, so much louder: they change by as much as those of its waveform do, so
    that nothing of them is lost on the way through the codec."""
    (sound,) = decode_sounds(models, AVLatent(None, latent))
    assert sound is not None  # there are latents to decode
    louder = Waveform((sound.samples * gain).clamp(-1, 1), sound.sample_rate)
    change = encode_sound(models, louder) - encode_sound(models, sound)
    missing = latent.shape[2] - change.shape[2]
    if missing > 0:  # the last latent may lack a part of a mel frame
        change = torch.cat([change, change[:, :, -1:].expand(-1, -1, missing, -1)], dim=2)
    return latent + change[:, :, : latent.shape[2]].to(latent)


def encode_sound(models: Models, sound: Waveform) -> torch.Tensor:
    """Normalised latents [1, 8, T, 16] of a sound of any rate, one or two channels."""
    network = models.need("audio_encoder")
    with models.placement.on(network, activation_bytes=memory.SOUND_BYTES) as (encoder,), torch.no_grad():
        return encode_waveform(encoder, sound, device=models.placement.device_of(network))


def encode_conditioning(
    models: Models,
    request: Request,
    stages: Sequence[Stage],
    audio: AudioCondition | None,
    *,
    voice: torch.Tensor | None = None,
    progress: Report = None,
) -> list[Conditioning]:
    """What a request starts from, at the size of each stage; pictures are encoded for all of them while the encoder is
    there. audio, voice: encoded before."""
    conditioning = Conditioning(voice=voice)
    if audio is not None:
        conditioning = place_audio(conditioning, audio, audio_latents=stages[0].geometry.audio_latents)
    if not (request.images or request.clips or request.latents or request.references):
        return [replace(conditioning, slots=stage.slots) for stage in stages]
    pictures = request.images or request.clips or any(stage.references for stage in stages)
    networks = [models.need("video_encoder")] if pictures else []
    result = []
    with models.placement.on(*networks) as there:

        def encode(pixels: torch.Tensor) -> torch.Tensor:
            return encode_pictures(
                there[0],
                pixels,
                device=models.placement.device_of(networks[0]),
                dtype=models.config.video_vae,
                free=models.placement.free_bytes(networks[0]),
                progress=progress,
            )

        for stage in stages:
            size = stage.geometry
            placed = condition_video(
                (request.batch_size, VIDEO_CHANNELS, size.latent_frames, *size.latent_size),
                encode,
                images=_at_strength(request.images, stage.settings.image_strength),
                clips=request.clips,
                latent=stage.latent,
                image_crf=stage.settings.image_crf,
                conditioning=conditioning,
            )
            shown = tuple(
                encode_reference(one, stage.reference, encode, width=size.width, height=size.height, frames=size.frames)
                for one in stage.references
            )
            result.append(replace(placed, references=shown, slots=stage.slots))
    return result


def _at_strength(images: Sequence[ImageCondition], share: float) -> tuple[ImageCondition, ...]:
    """Pictures as a stage takes them."""
    return tuple(images if share == 1 else (replace(image, strength=image.strength * share) for image in images))


def fresh_latent(models: Models, stage: Stage, batch_size: int) -> AVLatent:
    """The zeros that a first stage starts from, on the transformer's device."""
    size = stage.geometry
    return empty_latent(
        width=size.width,
        height=size.height,
        frames=size.frames,
        audio_latents=size.audio_latents,
        batch_size=batch_size,
        dtype=models.config.latents,
        device=models.placement.device_of(models.transformer),
    )


def run_stage(
    models: Models,
    stage: Stage,
    start: AVLatent,
    conditioning: Conditioning,
    inputs: Inputs,
    *,
    noise: AVTokens | None = None,
    progress: Report = None,
) -> AVLatent:
    """Denoise one stage; the latents come back on the transformer's device. noise: in place of the generators'."""
    config, settings, size = models.config, stage.settings, stage.geometry
    guidance = stage.guidance
    device = models.placement.device_of(models.transformer)
    start = start.to(device)
    if noise is None:
        noise = draw_noise(start, inputs.generators, conditioning=conditioning, dtype=config.latents)
    room = memory.denoising_bytes(
        width=models.transformer.config.width,
        video_tokens=stage.tokens,
        batch_size=len(inputs.seeds),
        dtype=config.transformer,
    )
    loras = loras_of(models.stage_loras, stage.name)
    if models.distilled_lora is not None:
        loras.append((models.distilled_lora, settings.distilled_lora_strength))
    with models.placement.transformer(models.transformer, loras, activation_bytes=room) as transformer:
        return denoise(
            transformer,
            start,
            Prompts(inputs.positive, inputs.negative, guidance),
            Sampling(
                sigmas_of(settings, tokens=size.video_tokens, shift=config.schedule_shift),
                noise,
                settings.sampler,
                inputs.seeds,
                config.noise_device,
                None if stage.add_noise else 0.0,
                settings.eta,
            ),
            clock=ClipClock(size.fps, size.video_offset_seconds),
            compute=Compute(device, config.transformer, _passes_at_once(models, stage, len(inputs.seeds))),
            conditioning=conditioning,
            progress=_named(progress, stage.name),
        )


def _named(progress: Report, stage: str) -> Report:
    """Reports of denoising under the name of the stage that runs."""
    return None if progress is None else lambda report: progress(replace(report, stage=stage))


def upsample_latent(models: Models, latent: AVLatent, *, kind: str = "upsampler", progress: Report = None) -> AVLatent:
    """Latents with the picture at twice the height and width, or with kind ``temporal_upsampler`` with twice the
    frames."""
    network = models.need(kind)
    coder = models.video_decoder if models.video_decoder is not None else models.video_encoder
    coder = models.need("video_decoder") if coder is None else coder
    room = 0 if latent.video is None else UPSAMPLER_BYTES_PER_VALUE * latent.video.numel()
    with models.placement.on(network, activation_bytes=room) as (upsampler,):
        (check_upsampler if kind == "upsampler" else check_temporal_upsampler)(upsampler.config)
        device = models.placement.device_of(network)
        with memory.on_device(coder.per_channel_statistics, device) as statistics:
            return upsample_video(upsampler, statistics, latent, device=device, progress=progress)


def decode_sounds(
    models: Models, latent: AVLatent, audio: AudioCondition | None = None, *, progress: Report = None
) -> tuple[Waveform | None, ...]:
    """The sound of each clip of a batch on the CPU: decoded, or the track of one's own (``audio``) as it was given;
    None for silent ones."""
    batch_size = len(latent.video if latent.video is not None else latent.audio)
    if audio is not None and audio.frozen and audio.waveform is not None:
        return (audio.waveform,) * batch_size
    if latent.audio is None:
        return (None,) * batch_size
    networks = models.need("audio_decoder"), models.need("vocoder")
    with models.placement.on(*networks, activation_bytes=memory.SOUND_BYTES) as (decoder, vocoder):
        device = models.placement.device_of(networks[0])
        return tuple(
            decode_audio(decoder, vocoder, one, device=device, dtype=models.config.audio_vae, progress=progress)
            for one in latent.audio.split(1)
        )


def decode_pixels(
    models: Models, latent: torch.Tensor, rng_state: torch.Tensor, *, progress: Report = None
) -> Iterator[torch.Tensor]:
    """Pieces [1, 3, n, H, W] around -1…1 of one video latent, in order of time, each as soon as it is decoded.

    rng_state: of the clip's generator after its last stage, which some decoders draw on from.
    """
    config = models.config
    generator = torch.Generator(config.noise_device)
    generator.set_state(rng_state)
    network = models.need("video_decoder")
    device = models.placement.device_of(network)
    settings: dict[str, Any] = {"mode": config.video_decoding, "device": device, "dtype": config.video_vae}
    room = room_to_decode(network, tuple(latent.shape), **settings)
    with models.placement.on(network, activation_bytes=room) as (decoder,):
        decode_plan = plan_video(decoder, tuple(latent.shape), free=models.placement.free_bytes(network), **settings)
        yield from decode_video(
            decoder,
            latent,
            plan=decode_plan,
            generator=generator,
            device=device,
            dtype=config.video_vae,
            progress=progress,
        )


def decode_draft(
    models: Models, latent: torch.Tensor, rng_state: torch.Tensor, size: Geometry, *, progress: Report = None
) -> Iterator[torch.Tensor]:
    """As ``decode_pixels``, by the tiny decoder where there is one, and resized."""
    for piece in _small_pixels(models, latent, rng_state, progress):
        yield resized(piece, size.width, size.height)


def _small_pixels(models: Models, latent: torch.Tensor, rng_state: torch.Tensor, progress: Report) -> Iterator:
    if models.tiny_decoder is None:
        yield from decode_pixels(models, latent, rng_state, progress=progress)
        return
    room = tiny_bytes(tuple(latent.shape), models.config.video_vae)
    with models.placement.on(models.tiny_decoder, activation_bytes=room) as (decoder,):
        yield from decode_tiny(decoder, latent, progress=progress)


def generators_of(models: Models, seed: int, batch_size: int) -> list[torch.Generator]:
    """The generators that all draws of a segment come from, one a clip of the batch."""
    return sampling_noise.generators(seed, batch_size, models.config.noise_device)


def _passes_at_once(models: Models, stage: Stage, batch_size: int) -> int:
    wanted = pass_count(stage)
    config = models.config
    if config.pass_batching == "always":
        return wanted
    # on a CPU a stacked call is no faster, and needs more memory
    if config.pass_batching == "never" or models.placement.device_of(models.transformer).type == "cpu":
        return 1
    free = models.placement.free_bytes(models.transformer)
    return memory.passes_that_fit(
        wanted,
        free,
        width=models.transformer.config.width,
        video_tokens=stage.tokens,
        batch_size=batch_size,
        dtype=config.transformer,
    )
