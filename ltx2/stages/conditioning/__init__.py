"""What a clip starts from, as latents and masks: pictures, clips, a last latent, and sound.

Everything in place is clean latents and a mask (1 generates, 0 keeps). What belongs between latent frames becomes
guides: extra tokens that the model looks at and that are dropped at the end. Later writes win. Checked against ltx-core
1.0.0.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ... import clock
from ...errors import Ltx2Warning, RequestError
from ...media.images import prepare_clip, prepare_image
from ...networks.video_vae.model import VideoEncoder
from ...networks.video_vae.plan import encode, plan_encode
from ...values import AudioCondition, AVLatent, ClipCondition, ImageCondition, LatentCondition, Progress, Waveform
from ..memory import free_bytes
from .positions import Guide
from .references import ReferenceLatent

Encode = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Conditioning:
    """All that a clip starts from at one stage's size; a part that is None leaves everything to be generated.

    video [1 or B, 128, F, h, w] with video_mask [1 or B, 1, F, h, w]; audio [1 or B, 8, T, 16] with audio_mask
    [1 or B, 1, T, 1]. Masks are float32, 1 generates and 0 keeps; the latents of a frozen stream are all kept and count
    as noiseless. references: what the whole clip is shown beside itself, in the order given. slots: frames of pictures
    that are made beside it, from slot_start [1 or B, 128, slots, h, w] or from nothing. voice [1 or B, 8, T, 16]:
    speech that the sound takes its voice from.
    """

    video: torch.Tensor | None = None
    video_mask: torch.Tensor | None = None
    guides: tuple[Guide, ...] = ()
    references: tuple[ReferenceLatent, ...] = ()
    audio: torch.Tensor | None = None
    audio_mask: torch.Tensor | None = None
    audio_frozen: bool = False
    video_frozen: bool = False
    voice: torch.Tensor | None = None
    slots: tuple[int, ...] = ()
    slot_start: torch.Tensor | None = None

    def extra_tokens(self, frame_tokens: int) -> int:
        """How many tokens all guides, slots and references take beside those of the clip, which has ``frame_tokens``
        for one latent frame."""
        shown = sum(guide.tokens for guide in self.guides) + sum(one.tokens for one in self.references)
        return shown + len(self.slots) * frame_tokens

    def tokens_beside(self, video: torch.Tensor | None) -> int:
        """The same for a clip's latent [B, 128, F, h, w]; 0 where it has no picture."""
        return 0 if video is None else self.extra_tokens(video[0, 0, 0].numel())

    @property
    def voice_tokens(self) -> int:
        """How many tokens the voice takes beside those of the sound."""
        return 0 if self.voice is None else self.voice.shape[2]

    def tokens(self, latent: AVLatent) -> tuple[int | None, int | None]:
        """How many tokens of video and of audio a stage works on with all of this; None for an absent stream."""
        video, audio = latent.video, latent.audio
        return (
            None if video is None else video[0, 0].numel() + self.tokens_beside(video),
            None if audio is None else audio.shape[2] + self.voice_tokens,
        )

    def __str__(self) -> str:
        parts = []
        if self.video_frozen:
            parts.append("own picture")
        elif self.video_mask is not None:
            kept = (self.video_mask.amin(dim=(0, 1, 3, 4)) < 1).sum()
            parts.append(f"{int(kept)} latent frames")
        if self.guides:
            parts.append(f"{len(self.guides)} guides")
        if self.slots:
            parts.append(f"{len(self.slots)} keyframe slots")
        if self.references:
            parts.append(f"{len(self.references)} references")
        if self.audio_mask is not None:
            parts.append("own sound" if self.audio_frozen else f"{int((self.audio_mask < 1).sum())} audio latents")
        if self.voice is not None:
            parts.append("a voice")
        return f"conditioning: {', '.join(parts) or 'nothing'}"


# ---------------------------------------------------------------------------------------------------------------
# Single writes


def place_latent(
    conditioning: Conditioning, latent: torch.Tensor, *, latent_frame: int, strength: float, shape: Sequence[int]
) -> Conditioning:
    """Put latents in place from ``latent_frame`` on.

    latent: [C, h, w], [C, f, h, w] or [1 or B, C, f, h, w]; shape: of the clip's latent, [B, C, F, h, w]. Raises
    RequestError when it does not fit.
    """
    _check_strength(strength, "conditioning latent")
    if latent.ndim == 3:
        latent = latent[:, None]
    if latent.ndim == 4:
        latent = latent[None]
    batch, channels, frames, height, width = shape
    fits = (
        latent.ndim == 5
        and len(latent) in (1, batch)
        and (latent.shape[1], *latent.shape[3:]) == (channels, height, width)
    )
    if not fits:
        found = f"{list(latent.shape)}, expected {[batch, channels, 'frames', height, width]}"
        raise RequestError(f"conditioning latent has shape {found}: use latents of the same picture size and batch")
    last = latent_frame + latent.shape[2]
    if not 0 <= latent_frame < last <= frames:
        raise RequestError(
            f"conditioning latent covers latent frames {latent_frame} to {last - 1}, the clip has {frames} (0 to "
            f"{frames - 1}): "
            "place it earlier or make the clip longer"
        )
    size = max(len(latent), 1 if conditioning.video is None else len(conditioning.video))
    if conditioning.video is None:
        clean = latent.new_zeros(size, *shape[1:])
        mask = torch.ones(size, 1, frames, height, width, dtype=torch.float32, device=latent.device)
    else:
        clean = conditioning.video.expand(size, -1, -1, -1, -1).clone()
        mask = conditioning.video_mask.expand(size, -1, -1, -1, -1).clone()
    clean[:, :, latent_frame:last] = latent.to(clean)
    mask[:, :, latent_frame:last] = 1 - strength
    pictures = range(clock.latent_frame_span(latent_frame)[0], clock.latent_frame_span(last - 1)[1])
    guides = tuple(guide for guide in conditioning.guides if guide.frame not in pictures)
    return replace(conditioning, video=clean, video_mask=mask, guides=guides)


def add_guide(conditioning: Conditioning, latent: torch.Tensor, *, frame: int, strength: float) -> Conditioning:
    """Add latents [1 or B, C, f, h, w] as guide tokens from picture frame ``frame`` on, in place of a guide at that
    very frame."""
    _check_strength(strength, "guide")
    kept = tuple(guide for guide in conditioning.guides if guide.frame != frame)
    return replace(conditioning, guides=(*kept, Guide(latent, frame, strength)))


def place_audio(conditioning: Conditioning, condition: AudioCondition, *, audio_latents: int) -> Conditioning:
    """Put audio latents at the start of the track, or freeze the whole of it.

    audio_latents: of the clip. Raises RequestError when they do not fit: it is never dropped in silence.
    """
    latent = condition.latent
    if latent.ndim != 4:
        raise RequestError(f"audio latents have shape {list(latent.shape)}, expected [batch, 8, latents, 16]")
    count = latent.shape[2]
    given = torch.as_tensor(condition.mask, dtype=torch.float32)
    if not bool(((given >= 0) & (given <= 1)).all()):
        raise RequestError(f"audio mask is {float(given.max()):g}, expected 0 (keep) to 1 (generate anew)")
    if given.ndim and given.shape != (count,):
        raise RequestError(
            f"audio mask has shape {list(given.shape)}, expected one value, or [{count}] for its latents"
        )
    if condition.frozen and count < audio_latents:
        raise RequestError(
            f"own sound has {count} audio latents, the clip needs {audio_latents}: pad it with silence before encoding"
        )
    if count > audio_latents and not condition.frozen:
        raise RequestError(
            f"{count} audio latents are given, the clip has {audio_latents}: make the clip longer or keep fewer"
        )
    size = (len(latent), 1, audio_latents, 1)
    clean = latent.new_zeros(len(latent), latent.shape[1], audio_latents, latent.shape[3])
    mask = torch.ones(size, dtype=torch.float32, device=latent.device)
    count = min(count, audio_latents)
    clean[:, :, :count] = latent[:, :, :count]
    made = given.expand(latent.shape[2])[:count].to(mask)
    mask[:, :, :count] = 0.0 if condition.frozen else made[:, None]
    return replace(conditioning, audio=clean, audio_mask=mask, audio_frozen=condition.frozen)


# ---------------------------------------------------------------------------------------------------------------
# Everything of a request


def encode_pictures(
    encoder: VideoEncoder,
    pixels: torch.Tensor,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    free: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> torch.Tensor:
    """Normalised latents [1, 128, F, H/32, W/32] of pictures [1, 3, 8k+1, H, W] in -1…1, which may lie anywhere.

    encoder: on ``device`` with weights of ``dtype``; how it goes about it is chosen for the memory that is free
    (``free`` bytes, what the device tells unless given).
    Raises RequestError for sizes that do not fit.
    """
    encoder.check(pixels)
    batch, _, frames, height, width = pixels.shape
    side = clock.PIXELS_PER_LATENT
    shape = (batch, encoder.config.latent_channels, clock.latent_frames(frames), height // side, width // side)
    plan = plan_encode(encoder.config, shape, free_bytes(device) if free is None else free, dtype)
    with torch.no_grad():
        return encode(encoder, pixels, plan, device=device, dtype=dtype, progress=progress)


def condition_video(
    shape: Sequence[int],
    encode_pixels: Encode,
    *,
    images: Sequence[ImageCondition] = (),
    clips: Sequence[ClipCondition] = (),
    latent: LatentCondition | None = None,
    image_crf: float | None = None,
    conditioning: Conditioning | None = None,
) -> Conditioning:
    """Everything that a request gives of the picture, at one stage's size: the last latent, then images, then clips.

    shape: of the clip's latent [B, 128, F, h, w]. encode_pixels: pictures [1, 3, n, 32h, 32w] in -1…1 → latents.
    image_crf: for images that name none themselves.
    conditioning: what to add to. What stands at frame 0 is put in place, unless it is to be a guide or is looked at
    by less than 1; what comes later becomes guides. Raises RequestError and MediaError.
    """
    check_places(images, clips, clock.frames_of_latents(shape[2]))
    height, width = (side * clock.PIXELS_PER_LATENT for side in shape[3:])
    result = conditioning or Conditioning()
    if latent is not None:
        result = place_latent(
            result, latent.latent, latent_frame=latent.latent_frame, strength=latent.strength, shape=shape
        )
    encoded: dict[tuple, torch.Tensor] = {}
    shown: list[Guide] = []  # beside what is in place at their frames
    for image in images:
        crf = image_crf if image.crf is None else image.crf
        key = (str(image.image) if isinstance(image.image, (str, Path)) else id(image.image), crf)
        if key not in encoded:
            encoded[key] = encode_pixels(prepare_image(image.image, height, width, crf=crf))
        if not image.guide and image.attention == 1:
            result = _place(result, encoded[key], image.frame, image.strength, shape)
        else:
            shown.append(Guide(encoded[key], image.frame, image.strength, image.attention))
    for clip in clips:
        pixels = prepare_clip(clip.frames, height, width)
        if fills_latent_frames(clip):
            # with a picture in front that is thrown away again, no latent frame stands for one picture alone
            filled = encode_pixels(torch.cat([pixels[:, :, :1], pixels], dim=2))[:, :, 1:]
            if clip.attention != 1:
                shown.append(Guide(filled, clip.frame, clip.strength, clip.attention))
                continue
            place = clock.latent_frame_of(clip.frame)
            result = place_latent(result, filled, latent_frame=place, strength=clip.strength, shape=shape)
            continue
        place = _on_grid(clip.frame, len(clip.frames))
        if clip.attention != 1:
            shown.append(Guide(encode_pixels(pixels), place, clip.strength, clip.attention))
            continue
        result = _place(result, encode_pixels(pixels), place, clip.strength, shape)
        if clip.mask is not None:
            result = _with_mask(result, latent_mask(clip.mask, *shape[3:]))
        result = replace(result, video_frozen=result.video_frozen or clip.frozen)
    return replace(result, guides=(*result.guides, *shown)) if shown else result


def fills_latent_frames(clip: ClipCondition) -> bool:
    """Whether a clip is 8k pictures that begin where a latent frame of its film does."""
    per = clock.FRAMES_PER_LATENT
    return clip.frame % per == 1 and len(clip.frames) > 0 and len(clip.frames) % per == 0


def latent_mask(mask: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A mask [N, H, W] in 0…1 of a clip of 8k+1 pictures as that of its latents: [1, 1, F, rows, columns] float32.

    A latent is made anew as far as any pixel of it is; in steps of 1/16, so that few noise levels are to be told apart.
    """
    mask = mask.float()
    per = clock.FRAMES_PER_LATENT
    grouped = torch.cat([mask[:1].expand(per, -1, -1), mask[1:]])  # the first latent frame stands for one picture
    most = grouped.unflatten(0, (-1, per)).amax(dim=1)  # [F, H, W]
    if most.shape[1] < rows or most.shape[2] < columns:
        most = torch.nn.functional.interpolate(most[None], (rows, columns), mode="nearest")[0]
    cells = torch.nn.functional.adaptive_max_pool2d(most[:, None], (rows, columns))[:, 0]
    return (torch.ceil(cells * 16) / 16)[None, None]


def _with_mask(conditioning: Conditioning, mask: torch.Tensor) -> Conditioning:
    """What a clip of the whole film's length keeps, by a mask of its latents."""
    own = conditioning.video_mask
    return replace(conditioning, video_mask=own + (1 - own) * mask.to(own))


def check_apart(images: Sequence[ImageCondition], frames: int) -> None:
    """Raises RequestError for two pictures that a clip of so many frames is to show at one place; what is only looked
    at stands beside them."""
    whole = Counter(one.frame for one in images if not one.guide and one.attention == 1)
    twice = [frame for frame, count in whole.items() if count > 1]
    if twice:
        raise RequestError(
            f"two images stand at frame {twice[0]}{', the last one' if twice[0] == frames - 1 else ''}: keep one of "
            "them, or give one another frame"
        )


def check_places(images: Sequence[ImageCondition], clips: Sequence[ClipCondition], frames: int) -> None:
    """Raises RequestError for a picture or clip whose place, length or strength does not fit a clip of so many
    frames."""
    for name, conditions in (("image", images), ("clip", clips)):
        for condition in conditions:
            if not isinstance(condition.frame, int) or not 0 <= condition.frame < frames:
                raise RequestError(
                    f"{name} condition is at frame {condition.frame}, the clip has frames 0 to {frames - 1}"
                )
            if not 0 <= condition.strength <= 1:
                raise RequestError(
                    f"{name} condition has strength {condition.strength:g}, expected 0 (no effect) to 1 (kept exactly)"
                )
            if not 0 <= condition.attention <= 1:
                raise RequestError(
                    f"{name} condition has attention {condition.attention:g}, expected 0 (not looked at) to 1 (in full)"
                )
    for clip in clips:
        count = len(clip.frames)
        if clip.mask is not None or clip.frozen:
            _check_whole(clip, frames)
        if fills_latent_frames(clip):
            count += 1
        if not clock.is_valid_frame_count(count):
            below = clock.snap_frames(max(count, 1), "down")
            raise RequestError(f"a clip condition has {count} pictures, expected 8k+1 such as {below} or {below + 8}")
        last = clip.frame + len(clip.frames) - 1
        if last >= frames:
            raise RequestError(
                f"a clip condition covers frames {clip.frame} to {last}, the clip has frames 0 to {frames - 1}"
            )


def _check_whole(clip: ClipCondition, frames: int) -> None:
    """Raises RequestError for a masked or frozen picture that is not that of the whole clip, or not put in place."""
    if clip.attention != 1:
        raise RequestError(
            f"a clip with a mask has attention {clip.attention:g}: it is put in place, leave attention at 1"
        )
    if clip.frame or len(clip.frames) != frames:
        raise RequestError(
            f"a clip with a mask has {len(clip.frames)} pictures from frame {clip.frame} on, expected all {frames}"
        )
    if clip.mask is not None and (clip.mask.ndim != 3 or len(clip.mask) != frames):
        raise RequestError(f"a mask has shape {list(clip.mask.shape)}, expected [{frames}, height, width]")


def encode_own_audio(
    waveform: Waveform, encode_sound: Callable[[Waveform], torch.Tensor], *, audio_latents: int
) -> AudioCondition:
    """A sound track of one's own as a condition: silence added or the end cut so that it fills the clip, heard as it
    was given.

    encode_sound: Waveform → latents [1, 8, T, 16].
    """
    needed = clock.decoded_samples(audio_latents, waveform.sample_rate)
    samples = waveform.samples
    if samples.numel() and not samples.any():
        message = (
            f"the sound track given is silent ({samples.shape[-1]} samples, all 0): leave it out to have sound made"
        )
        warnings.warn(message, Ltx2Warning, stacklevel=2)
    if samples.shape[-1] < needed:
        samples = torch.nn.functional.pad(samples, (0, needed - samples.shape[-1]))
    latent = encode_sound(Waveform(samples[..., :needed], waveform.sample_rate))
    missing = audio_latents - latent.shape[2]
    if missing > 0:  # the last latent may lack a part of a mel frame
        latent = torch.cat([latent, latent[:, :, -1:].expand(-1, -1, missing, -1)], dim=2)
    return AudioCondition(latent[:, :, :audio_latents], frozen=True, waveform=waveform)


def _place(conditioning: Conditioning, latent: torch.Tensor, frame: int, strength: float, shape) -> Conditioning:
    if frame == 0:
        return place_latent(conditioning, latent, latent_frame=0, strength=strength, shape=shape)
    return add_guide(conditioning, latent, frame=frame, strength=strength)


def _on_grid(frame: int, count: int) -> int:
    """Guides of several latent frames must begin with a latent frame of the film."""
    if frame == 0 or count == 1 or (frame - 1) % clock.FRAMES_PER_LATENT == 0:
        return frame
    snapped = clock.snap_frames(frame, "down") if frame > clock.FRAMES_PER_LATENT else 1
    warnings.warn(
        f"a clip condition at frame {frame} begins at frame {snapped}, where a latent frame starts",
        Ltx2Warning,
        stacklevel=3,
    )
    return snapped


def _check_strength(strength: float, name: str) -> None:
    if not 0 <= strength <= 1:
        raise RequestError(f"strength of a {name} is {strength:g}, expected 0 (no effect) to 1 (kept exactly)")
