"""Prompt enhancement: a language model writes a fuller prompt from the user's. Optional, and off unless asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .language_model import GEMMA4
from .writer import PromptWriter, TextSampling, write

_TASK = """\
Write the description of one film shot from the user's idea, for a model that makes pictures and sound together.
"""
_FACTS = """\
- Keep every fact the user gives. Add only what such a scene must have anyway; invent no new people, names, places, \
text or plot.
- Spoken words go in quotation marks, exactly as the user gave them; say who speaks.
"""
_PROSE = """\
- One paragraph of plain prose in the present tense, 120 to 200 words, in the order in which things happen. No \
headings, no lists.
- Start with what is seen. Say who or what moves, how, and what changes from beginning to end; use concrete verbs, \
not moods.
- Say how the camera stands or moves, from how near, and what the light and the colours are like.
- Say what is heard: voices, steps, weather, music.
- If the idea names a style (film, animation, drawing), say so in the first sentence; otherwise describe it as \
filmed reality.
"""
# What the 2.5 release was trained on: captions that always name shot, camera, viewpoint and all of the sound.
_CAPTION = """\
- One paragraph of plain prose in the present tense, strictly in the order in which things happen. No headings, no \
lists.
- Name the kind of shot (such as close-up, medium shot, wide shot), whether the camera stands still or how it moves, \
and from what viewpoint it looks.
- Describe the first picture exactly: who and what is where, clothes, materials, light and colours. Then every action \
with its end.
- Describe all of the sound as a whole: the place, its background, every noise when it is heard, voices and how they \
speak, and whether there is music.
"""
_FROM_IMAGE = """\
- The shot starts from a picture that the viewer already sees. Do not describe how that picture looks: describe what \
happens from there on, and keep people, clothes, place and light as they are.
"""
_GOING_ON = """\
- The shot goes on from the ones before, which the viewer has just seen; the picture does not cut. Describe only what \
changes: what happens next, what moves, what is heard now. Call people, things and places by the same words as before, \
and do not describe them again.
"""
_KEPT_SHOTS, _KEPT_WORDS = 4, 160  # of the shots before, so that the model's attention stays with the new one

DEFAULT_SEED = 10
# As the releases' own templates write.
SAMPLING = {"prose": TextSampling(), "caption": TextSampling(repetition=1.15)}

# What a tokenizer for plain prompts reads badly → what it reads well.
_QUOTES = {"“": '"', "”": '"', "„": '"', "″": '"', "‘": "'", "’": "'", "′": "'"}
_ASCII = str.maketrans(_QUOTES | {"–": "-", "—": "-", "\u2011": "-", "\u00a0": " ", "…": "..."})


@dataclass(frozen=True)
class EnhancedPrompt:
    """A prompt as it was given, and the one that was made of it; by which model and seed."""

    given: str
    text: str
    seed: int
    writer: str

    def __str__(self) -> str:
        return self.text


def style_for(version: str | None) -> str:
    """How prompts of a release are written: ``caption`` from 2.5 on, ``prose`` before and where it is unknown."""
    parts = (version or "").split(".")
    known = [int(part) for part in parts[:2] if part.isdigit()]
    return "caption" if known >= [2, 5] else "prose"


def rules(style: str, *, from_image: bool = False, going_on: bool = False) -> str:
    """What the model is told. from_image: the shot starts from a picture; going_on: from the end of another shot."""
    manner = {"prose": _PROSE, "caption": _CAPTION}[style]
    return _TASK + manner + _FACTS + (_FROM_IMAGE if from_image and not going_on else "") + _GOING_ON * going_on


def question(prompt: str, earlier: Sequence[str] = ()) -> str:
    """What the model is asked: the shots before in order, as many as it is to keep in mind, and the idea."""
    before = [_shortened(text) for text in earlier if text.strip()][-_KEPT_SHOTS:]
    shots = "".join(f"shot before: {text}\n" for text in before)
    return f"{shots}user prompt: {prompt.strip()}"


def clean_answer(text: str) -> str:
    """The answer as one line of plain characters, without what comes before its first letter or opening quote."""
    text = " ".join(text.translate(_ASCII).split())
    start = next((index for index, letter in enumerate(text) if letter.isalnum() or letter == '"'), len(text))
    return text[start:]


def enhance_prompt(
    writer: PromptWriter,
    prompt: str,
    *,
    earlier: Sequence[str] = (),
    from_image: bool = False,
    style: str | None = None,
    seed: int = DEFAULT_SEED,
    sampling: TextSampling | None = None,
    progress: Callable[[int], None] | None = None,
) -> EnhancedPrompt:
    """A fuller prompt; the same seed gives the same text.

    earlier: the prompts of the shots that this one goes on from, oldest first. from_image: it starts from a picture.
    style: see :func:`style_for`; None: by the writer. The prompt stays as it is where the model answers nothing.
    """
    style = style or ("caption" if writer.family == GEMMA4 else "prose")
    system = rules(style, from_image=from_image, going_on=any(text.strip() for text in earlier))
    answer = write(
        writer,
        system,
        question(prompt, earlier),
        seed=seed,
        sampling=SAMPLING[style] if sampling is None else sampling,
        progress=progress,
    )
    return EnhancedPrompt(prompt, clean_answer(answer) or prompt, seed, writer.name)


def _shortened(text: str) -> str:
    words = text.split()
    return " ".join(words) if len(words) <= _KEPT_WORDS else " ".join([*words[:_KEPT_WORDS], "..."])
