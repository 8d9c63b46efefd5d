"""What is to be told of the prompts of a job before they are read."""

from ...sampling.guidance import passes
from ...text.tokenizer import PromptTokenizer, cut_note
from ..presets import StageSettings, guidance_of


def wants_negative(settings: StageSettings) -> bool:
    """Whether a stage's guidance compares with a negative prompt."""
    return "negative" in passes(guidance_of(settings))


def cut_notes(tokenizer: PromptTokenizer, prompt: str, *, name: str = "the prompt") -> tuple[str, ...]:
    """A note where the models do not read a prompt to its end; none else. name: what it calls the prompt."""
    note = cut_note(tokenizer, prompt)
    return () if note is None else (note.replace("the prompt", name, 1),)
