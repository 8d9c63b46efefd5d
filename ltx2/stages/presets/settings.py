"""What a stage runs with, what a preset is, and the guidance and sigmas that follow from it."""

from dataclasses import dataclass
from fractions import Fraction

import torch

from ... import clock
from ...sampling import schedules
from ...sampling.guidance import Guidance, StreamGuidance, passes

STAGES = ("denoise", "refine", "double")
SCHEDULES = ("dev", "distilled", "refine")


@dataclass(frozen=True)
class StageSettings:
    """How one stage denoises.

    schedule: ``dev``, ``distilled`` (1 to 8 steps) or ``refine`` (2 or 3); sigmas: an explicit list instead.
    shift_by_size: the dev schedule is shifted for this very clip's token count rather than for 4096 tokens. stg_blocks:
    None takes the checkpoint's. image_crf: H.264 quality for conditioning pictures; image_strength: what their own
    strength is multiplied with in this stage. distilled_lora_strength: of the
    LoRA that makes a dev model fit for few steps, on this stage's copy of the transformer. nag_scale: of the negative
    prompt within the text attention, which needs no further pass; 0 and 1 are off. nag_alpha, nag_tau: see
    networks.transformer.nag. eta: how much of the noise an ancestral sampler renews at each step, 0 (none) to 1.
    """

    num_inference_steps: int = 8
    schedule: str = "distilled"
    sigmas: tuple[float, ...] | None = None
    shift_by_size: bool = False
    sampler: str = "euler"
    cfg_scale_video: float = 1.0
    cfg_scale_audio: float = 1.0
    modality_scale_video: float = 1.0
    modality_scale_audio: float = 1.0
    stg_scale_video: float = 0.0
    stg_scale_audio: float = 0.0
    stg_blocks_video: tuple[int, ...] | None = None
    stg_blocks_audio: tuple[int, ...] | None = None
    rescale_scale_video: float = 0.0
    rescale_scale_audio: float = 0.0
    skip_step_video: int = 0
    skip_step_audio: int = 0
    image_crf: float = 33.0
    image_strength: float = 1.0
    distilled_lora_strength: float = 0.0
    nag_scale_video: float = 0.0
    nag_scale_audio: float = 0.0
    nag_alpha: float = 0.25
    nag_tau: float = 2.5
    eta: float = 1.0


@dataclass(frozen=True)
class RefineSettings:
    """Whether a second stage at twice the size follows, and how. add_noise False starts it from the upsampled latents
    as they are.

    video_position_offset_sec: None takes the request's. detail: it looks at the first stage's result, at that one's
    size, as detailing LoRAs expect.
    """

    enabled: bool = False
    add_noise: bool = True
    video_position_offset_sec: float | None = None
    stage: StageSettings = StageSettings(num_inference_steps=3, schedule="refine", distilled_lora_strength=1.0)
    detail: bool = False


# How a round that doubles the frame rate denoises: the last four distilled steps, half of the noise fresh at each.
DOUBLE = StageSettings(
    num_inference_steps=4,
    schedule="refine",
    sigmas=(0.975, 0.909375, 0.725, 0.421875, 0.0),
    sampler="euler_ancestral",
    eta=0.5,
    distilled_lora_strength=1.0,
)


@dataclass(frozen=True)
class Preset:
    """A named set of defaults.

    from_checkpoint: settings of the first stage that the checkpoint's release overrules, refine_from_checkpoint: of the
    second. audio_from: the stage whose
    sound is heard when there are two. double: how rounds that double the frame rate denoise, where these are asked for.
    """

    name: str
    title: str
    width: int
    height: int
    denoise: StageSettings
    refine: RefineSettings = RefineSettings()
    from_checkpoint: tuple[str, ...] = ("image_crf",)
    refine_from_checkpoint: tuple[str, ...] = ("image_crf",)
    audio_from: str = "refine"
    negative_prompt: str = ""
    version: int = 1
    frames: int = 121
    fps: Fraction = clock.DEFAULT_FPS
    seed: int = 10
    double: StageSettings = DOUBLE

    @property
    def guided(self) -> bool:
        """Whether its first stage takes several passes a step, one of them for the negative prompt."""
        return self.denoise.schedule == "dev"


@dataclass(frozen=True)
class Settings:
    """What a request's stages run with, after all defaults: refine is None when there is one stage only.

    draft: a quick look (presets.draft); half_size: of the first of two stages, whose second it leaves out. rounds: how
    often the frame rate is doubled at the end, each time as ``double`` says.
    """

    preset: Preset
    denoise: StageSettings
    refine: RefineSettings | None
    draft: bool = False
    half_size: bool = False
    double: StageSettings = DOUBLE
    rounds: int = 0

    @property
    def audio_from(self) -> str:
        """The stage whose sound is heard."""
        return "denoise" if self.refine is None else self.preset.audio_from

    def __str__(self) -> str:
        guided = "guided " if len(passes(guidance_of(self.denoise))) > 1 else ""
        count = _steps(self.denoise)
        first = f"preset {self.preset.name}: {count} {guided}{'step' if count == 1 else 'steps'}"
        if self.draft:
            return f"draft of {first} at half size" if self.half_size else f"draft of {first}"
        return first if self.refine is None else f"{first} at half size, {_steps(self.refine.stage)} at full size"


def guidance_of(settings: StageSettings) -> Guidance:
    """Guidance of both streams, as a stage's settings say."""

    def stream(name: str) -> StreamGuidance:
        def value(key: str):
            return getattr(settings, f"{key}_{name}")

        return StreamGuidance(
            cfg=value("cfg_scale"),
            modality=value("modality_scale"),
            stg=value("stg_scale"),
            rescale=value("rescale_scale"),
            stg_blocks=value("stg_blocks") or (),
            skip_step=value("skip_step"),
            nag_scale=value("nag_scale"),
            nag_alpha=settings.nag_alpha,
            nag_tau=settings.nag_tau,
        )

    return Guidance(stream("video"), stream("audio"))


def sigmas_of(settings: StageSettings, *, tokens: int, shift: tuple[float, float] | None = None) -> torch.Tensor:
    """A stage's sigma list. tokens: of its video latent, guides not counted; shift: of the dev schedule at 1024 and
    4096 tokens."""
    if settings.sigmas is not None:
        return schedules.check_sigmas(settings.sigmas, to_zero=True)
    if settings.schedule == "refine":
        return schedules.refine_sigmas(settings.num_inference_steps)
    if settings.schedule == "distilled":
        return schedules.distilled_sigmas(settings.num_inference_steps)
    base, high = shift or (schedules.BASE_SHIFT, schedules.MAX_SHIFT)
    return schedules.dev_sigmas(
        settings.num_inference_steps,
        tokens=tokens if settings.shift_by_size else schedules.MAX_TOKENS,
        base_shift=base,
        max_shift=high,
    )


def _steps(settings: StageSettings) -> int:
    return settings.num_inference_steps if settings.sigmas is None else len(settings.sigmas) - 1
