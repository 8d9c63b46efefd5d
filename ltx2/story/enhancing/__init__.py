"""A story's prompts written out by a language model, each with the ones before it in mind.

What was written is kept in the journal, so that the same command finds the same prompts again: a later run writes only
what it has no answer for. Prompts of different scenes know nothing of each other, as their pictures do.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...stages.given.enhanced import EnhancedPrompt, PromptWriter, enhanced_request, reader_and_writer
from ...stages.models import Models
from ...stages.request import Request
from ...values import Progress
from ..journal import Journal
from ..script import StoryScript
from ..takes import scenes_of

# Of the rules that a language model is given: another number has every prompt written anew.
_RULES_VERSION = 1
_LONGEST_CHARACTERS = 20_000


@dataclass(frozen=True)
class Enhancer:
    """Writes prompts out.

    write: a prompt, those of the shots before it in its scene, whether it starts from a picture, and a seed → what was
    made of it. identity: text that changes with the language model.
    """

    write: Callable[[str, Sequence[str], bool, int], EnhancedPrompt]
    identity: str


def pipeline_enhancer(
    models: Models, writer: PromptWriter | None = None, *, progress: Callable[[Progress], None] | None = None
) -> Enhancer:
    """An enhancer by the models' own text encoder, or by a second Gemma. Raises RequestError for a text encoder that
    reads only, before anything is written."""
    if writer is not None:
        identity = writer.identity
    elif models.text_encoder is None and models.context_identity:  # loaded when there is something to write, if ever
        identity = models.context_identity
    else:
        encoder = reader_and_writer(models)
        identity = models.context_identity or encoder.identity

    def write(prompt: str, earlier: Sequence[str], from_image: bool, seed: int) -> EnhancedPrompt:
        asked = Request(prompt=prompt, seed=seed)
        return enhanced_request(models, asked, writer, earlier=earlier, going_on=from_image, progress=progress)[1]

    release = "" if models.release is None else models.release.name  # in whose manner it writes
    return Enhancer(write, f"{identity} {release}")


def enhanced_script(
    script: StoryScript, journal: Journal, enhancer: Enhancer, log: Callable[[str], None]
) -> StoryScript:
    """The story with the prompts that are kept or newly written; those of segments that want none stay as they are. A
    segment's own seed, or the story's, decides what is written: not its place in the film."""
    kept = {entry.get("key"): entry for entry in journal.of("prompt")}
    segments = list(script.segments)
    for scene in scenes_of(script):
        earlier: list[str] = []
        for index in scene:
            segment = segments[index]
            if script.enhance if segment.enhance is None else segment.enhance:
                seed = script.seed if segment.seed is None else segment.seed
                from_image = any(image.frame == 0 for image in segment.images)
                given = (segment.prompt, tuple(earlier), from_image, seed)
                key = _key(enhancer, *given)
                text = _text_of(kept.get(key))
                if text is None:
                    made = enhancer.write(*given)
                    text = made.text[:_LONGEST_CHARACTERS]
                    journal.append("prompt", key=key, text=text, given=made.given, by=made.writer, seed=seed)
                    log(f"segment {index + 1}: prompt by {made.writer}, seed {seed}: {text}")
                segments[index] = replace(segment, prompt=text)
            earlier.append(segments[index].prompt)
    return replace(script, segments=tuple(segments))


def _key(enhancer: Enhancer, prompt: str, earlier: Sequence[str], from_image: bool, seed: int) -> str:
    described = [_RULES_VERSION, enhancer.identity, prompt, list(earlier), from_image, seed]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _text_of(entry: dict | None) -> str | None:
    """The prompt of a journal's entry; None where it holds none."""
    text = None if entry is None else entry.get("text")
    return text if isinstance(text, str) and text.strip() else None
