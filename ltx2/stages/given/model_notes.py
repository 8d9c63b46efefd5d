"""What is to be told of a job's models: LoRAs without what they were made for, drafts, refinement LoRAs."""

from collections.abc import Sequence
from typing import Any

from ...checkpoint.lora_report import without_reference, without_voice
from ...checkpoint.stage_loras import StageLora
from ...networks.transformer.model import LEAST_COMPILED_TOKENS
from ..conditioning.references import check_detail
from ..conditioning.voices import voice_lora_notes
from ..models import Models
from ..presets import Settings
from .prompts import stages_of

MOST_PASSES = 4  # of guidance, which may run in one call


def lora_notes(models: Models, request: Any, settings: Settings) -> tuple[str, ...]:
    """What is known of the model's LoRAs, and whether references or a voice are given that none of them was made
    for."""
    settled: set[str] = set()
    if request.references:
        settled |= {note for lora in models.reference_loras for note in without_reference(lora)}
    if request.voice is not None:
        settled |= {note for lora in models.reference_loras for note in without_voice(lora)}
    if settings.refine is not None and settings.refine.detail:
        of_second = (one.lora for one in models.stage_loras if one.stage == 2)
        settled |= {note for lora in of_second for note in without_reference(lora)}
    notes = [note for note in models.notes if note not in settled]
    if request.references and not any(lora.reference is not None for lora in models.reference_loras):
        notes.append("a reference is shown but no IC-LoRA is loaded: the model was not trained to follow it")
    return (*notes, *voice_lora_notes(request.voice, models.reference_loras))


def unused_lora(models: Models, settings: Settings) -> tuple[str, ...]:
    """A note where a refinement LoRA is given and no stage takes it."""
    if models.distilled_lora is None or any(stage.distilled_lora_strength for stage in stages_of(settings)):
        return ()
    name = models.distilled_lora.path.name
    if settings.draft and settings.half_size:
        return (f"the refinement LoRA {name} has no effect: a draft has no second stage",)
    why = "has no second stage" if settings.refine is None else "runs it at strength 0"
    return (f"the refinement LoRA {name} has no effect: preset {settings.preset.name} {why}",)


def detail_notes(models: Models, request: Any, settings: Settings) -> tuple[str, ...]:
    """What is to be told where the second stage looks at the first one's result, or is asked to and there is none.
    Raises RequestError for a LoRA that expects something else."""
    if settings.refine is None:
        asked = request.overrides.get("refine", {}).get("detail")
        return ("refine.detail has no effect: there is no second stage",) if asked else ()
    if not settings.refine.detail:
        return ()
    loras = [one.lora for one in models.stage_loras if one.stage == 2 and one.strength]
    for lora in loras:
        check_detail(lora)
    if any(lora.reference is not None for lora in loras):
        return ()
    return (
        "refine.detail shows the first stage to the second, but no detailing LoRA is loaded for it: add the release's "
        "at stage 2 (FILE@2), or set refine.detail to false",
    )


def draft_notes(models: Models, settings: Settings) -> tuple[str, ...]:
    """A note on what a draft is."""
    if not settings.draft:
        return ()
    by = "the model's own decoder" if models.tiny_decoder is None else "the tiny autoencoder"
    made = ": the first stage alone, enlarged," if settings.half_size else ""
    return (f"this is a draft{made} with pictures by {by}",)


def uncompiled(models: Models, request: Any, video_tokens: int) -> tuple[str, ...]:
    """A note where blocks are to be compiled and no call of the transformer is long enough; video_tokens: of the
    largest stage."""
    if not models.config.compile or video_tokens * request.batch_size * MOST_PASSES >= LEAST_COMPILED_TOKENS:
        return ()
    sizes = f"this clip has {video_tokens} tokens, compiled blocks are faster from {LEAST_COMPILED_TOKENS} on"
    return (f"compile has no effect: {sizes}",)


def without_distilled_lora(models: Models, settings: Settings) -> tuple[str, ...]:
    """What to warn of where a dev model runs in few steps without the LoRA that makes it fit for that."""
    wanted = any(stage.distilled_lora_strength for stage in stages_of(settings))
    distilled = any("distilled" in name.lower() for name in models.names)
    dev = settings.preset.guided or (settings.denoise.distilled_lora_strength and not distilled)
    if models.distilled_lora is not None or not dev or not wanted:
        return ()
    return (
        f"preset {settings.preset.name} runs a dev model in few steps without its distilled LoRA: the result will be "
        f"soft; name the release's distilled LoRA (rank {models.release.distilled_lora_rank}), or override "
        "distilled_lora_strength to 0",
    )


def stage_lora_notes(loras: Sequence[StageLora], settings: Settings) -> tuple[str, ...]:
    """The strength of each LoRA in each stage, and that one has no effect where its stage is not run."""
    notes = []
    for path in dict.fromkeys(one.lora.path for one in loras):
        strengths = {stage: [o.strength for o in loras if o.lora.path == path and o.stage == stage] for stage in (1, 2)}
        if settings.refine is None:
            if strengths[1]:
                notes.append(f"LoRA {path.name}: strength {sum(strengths[1]):g} in the one stage")
            if strengths[2]:
                only = "a draft" if settings.draft and settings.half_size else f"preset {settings.preset.name}"
                notes.append(f"LoRA {path.name} has no effect at stage 2: {only} has no second stage")
            continue
        by_stage = " and ".join(f"{sum(strengths[stage]):g} in stage {stage}" for stage in (1, 2))
        notes.append(f"LoRA {path.name}: strength {by_stage}")
    return tuple(notes)
