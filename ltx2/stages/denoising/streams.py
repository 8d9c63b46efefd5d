"""Both streams of a stage as tokens, before noise is added: what is generated, what is known, where tokens lie."""

from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from ...networks.layers.attention import RowStrength
from ...networks.layers.rope import audio_positions, video_positions
from ...sampling import noise as sampling_noise
from ...sampling.tokens import AVTokens, patchify_audio, patchify_video, unpatchify_audio, unpatchify_video
from ...values import AVLatent
from ..conditioning import Conditioning
from ..conditioning.positions import Guide, guide_positions, reference_positions
from ..conditioning.references import ReferenceLatent, row_strengths
from ..conditioning.voices import voice_positions


@dataclass(frozen=True)
class ClipClock:
    """fps of a clip, exact, and the seconds that its picture times are moved by."""

    fps: float | Fraction
    video_offset_seconds: float | Fraction = 0


@dataclass(frozen=True)
class StreamTokens:
    """One stream of a stage as tokens: latent and clean [B, T, C], mask [B, T, 1] float32, positions [1, n, T, 2].

    keyframes [1, T, 1]: 1 for the tokens of the first latent frame and of keyframe slots. own: tokens that are no
    guides, slots, references or voice. attention: how strongly tokens look at each other, None where
    all do in full. slots: the tokens of keyframe slots, from and to.
    """

    latent: torch.Tensor
    clean: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    own: int
    keyframes: torch.Tensor | None = None
    frozen: bool = False
    attention: tuple[RowStrength, ...] | None = None
    slots: tuple[int, int] = (0, 0)

    def x0(self, tokens: torch.Tensor, velocity: torch.Tensor, sigma: float) -> list[torch.Tensor]:
        """Predictions [B, T, C] float32 of the passes stacked in ``velocity``: x − v · timestep, so that a clean token
        predicts itself."""
        level = self.mask * self.level(sigma)
        return [tokens.float() - part.float() * level for part in velocity.split(len(tokens))]

    def alone(self) -> "StreamTokens":
        """The stream's own tokens without those that it only looks at; for a stream that has no strengths by row."""
        latent, clean, mask = (part[:, : self.own] for part in (self.latent, self.clean, self.mask))
        return replace(self, latent=latent, clean=clean, mask=mask, positions=self.positions[:, :, : self.own])

    def level(self, sigma: float) -> float:
        """The noise level of the stream at a step: a frozen one is clean throughout."""
        return 0.0 if self.frozen else sigma


@dataclass(frozen=True)
class Streams:
    """The streams of one stage; one of them may be absent (None)."""

    video: StreamTokens | None
    audio: StreamTokens | None

    def tokens(self, name: str) -> AVTokens:
        """A field of both streams."""
        return AVTokens(*(None if stream is None else getattr(stream, name) for stream in (self.video, self.audio)))

    def noised(self, noise: AVTokens, scale: float) -> AVTokens:
        """What sampling starts from; scale: the share of noise in what is generated."""

        def one(stream: StreamTokens | None, drawn: torch.Tensor | None) -> torch.Tensor | None:
            if stream is None or drawn is None:
                return None
            drawn, own = drawn.to(stream.latent.device), stream.level(scale)
            return sampling_noise.add_noise(stream.latent, stream.clean, stream.mask, drawn, own)

        return AVTokens(one(self.video, noise.video), one(self.audio, noise.audio))

    def latents(self, tokens: AVTokens, like: AVLatent) -> AVLatent:
        """Latents in the layout of ``like`` from tokens; guides, references and voice are dropped."""
        video, audio, keyframes = tokens.video, tokens.audio, None
        if self.video is not None:
            size = like.video.shape[3:]
            first, end = self.video.slots
            if end > first:
                keyframes = unpatchify_video(video[:, first:end], (end - first) // size.numel(), *size)
            video = unpatchify_video(video[:, : self.video.own], *like.video.shape[2:])
        if self.audio is not None:
            audio = unpatchify_audio(audio[:, : self.audio.own], like.audio.shape[3])
        return AVLatent(video, audio, keyframes)


def streams(start: AVLatent, conditioning: Conditioning, clock: ClipClock) -> Streams:
    """Both streams of a stage on the device of ``start``; guides stand behind the video's own tokens, keyframe slots
    behind these, references last; the voice behind the sound's own."""
    return Streams(
        None if start.video is None else _video_stream(start.video, conditioning, clock),
        None if start.audio is None else _audio_stream(start.audio, conditioning),
    )


def _video_stream(latent: torch.Tensor, conditioning: Conditioning, clock: ClipClock) -> StreamTokens:
    batch, _, frames, height, width = latent.shape
    fps, offset, device = clock.fps, clock.video_offset_seconds, latent.device
    tokens = patchify_video(latent)  # [B, F·h·w, C]
    own = tokens.shape[1]
    if conditioning.video is None:
        clean, mask = tokens, torch.ones(batch, own, 1, dtype=torch.float32, device=device)
    else:
        clean = patchify_video(conditioning.video.to(latent)).expand(batch, -1, -1)
        mask = patchify_video(conditioning.video_mask.to(device)).expand(batch, -1, -1)  # [B, T, 1]
    positions = [video_positions(frames, height, width, fps, video_offset_seconds=offset, device=device)]
    beside = conditioning.extra_tokens(height * width)
    keyframes = torch.zeros(1, own + beside, 1, dtype=torch.float32, device=device)
    keyframes[:, : height * width] = 1
    strong = [guide for guide in conditioning.guides if guide.attention == 1]
    # those that are looked at by less than 1 stand behind the others, so that these share their rows with the clip
    weaker = [guide for guide in conditioning.guides if guide.attention != 1]
    in_front = own + sum(guide.tokens for guide in strong)
    behind = in_front + len(conditioning.slots) * height * width
    keyframes[:, in_front:behind] = 1
    begun = _slot_start(latent, conditioning)
    slots = [Guide(one, frame, 0.0) for one, frame in zip(begun.split(1, dim=2), conditioning.slots)]
    parts = [(tokens, clean, mask), *(_kept(guide, latent) for guide in strong)]
    if slots:
        made = patchify_video(begun).expand(batch, -1, -1)
        parts.append((made, torch.zeros_like(made), mask.new_ones(batch, made.shape[1], 1)))
    last: list[Guide | ReferenceLatent] = [*weaker, *conditioning.references]
    parts += [_kept(one, latent) for one in last]
    guides = (*strong, *slots, *weaker)
    for guide in guides:
        positions.append(guide_positions(guide, fps, video_offset_seconds=offset, device=device))
    for one in conditioning.references:
        positions.append(
            reference_positions(
                one.latent,
                fps,
                downscale=one.downscale,
                temporal=one.temporal,
                video_offset_seconds=offset,
                device=device,
            )
        )
    tokens, clean, mask = (torch.cat(column, dim=1) if len(column) > 1 else column[0] for column in zip(*parts))
    strengths = row_strengths(behind, [*weaker, *conditioning.references])
    frozen = conditioning.video_frozen
    places = torch.cat(positions, dim=2)
    made_beside = (in_front, behind)
    return StreamTokens(tokens, clean, mask, places, own, keyframes, frozen, strengths, made_beside)


def _slot_start(latent: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What keyframe slots start from: [1 or B, C, slots, h, w]."""
    if conditioning.slot_start is not None:
        return conditioning.slot_start.to(latent)
    return latent.new_zeros(1, latent.shape[1], len(conditioning.slots), *latent.shape[3:])


def _kept(extra: Guide | ReferenceLatent, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens of what is only looked at: where they start, what they are, and how much of them is made."""
    clean = patchify_video(extra.latent.to(latent)).expand(len(latent), -1, -1)
    level = torch.full((*clean.shape[:2], 1), 1 - extra.strength, dtype=torch.float32, device=latent.device)
    return torch.zeros_like(clean), clean, level


def _audio_stream(latent: torch.Tensor, conditioning: Conditioning) -> StreamTokens:
    device = latent.device
    tokens = patchify_audio(latent)  # [B, T, C·M]
    batch, own, _ = tokens.shape
    if conditioning.audio is None:
        clean, mask = tokens, torch.ones(batch, own, 1, dtype=torch.float32, device=device)
    else:
        clean = patchify_audio(conditioning.audio.to(latent)).expand(batch, -1, -1)
        mask = conditioning.audio_mask.to(device)[:, 0].expand(batch, -1, -1)  # [B, T, 1]
    positions = audio_positions(own, device=device)
    if conditioning.voice is not None:
        voice = patchify_audio(conditioning.voice.to(latent)).expand(batch, -1, -1)
        tokens = torch.cat([tokens, torch.zeros_like(voice)], dim=1)
        clean = torch.cat([clean, voice], dim=1)
        mask = torch.cat([mask, mask.new_zeros(batch, voice.shape[1], 1)], dim=1)
        positions = torch.cat([positions, voice_positions(voice.shape[1], device=device)], dim=2)
    return StreamTokens(tokens, clean, mask, positions, own, frozen=conditioning.audio_frozen)
