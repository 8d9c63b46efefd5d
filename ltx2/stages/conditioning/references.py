"""Reference videos: control maps, reference sheets or films that an IC-LoRA looks at while it makes a clip.

A reference lies over the whole clip. Its tokens stand behind all others, clean, and are dropped at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ... import clock
from ...checkpoint.lora import Lora
from ...checkpoint.lora import Reference as Expected
from ...errors import RequestError
from ...media.images import prepare_clip
from ...networks.layers.attention import RowStrength
from ...values import ReferenceCondition
from .positions import Guide

STAGES = ("first", "both")  # of two: which ones see a reference
FIRST_STAGE = Expected(downscale=2)  # what a second stage sees of the first


@dataclass(frozen=True)
class ReferenceLatent:
    """Latents [1 or B, 128, f, h, w] that lie over the whole clip, ``downscale`` times smaller and ``temporal`` times
    slower than it.

    strength: how clean they are. attention: 0…1, how much the clip and they look at each other: one value, or one for
    each of their tokens [tokens].
    """

    latent: torch.Tensor
    downscale: int = 1
    temporal: int = 1
    strength: float = 1.0
    attention: float | torch.Tensor = 1.0

    @property
    def tokens(self) -> int:
        """How many tokens it takes."""
        return self.latent.shape[2] * self.latent.shape[3] * self.latent.shape[4]

    @property
    def weights(self) -> torch.Tensor:
        """Its attention by token: [tokens] float32."""
        return torch.as_tensor(self.attention, dtype=torch.float32).expand(self.tokens)


def expected_reference(loras: Sequence[Lora]) -> Expected | None:
    """What the IC-LoRAs among these expect of a reference; None where there is none. Raises RequestError where two
    expect different things."""
    found: dict[Expected, Lora] = {}
    for lora in loras:
        if lora.reference is not None:
            found.setdefault(lora.reference, lora)
    if len(found) > 1:
        (first, one), (second, two) = list(found.items())[:2]
        raise RequestError(
            f"{one.path.name} expects a {first}, {two.path.name} a {second}: use IC-LoRAs that expect the same"
        )
    return next(iter(found), None)


def check_references(references: Sequence[ReferenceCondition], frames: int) -> tuple[str, ...]:
    """What is left out of the references of a clip of so many frames, one sentence each. Raises RequestError for one
    that does not fit, before anything is encoded."""
    notes = []
    for number, reference in enumerate(references, 1):
        name = "the reference" if len(references) == 1 else f"reference {number}"
        found = len(reference.frames)
        if found > frames:
            notes.append(f"{name} has {found} frames, the first {frames} are shown, as many as the clip has")
        elif found not in (1, frames):
            fits = clock.snap_frames(max(found, 1), "down")
            raise RequestError(
                f"{name} has {found} frames, the clip has {frames}: give as many, one picture for all of them, or make "
                f"a clip of {fits} frames"
            )
        for what, value in (("strength", reference.strength), ("attention", reference.attention)):
            if not 0 <= value <= 1:
                raise RequestError(f"{name} has {what} {value:g}, expected 0 (no effect) to 1 (in full)")
        if reference.mask is not None and len(reference.mask) not in (1, found):
            raise RequestError(f"{name} has {found} frames, its mask {len(reference.mask)}: give one for each, or one")
        if reference.stages not in STAGES:
            raise RequestError(
                f"{name} is for stages {str(reference.stages)[:20]!r}, expected one of {', '.join(STAGES)}"
            )
    return tuple(notes)


def encode_reference(
    reference: ReferenceCondition,
    expected: Expected,
    encode: Callable[[torch.Tensor], torch.Tensor],
    *,
    width: int,
    height: int,
    frames: int,
) -> ReferenceLatent:
    """A reference for a clip of this size in pixels and length. encode: pictures [1, 3, n, h, w] in -1…1 → latents."""
    kept = reference_frames(frames, expected.temporal)
    last = len(reference.frames) - 1
    chosen = reference.frames[[min(index, last) for index in kept]]
    pixels = prepare_clip(chosen, height // expected.downscale, width // expected.downscale)
    latent = encode(pixels)
    attention: float | torch.Tensor = reference.attention
    if reference.mask is not None:
        last = len(reference.mask) - 1
        mask = reference.mask[[min(index, last) for index in kept]]
        attention = token_weights(mask, latent.shape[2:]) * reference.attention
    return ReferenceLatent(latent, expected.downscale, expected.temporal, reference.strength, attention)


def shown_first_stage(latent: torch.Tensor) -> ReferenceLatent:
    """The first stage's result [B, 128, F, h, w] as what a second stage at twice its size looks at."""
    return ReferenceLatent(latent, FIRST_STAGE.downscale, FIRST_STAGE.temporal)


def check_detail(lora: Lora) -> None:
    """Raises RequestError for an IC-LoRA of the second stage that expects something else than the first's result."""
    if lora.reference is not None and lora.reference != FIRST_STAGE:
        raise RequestError(
            f"{lora.path.name} expects a {lora.reference}, refine.detail shows it the first stage at the size divided "
            f"by {FIRST_STAGE.downscale}: use a detailing LoRA, or set refine.detail to false"
        )


def reference_frames(frames: int, temporal: int) -> list[int]:
    """Which frames of a clip a reference ``temporal`` times slower has, 8k+1 of them: 0, 1, 1 + temporal, …"""
    count = clock.snap_frames(1 + max(frames - 1, 0) // temporal, "down")
    return [0, *range(1, 1 + (count - 1) * temporal, temporal)]


def reference_tokens(expected: Expected, *, width: int, height: int, frames: int) -> int:
    """How many tokens a reference takes beside a clip of this size in pixels and length."""
    side = clock.PIXELS_PER_LATENT * expected.downscale
    return clock.latent_frames(len(reference_frames(frames, expected.temporal))) * (width // side) * (height // side)


def token_weights(mask: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A mask [n, H, W] of 0…1 as weights of a latent's tokens [f · h · w]: means over what each of them covers."""
    latent_frames, height, width = shape
    areas = F.interpolate(mask.float()[:, None], size=(height, width), mode="area")[:, 0]  # [n, h, w]
    first, later = areas[:1], areas[1:]
    if latent_frames > 1:
        later = later.unflatten(0, (latent_frames - 1, -1)).mean(1)
    return torch.cat([first, later[: latent_frames - 1]]).flatten()


def row_strengths(
    own: int, references: Sequence[ReferenceLatent | Guide], *, apart: bool = False
) -> tuple[RowStrength, ...] | None:
    """How strongly tokens look at each other, by rows; None where all do in full.

    own: tokens in front of the references and of guides that count less. The clip sees each token of these by its
    weight and is seen by it so; one of them sees itself in full, and the other ones too unless ``apart``. No matrix of
    all tokens by all tokens is made: rows that share their strengths share one line.
    """
    weights = [reference.weights for reference in references]
    if all(bool((one == 1).all()) for one in weights):
        return None
    total = own + sum(len(one) for one in weights)
    line = torch.ones(1, total)
    line[0, own:] = torch.cat(weights)
    rows, start = [RowStrength(0, own, line)], own
    for one in weights:
        alike = bool((one == one[0]).all())
        strengths = torch.ones(1 if alike else len(one), total)
        if apart:
            strengths[:, own:] = 0
            strengths[:, start : start + len(one)] = 1
        strengths[:, :own] = one[:1, None] if alike else one[:, None]
        rows.append(RowStrength(start, start + len(one), strengths))
        start += len(one)
    return tuple(rows)
