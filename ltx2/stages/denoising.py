"""One denoising stage: from noise along a sigma schedule to clean latents of both streams.

The transformer gives velocities per token; a token's timestep is its mask times sigma, so what is known counts as
clean. Each step: predict, guide, put the known tokens back, step. Checked against ltx-core 1.0.0 and FastVideo's stage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..errors import RequestError
from ..networks.layers.rope import audio_positions, video_positions
from ..networks.transformer.block import Perturbation
from ..networks.transformer.model import StreamInput
from ..sampling import noise as sampling_noise
from ..sampling import samplers
from ..sampling.guidance import (
    ISOLATED,
    NEGATIVE,
    PERTURBED,
    POSITIVE,
    Guidance,
    StreamGuidance,
    at_sigma,
    combine,
    passes,
    skips,
)
from ..sampling.schedules import check_sigmas
from ..sampling.tokens import AVTokens, patchify_audio, patchify_video, unpatchify_audio, unpatchify_video
from ..values import AVLatent, Progress, TextContext
from .conditioning import Conditioning, guide_positions

SAMPLERS = ("euler", "euler_ancestral", "res_2s", "gradient_estimation")
ISOLATION = Perturbation(skip_audio_to_video=None, skip_video_to_audio=None)

# What a stage calls for velocities: networks.transformer.Transformer or a host's wrapping of it.
Model = Callable[
    [StreamInput | None, StreamInput | None, Sequence[Perturbation] | None],
    tuple[torch.Tensor | None, torch.Tensor | None],
]


@dataclass(frozen=True)
class StreamTokens:
    """One stream of a stage as tokens: latent and clean [B, T, C], mask [B, T, 1] float32, positions [1, n, T, 2].

    keyframes [1, T, 1]: 1 for the tokens of the first latent frame. own: tokens that are not guides.
    """

    latent: torch.Tensor
    clean: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    own: int
    keyframes: torch.Tensor | None = None
    frozen: bool = False


def denoise(
    model: Model,
    start: AVLatent,
    *,
    sigmas: torch.Tensor | Sequence[float],
    noise: AVTokens,
    positive: TextContext,
    negative: TextContext | None = None,
    guidance: Guidance | Mapping[float, Guidance] = Guidance(),  # noqa: B008 (frozen)
    conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    fps,
    video_offset_seconds=0,
    sampler: str = "euler",
    seeds: Sequence[int] | None = None,
    noise_device: torch.device | str = "cpu",
    noise_scale: float | None = None,
    passes_at_once: int = 1,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Callable[[Progress], None] | None = None,
    stage: str = "denoising",
) -> AVLatent:
    """Denoise both streams (or the one that ``start`` has) and return their latents in the dtype of ``start``, on
    ``device``.

    model: transformer on ``device`` computing in ``dtype``. start: zeros for a fresh clip, the upsampled latents for a
    refine.
    noise: see latent_preparation. guidance: one, or by noise level. seeds: of the samples, for the samplers that add
    noise.
    noise_scale: how much noise the start is mixed with, the first sigma unless given. passes_at_once: guidance passes
    to stack into one call, which needs that many times the memory and gives the same result. progress: called before
    the first step and after each with the prediction so far as preview; raising from it stops the stage.
    Tokens with mask 0 come back bit for bit as given. Raises RequestError for settings that do not fit together.
    """
    sigmas = check_sigmas(sigmas)
    _check(start, noise, positive, negative, guidance, conditioning, sampler, seeds)
    with torch.no_grad():
        video, audio = streams(start, conditioning, fps, video_offset_seconds, device)
        scale = float(sigmas[0]) if noise_scale is None else noise_scale
        x = AVTokens(
            *(
                None if s is None else _noised(s, n.to(device), scale)
                for s, n in ((video, noise.video), (audio, noise.audio))
            )
        )
        clean = AVTokens(*(None if s is None else s.clean for s in (video, audio)))
        mask = AVTokens(*(None if s is None else s.mask for s in (video, audio)))
        predict = predictor(
            model, video, audio, positive, negative, guidance, passes_at_once=passes_at_once, device=device, dtype=dtype
        )

        def report(done: int, x0: AVTokens | None) -> None:
            if progress is not None:
                preview = None if x0 is None else _latents(x0, start, video, audio)
                progress(Progress(stage, done, len(sigmas) - 1, preview))

        report(0, None)
        extra = _sampler_noise(sampler, seeds, noise_device)
        x = getattr(samplers, sampler)(
            predict,
            x,
            sigmas,
            restore=lambda x0: sampling_noise.restore(x0, clean, mask),
            after_step=lambda step, x0: report(step + 1, x0),
            **extra,
        )
        return _latents(sampling_noise.keep_exactly(x, clean, mask), start, video, audio)


def streams(
    start: AVLatent, conditioning: Conditioning, fps, video_offset_seconds, device
) -> tuple[StreamTokens | None, StreamTokens | None]:
    """Both streams of a stage before noise is added; guides stand behind the video's own tokens."""
    return (
        None
        if start.video is None
        else _video_stream(start.video.to(device), conditioning, fps, video_offset_seconds, device),
        None if start.audio is None else _audio_stream(start.audio.to(device), conditioning, device),
    )


def _video_stream(latent: torch.Tensor, conditioning: Conditioning, fps, video_offset_seconds, device) -> StreamTokens:
    batch, _, frames, height, width = latent.shape
    tokens = patchify_video(latent)  # [B, F·h·w, C]
    own = tokens.shape[1]
    if conditioning.video is None:
        clean, mask = tokens, torch.ones(batch, own, 1, dtype=torch.float32, device=device)
    else:
        clean = patchify_video(conditioning.video.to(latent)).expand(batch, -1, -1)
        mask = patchify_video(conditioning.video_mask.to(device)).expand(batch, -1, -1)  # [B, T, 1]
    positions = [video_positions(frames, height, width, fps, video_offset_seconds=video_offset_seconds, device=device)]
    keyframes = torch.zeros(1, own + conditioning.guide_tokens, 1, dtype=torch.float32, device=device)
    keyframes[:, : height * width] = 1
    parts = [(tokens, clean, mask)]
    for guide in conditioning.guides:
        known = patchify_video(guide.latent.to(latent)).expand(batch, -1, -1)
        level = torch.full((batch, guide.tokens, 1), 1 - guide.strength, dtype=torch.float32, device=device)
        parts.append((torch.zeros_like(known), known, level))
        positions.append(guide_positions(guide, fps, video_offset_seconds=video_offset_seconds, device=device))
    tokens, clean, mask = (torch.cat(column, dim=1) if len(column) > 1 else column[0] for column in zip(*parts))
    return StreamTokens(tokens, clean, mask, torch.cat(positions, dim=2), own, keyframes)


def _audio_stream(latent: torch.Tensor, conditioning: Conditioning, device) -> StreamTokens:
    tokens = patchify_audio(latent)  # [B, T, C·M]
    batch, own, _ = tokens.shape
    if conditioning.audio is None:
        clean, mask = tokens, torch.ones(batch, own, 1, dtype=torch.float32, device=device)
    else:
        clean = patchify_audio(conditioning.audio.to(latent)).expand(batch, -1, -1)
        mask = conditioning.audio_mask.to(device)[:, 0].expand(batch, -1, -1)  # [B, T, 1]
    return StreamTokens(tokens, clean, mask, audio_positions(own, device=device), own, frozen=conditioning.audio_frozen)


def _noised(stream: StreamTokens, noise: torch.Tensor, scale: float) -> torch.Tensor:
    return sampling_noise.add_noise(stream.latent, stream.clean, stream.mask, noise, 0.0 if stream.frozen else scale)


def predictor(
    model: Model,
    video: StreamTokens | None,
    audio: StreamTokens | None,
    positive: TextContext,
    negative: TextContext | None,
    guidance: Guidance | Mapping[float, Guidance],
    *,
    passes_at_once: int,
    device,
    dtype: torch.dtype,
) -> samplers.Denoise:
    """A sampler's ``denoise``: guided predictions x0 of both streams in the states' dtype.

    Holds the last prediction of each stream, which steps that skip a stream reuse.
    """
    contexts = {POSITIVE: positive, PERTURBED: positive, ISOLATED: positive, NEGATIVE: negative}
    contexts = {name: _moved(context, device, dtype) for name, context in contexts.items() if context is not None}
    last = AVTokens(None, None)

    def predict(x: AVTokens, sigma: float, step: int) -> AVTokens:
        nonlocal last
        settings = at_sigma(guidance, sigma)
        if audio is not None and audio.frozen:
            # nothing is made of this stream, so nothing guides it
            settings = replace(settings, audio=StreamGuidance())
        active = AVTokens(
            video is not None and not (last.video is not None and skips(settings.video, step)),
            audio is not None and not (last.audio is not None and skips(settings.audio, step)),
        )
        if active.video or active.audio:
            settings = Guidance(
                settings.video if active.video else StreamGuidance(),
                settings.audio if active.audio else StreamGuidance(),
            )
            wanted = passes(settings, video=video is not None, audio=audio is not None)
            found: dict[str, AVTokens] = {}
            for first in range(0, len(wanted), passes_at_once):
                found |= _run(wanted[first : first + passes_at_once], x, sigma, settings, active)
            last = AVTokens(
                combine({n: p.video for n, p in found.items()}, settings.video).to(x.video.dtype)
                if active.video
                else last.video,
                combine({n: p.audio for n, p in found.items()}, settings.audio).to(x.audio.dtype)
                if active.audio
                else last.audio,
            )
        return last

    def _run(
        names: Sequence[str], x: AVTokens, sigma: float, settings: Guidance, active: AVTokens
    ) -> dict[str, AVTokens]:
        """Some passes in one call, stacked on the batch axis."""
        inputs = AVTokens(
            None if video is None else stack(video, x.video, sigma, [contexts[n].video for n in names], active.video),
            None if audio is None else stack(audio, x.audio, sigma, [contexts[n].audio for n in names], active.audio),
        )
        batch = len(x.video if x.video is not None else x.audio)
        left_out = [_perturbation(name, settings) for name in names for _ in range(batch)]
        velocities = AVTokens(*model(inputs.video, inputs.audio, left_out if any(left_out) else None))
        predictions = [
            [None] * len(names)
            if velocity is None
            else _x0(tokens, velocity, stream.mask, 0.0 if stream.frozen else sigma)
            for stream, tokens, velocity in ((video, x.video, velocities.video), (audio, x.audio, velocities.audio))
        ]
        return {name: AVTokens(*pair) for name, *pair in zip(names, *predictions)}

    def stack(
        stream: StreamTokens, tokens: torch.Tensor, sigma: float, context: list[torch.Tensor], enabled: bool
    ) -> StreamInput:
        batch, count = len(tokens), len(context)
        level = 0.0 if stream.frozen else sigma
        return StreamInput(
            latent=tokens.to(dtype).repeat(count, 1, 1),
            timesteps=(stream.mask * level).repeat(count, 1, 1),
            sigma=torch.full((batch * count,), level, dtype=torch.float32, device=tokens.device),
            positions=stream.positions,
            context=torch.cat([c.expand(batch, -1, -1) for c in context]),
            keyframes_mask=None if stream.keyframes is None else stream.keyframes.expand(batch * count, -1, -1),
            enabled=enabled,
        )

    return predict


def _x0(tokens: torch.Tensor, velocity: torch.Tensor, mask: torch.Tensor, sigma: float) -> list[torch.Tensor]:
    """Each pass's prediction in float32: x − v · timestep, so that a clean token predicts itself."""
    return [tokens.float() - part.float() * (mask * sigma) for part in velocity.split(len(tokens))]


def _perturbation(name: str, guidance: Guidance) -> Perturbation:
    if name == ISOLATED:
        return ISOLATION
    if name == PERTURBED:
        # each stream is perturbed only where its own scale asks for it
        blocks = [s.stg_blocks if s.stg != 0 else () for s in (guidance.video, guidance.audio)]
        return Perturbation(skip_video_self_attention=blocks[0], skip_audio_self_attention=blocks[1])
    return Perturbation()


def _latents(tokens: AVTokens, start: AVLatent, video: StreamTokens | None, audio: StreamTokens | None) -> AVLatent:
    """Latents from tokens, guides dropped."""
    return AVLatent(
        None if video is None else unpatchify_video(tokens.video[:, : video.own], *start.video.shape[2:]),
        None if audio is None else unpatchify_audio(tokens.audio, start.audio.shape[3]),
    )


def _moved(context: TextContext, device, dtype) -> TextContext:
    return replace(
        context,
        video=context.video.to(device, dtype),
        audio=None if context.audio is None else context.audio.to(device, dtype),
    )


def _sampler_noise(sampler: str, seeds: Sequence[int] | None, device) -> dict:
    def sources(offset: int) -> list[torch.Generator]:
        return [source for seed in seeds for source in sampling_noise.generators(seed + offset, 1, device)]

    if sampler == "euler_ancestral":
        return {"generators": sources(sampling_noise.STEP_SEED_OFFSET)}
    if sampler == "res_2s":
        return {
            "step_generators": sources(sampling_noise.STEP_SEED_OFFSET),
            "substep_generators": sources(sampling_noise.SUBSTEP_SEED_OFFSET),
        }
    return {}


def _check(start, noise, positive, negative, guidance, conditioning: Conditioning, sampler: str, seeds) -> None:
    if start.video is None and start.audio is None:
        raise RequestError("there is nothing to denoise: neither a video nor an audio latent was given")
    if sampler not in SAMPLERS:
        raise RequestError(f"sampler is {sampler!r}, expected one of {', '.join(SAMPLERS)}")
    batch = len(start.video if start.video is not None else start.audio)
    if sampler in ("euler_ancestral", "res_2s") and (seeds is None or len(seeds) != batch):
        raise RequestError(
            f"sampler {sampler} needs a seed for each of the {batch} samples, got {0 if seeds is None else len(seeds)}"
        )
    if start.audio is not None and positive.audio is None:
        raise RequestError(
            "the text context has no audio part, but sound is to be made: encode the prompt with both connectors"
        )
    levels = [guidance] if isinstance(guidance, Guidance) else guidance.values()
    if negative is None and any(
        NEGATIVE in passes(g, video=start.video is not None, audio=start.audio is not None) for g in levels
    ):
        raise RequestError(
            "text guidance is above 1 but there is no negative prompt: give one, or set the guidance scale to 1"
        )
    if negative is not None and start.audio is not None and negative.audio is None:
        raise RequestError("the negative text context has no audio part, but sound is to be made")
    wanted = AVTokens(
        None if start.video is None else start.video[0, 0].numel() + conditioning.guide_tokens,
        None if start.audio is None else start.audio.shape[2],
    )
    for name in ("video", "audio"):
        tokens, drawn, known = getattr(wanted, name), getattr(noise, name), getattr(conditioning, name)
        if tokens is not None and (drawn is None or drawn.shape[:2] != (batch, tokens)):
            found = "missing" if drawn is None else f"for {list(drawn.shape[:2])} samples and tokens"
            raise RequestError(f"{name} noise is {found}, expected [{batch}, {tokens}]: draw it for this very latent")
        latent = getattr(start, name)
        if latent is None or known is None:
            continue
        if known.shape[1:] != latent.shape[1:] or len(known) not in (1, batch):
            raise RequestError(
                f"known {name} latents have shape {list(known.shape)}, the latent to denoise {list(latent.shape)}: "
                "make them of one size"
            )
    if start.video is not None:
        for guide in conditioning.guides:
            if guide.latent.shape[1] != start.video.shape[1]:
                raise RequestError(f"a guide has {guide.latent.shape[1]} channels, expected {start.video.shape[1]}")
