"""Guidance on denoised predictions: away from the negative prompt, from a perturbed pass and from isolated streams.

prediction = c + (cfg − 1)(c − negative) + stg (c − perturbed) + (modality − 1)(c − isolated), then rescaled towards the
deviation of c, then + identity (c − voiceless). Papers: classifier-free guidance (Ho and Salimans 2022),
spatio-temporal skip guidance (Hyung et al. 2024), rescale (Lin et al. 2023). Checked against ltx-core 1.0.0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

# In the order they are run and stacked on the batch axis.
POSITIVE, NEGATIVE, PERTURBED, ISOLATED, VOICELESS = PASSES = (
    "positive", "negative", "perturbed", "isolated", "voiceless",
)  # fmt: skip


@dataclass(frozen=True)
class StreamGuidance:
    """Scales of one stream. cfg 1, modality 1 and stg 0 ask for nothing.

    stg_blocks: transformer blocks whose self-attention the perturbed pass skips; rescale: 0…1;
    skip_step: k runs the stream on every (k + 1)-th step only and reuses its last prediction between.
    nag_scale: of the negative prompt within the text attention, 0 or 1 for none; nag_alpha, nag_tau: see
    networks.transformer.nag. identity: of a reference voice, away from the pass that does not hear it; 0 for none.
    """

    cfg: float = 1.0
    modality: float = 1.0
    stg: float = 0.0
    rescale: float = 0.0
    stg_blocks: tuple[int, ...] = ()
    skip_step: int = 0
    nag_scale: float = 0.0
    nag_alpha: float = 0.25
    nag_tau: float = 2.5
    identity: float = 0.0

    @property
    def uses_nag(self) -> bool:
        """Whether the negative prompt works within the attention."""
        return self.nag_scale not in (0, 1) and self.nag_alpha != 0


@dataclass(frozen=True)
class Guidance:
    """Guidance of both streams at one noise level."""

    video: StreamGuidance = StreamGuidance()
    audio: StreamGuidance = StreamGuidance()


def at_sigma(guidance: Guidance | Mapping[float, Guidance], sigma: float) -> Guidance:
    """The guidance for a noise level: of a mapping, the entry of the smallest key ≥ sigma, else of the largest key."""
    if isinstance(guidance, Guidance):
        return guidance
    reached = [key for key in guidance if key >= sigma]
    return guidance[min(reached) if reached else max(guidance)]


def passes(guidance: Guidance, *, video: bool = True, audio: bool = True) -> tuple[str, ...]:
    """Which passes a step needs: each runs only when a scale of a stream that takes part asks for it.

    Isolation needs both streams to exist, an STG scale needs blocks.
    """
    streams = [s for s, present in ((guidance.video, video), (guidance.audio, audio)) if present]
    wanted = [POSITIVE]
    if any(s.cfg != 1 for s in streams):
        wanted.append(NEGATIVE)
    if any(s.stg != 0 and s.stg_blocks for s in streams):
        wanted.append(PERTURBED)
    if video and audio and any(s.modality != 1 for s in streams):
        wanted.append(ISOLATED)
    if audio and any(s.identity != 0 for s in streams):
        wanted.append(VOICELESS)
    return tuple(wanted)


def calls(wanted: Sequence[str], at_once: int) -> list[tuple[str, ...]]:
    """Passes by call of the model, at most ``at_once`` stacked in one; that without the voice has fewer tokens than the
    others, and a call of its own."""
    alike = [name for name in wanted if name != VOICELESS]
    stacked = [tuple(alike[first : first + at_once]) for first in range(0, len(alike), at_once)]
    return [*stacked, *([(VOICELESS,)] if VOICELESS in wanted else [])]


def with_identity(guidance: Guidance, identity: float) -> Guidance:
    """The same guidance, and towards a reference voice in both streams."""
    return Guidance(*(replace(stream, identity=identity) for stream in (guidance.video, guidance.audio)))


def needs_negative(guidance: Guidance, *, video: bool = True, audio: bool = True) -> bool:
    """Whether a step reads a negative prompt, in a pass of its own or within the text attention."""
    streams = [s for s, present in ((guidance.video, video), (guidance.audio, audio)) if present]
    return NEGATIVE in passes(guidance, video=video, audio=audio) or any(s.uses_nag for s in streams)


def skips(guidance: StreamGuidance, step: int) -> bool:
    """Whether a stream sits this step out and reuses its last prediction."""
    return step % (guidance.skip_step + 1) != 0


def combine(predictions: Mapping[str, torch.Tensor], guidance: StreamGuidance) -> torch.Tensor:
    """One stream's guided prediction [B, T, C] from its passes (x0, any dtype); in float32, in the positive pass's
    dtype.

    A pass that did not run counts as equal to the positive one. The deviation of the rescale is taken per clip over
    all tokens and channels, so that a clip does not depend on its neighbours in the batch.
    """
    positive = predictions[POSITIVE].float()
    result = positive
    for name, weight in ((NEGATIVE, guidance.cfg - 1), (PERTURBED, guidance.stg), (ISOLATED, guidance.modality - 1)):
        if weight != 0 and name in predictions:
            result = result + weight * (positive - predictions[name].float())
    towards_voice = guidance.identity if VOICELESS in predictions else 0.0
    if result is positive and not towards_voice:
        return predictions[POSITIVE]
    if guidance.rescale != 0 and result is not positive:
        axes = tuple(range(1, positive.ndim))
        # an all-constant prediction has no deviation to match
        factor = positive.std(dim=axes, keepdim=True) / result.std(dim=axes, keepdim=True).clamp_min(1e-12)
        result = result * (factor * guidance.rescale + (1 - guidance.rescale))
    if towards_voice:
        result = result + towards_voice * (positive - predictions[VOICELESS].float())
    return result.to(predictions[POSITIVE].dtype)
