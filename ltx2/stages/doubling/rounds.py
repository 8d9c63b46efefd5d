"""Twice the frames of a finished clip, once or more, each round in tiles of time that share their keyframes.

A round: the temporal upsampler makes a latent of F frames one of 2F − 1, and each tile of it is noised and denoised in
a few steps, without its sound. Pictures of the clip itself hold it where tiles meet, so that it stays the film that it
was. The rounds draw their noise from seeds of their own: what comes after the clip, its state above all, is as if there
were none. Models that learned the mark of keyframes (LTX-2.5) make one in the middle of each part as well, as their
released pipeline does, which holds the next round.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from ...clock import latent_frame_of
from ...sampling import noise as sampling_noise
from ...values import AVLatent, Progress, TextContext
from .. import memory
from ..conditioning import Conditioning, encode_pictures
from ..conditioning.positions import Guide
from ..conditioning.slots import repeated_frames
from ..denoising import ClipClock, Compute, Prompts, Sampling, denoise
from ..latent_preparation import draw_noise
from ..models import Models
from ..presets import guidance_of, sigmas_of
from ..request import Job
from ..steps import Inputs, upsample_latent
from .tiles import Tile, keyframes, tile_rate, tiles_of

Report = Callable[[Progress], None] | None
# Pieces [1, 3, n, H, W] around -1…1 of one clip of the batch.
Decode = Callable[[int], Iterator[torch.Tensor]]

KEYFRAME_STRENGTH = 0.95
# What a round adds to the seed, to which its tile's number is added; far from the seeds of a story's segments.
ROUND_SEED = 1000


@dataclass(frozen=True)
class _Held:
    """What stays of a clip: latents [B, 128, 1, h, w] of single pictures, by their frame. seams: those of them where
    tiles may meet."""

    pictures: dict[int, torch.Tensor]
    seams: tuple[int, ...]

    def later(self) -> "_Held":
        """The same at twice the rate."""
        pictures = {2 * frame: latent for frame, latent in self.pictures.items()}
        return _Held(pictures, tuple(2 * frame for frame in self.seams))

    def with_made(self, made: dict[int, torch.Tensor]) -> "_Held":
        """With keyframes that were made, where the next round's tiles may meet too."""
        return _Held(made | self.pictures, tuple(sorted({*self.seams, *made})))


def double_rate(
    models: Models, job: Job, latent: AVLatent, decode: Decode, inputs: Inputs, *, progress: Report = None
) -> AVLatent:
    """A finished clip after the rounds of its job: F latent frames become (F − 1) · 2^rounds + 1; the sound stays.

    latent: of the whole batch; decode: its pictures as they are, of which those at the keyframes are looked at.
    """
    rate = job.geometry.fps
    held = _held(models, job, latent.video, decode)
    for number in range(1, job.settings.rounds + 1):
        rate, held = rate * 2, held.later()
        larger = upsample_latent(models, AVLatent(latent.video, None), kind="temporal_upsampler", progress=progress)
        video, held = _denoised(models, job, larger.video, held, (number, rate), inputs, progress)
        latent = replace(latent, video=video.to(latent.video))
    return latent


def _held(models: Models, job: Job, video: torch.Tensor, decode: Decode) -> _Held:
    """The clip's own pictures at its keyframes and where pictures were given, each encoded by itself."""
    frames, request = job.geometry.frames, job.request
    seams = keyframes(frames, repeated_frames(request))
    wanted = sorted({*seams, *(image.frame for image in request.images)} - {0})
    # the first latent frame stands for one picture already
    pictures = {0: video[:, :, :1]}
    found = [_frames_at(decode(index), wanted) for index in range(len(video))]
    network = models.need("video_encoder")
    with models.placement.on(network) as (encoder,):
        device, free = models.placement.device_of(network), models.placement.free_bytes(network)

        def encoded(pixels: torch.Tensor) -> torch.Tensor:
            return encode_pictures(encoder, pixels, device=device, dtype=models.config.video_vae, free=free)

        for frame in wanted:
            pictures[frame] = torch.cat([encoded(clip[frame]) for clip in found])
    return _Held(pictures, seams)


def _frames_at(pieces: Iterator[torch.Tensor], wanted: Sequence[int]) -> dict[int, torch.Tensor]:
    """Single pictures [1, 3, 1, H, W] in -1…1 by their frame, out of pieces in order of time."""
    found, at = {}, 0
    for piece in pieces:
        count = piece.shape[2]
        for frame in wanted:
            if at <= frame < at + count:
                found[frame] = piece[:, :, frame - at : frame - at + 1].clamp(-1, 1).to("cpu", copy=True)
        at += count
    return found


def _denoised(
    models: Models,
    job: Job,
    video: torch.Tensor,
    held: _Held,
    place: tuple[int, Fraction],
    inputs: Inputs,
    progress: Report,
) -> tuple[torch.Tensor, _Held]:
    """One round: the upsampled latent denoised tile by tile and put together again, and what holds the next one. place:
    number of the round, and its frames a second."""
    number, rate = place
    tiles = tiles_of(held.seams, 1 << number)
    if not tiles:
        return video, held
    settings, config = job.settings.double, models.config
    device = models.placement.device_of(models.transformer)
    tokens = max((tile.latents.stop - tile.latents.start) for tile in tiles) * video[0, 0, 0].numel()
    sigmas = sigmas_of(settings, tokens=tokens, shift=config.schedule_shift)
    room = memory.denoising_bytes(
        width=models.transformer.config.width, video_tokens=tokens, batch_size=len(video), dtype=config.transformer
    )
    prompts = Prompts(_seen(inputs.positive), _seen(inputs.negative), guidance_of(settings))
    strength = settings.distilled_lora_strength
    loras = [] if models.distilled_lora is None else [(models.distilled_lora, strength)]
    marked = models.transformer.config.keyframe_embedding
    made: list[torch.Tensor] = []
    between: dict[int, torch.Tensor] = {}
    with models.placement.transformer(models.transformer, loras, activation_bytes=room) as transformer:
        for index, tile in enumerate(tiles):
            start = AVLatent(video[:, :, tile.latents].to(device), None)
            conditioning = _conditioning(held, tile, start.video if marked else None)
            seeds = [seed + ROUND_SEED * number + index for seed in inputs.seeds]
            sources = sampling_noise.generators(seeds[0], len(seeds), config.noise_device)
            noise = draw_noise(start, sources, conditioning=conditioning, dtype=config.latents)
            done = denoise(
                transformer,
                start,
                prompts,
                Sampling(sigmas, noise, settings.sampler, seeds, config.noise_device, eta=settings.eta),
                clock=ClipClock(tile_rate(rate)),
                compute=Compute(device, config.transformer),
                conditioning=conditioning,
                progress=_part_of(progress, index, len(tiles)),
            )
            made.append(done.video[:, :, tile.dropped :].to(video))
            for place_in_tile, frame in enumerate(conditioning.slots):
                # what an earlier tile made of the same frame stays
                between.setdefault(
                    tile.first + frame, done.keyframes[:, :, place_in_tile : place_in_tile + 1].to(video)
                )
    return torch.cat(made, dim=2), held.with_made(between)


def _seen(context: TextContext | None) -> TextContext | None:
    """What a prompt says of the picture."""
    return None if context is None else replace(context, audio=None)


def _conditioning(held: _Held, tile: Tile, video: torch.Tensor | None) -> Conditioning:
    """The pictures within a tile, at its own time. video: of the tile, where the model makes keyframes between them, in
    the middle of each part, which start from its nearest latent frame."""
    inside = {frame: latent for frame, latent in sorted(held.pictures.items()) if tile.first <= frame <= tile.last}
    guides = tuple(Guide(latent, frame - tile.first, KEYFRAME_STRENGTH) for frame, latent in inside.items())
    if video is None:
        return Conditioning(guides=guides)
    seams = [frame - tile.first for frame in held.seams if tile.first <= frame <= tile.last]
    slots = tuple((start + end) // 2 for start, end in itertools.pairwise(seams))
    nearest = video[:, :, [latent_frame_of(frame) for frame in slots]]
    return Conditioning(guides=guides, slots=slots, slot_start=nearest)


def _part_of(progress: Report, index: int, count: int) -> Report:
    """Reports of one tile as a part of the round; pictures of a part alone are none of the clip."""
    if progress is None:
        return None

    def report(round_progress: Progress) -> None:
        progress(Progress("doubling", round_progress.done + index * round_progress.total, round_progress.total * count))

    return report
