"""What is to be told of the prompts of a job before they are read."""

from ...sampling.guidance import needs_negative
from ...text.prompts import negative_prompt
from ..presets import Settings, StageSettings, guidance_of


def wants_negative(settings: StageSettings) -> bool:
    """Whether a stage reads a negative prompt, in a pass of its own or within the text attention."""
    return needs_negative(guidance_of(settings))


def negative_text(given: str | None, settings: Settings) -> str:
    """The negative prompt that stages read: the given one, else the preset's, else the full list where it works within
    the attention."""
    if given is not None:
        return negative_prompt(given)
    return negative_prompt(settings.preset.negative_prompt or ("full" if uses_nag(settings) else ""))


def uses_nag(settings: Settings) -> bool:
    """Whether the negative prompt works within the text attention of some stage."""
    guidances = [guidance_of(stage) for stage in stages_of(settings)]
    return any(stream.uses_nag for guidance in guidances for stream in (guidance.video, guidance.audio))


def stages_of(settings: Settings) -> list[StageSettings]:
    """The settings of the stages that run."""
    refine = [] if settings.refine is None else [settings.refine.stage]
    return [settings.denoise, *refine, *([settings.double] if settings.rounds else [])]


def unread_negative(given: str | None, settings: Settings) -> tuple[str, ...]:
    """A note where a negative prompt is given and no stage reads it."""
    text = (given or "").strip()
    if text.lower() in ("", "none") or any(map(wants_negative, stages_of(settings))):
        return ()
    return (
        f"the negative prompt has no effect: preset {settings.preset.name} runs without guidance; nag 11 (--nag on the "
        "command line) makes it count",
    )
