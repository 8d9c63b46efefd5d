"""Prompt enhancement: the Gemma 3 that reads the prompt first writes a fuller one. Optional, and off unless asked
for."""

import torch
from torch import nn

from ..errors import RequestError
from .gemma import TextEncoder
from .language_model import GEMMA3

MAX_NEW_TOKENS = 512
TEMPERATURE = 0.7
DEFAULT_SEED = 10

_RULES = """\
Write the description of one film shot from the user's idea, for a model that makes pictures and sound together.
- One paragraph of plain prose in the present tense, 120 to 200 words, in the order in which things happen. No \
headings, no lists.
- Start with what is seen. Say who or what moves, how, and what changes from beginning to end; use concrete verbs, \
not moods.
- Say how the camera stands or moves, from how near, and what the light and the colours are like.
- Say what is heard: voices, steps, weather, music. Spoken words go in quotation marks, exactly as the user gave \
them; say who speaks.
- Keep every fact the user gives. Add only what such a scene must have anyway; invent no new people, names, places, \
text or plot.
- If the idea names a style (film, animation, drawing), say so in the first sentence; otherwise describe it as \
filmed reality.
"""
_FROM_IMAGE = """\
- The shot starts from a picture that the viewer already sees. Do not describe how that picture looks: describe what \
happens
  from there on, and keep people, clothes, place and light as they are.
"""
SYSTEM_PROMPTS = {"text": _RULES, "image": _RULES + _FROM_IMAGE}

# What a tokenizer for plain prompts reads badly → what it reads well.
_QUOTES = {"“": '"', "”": '"', "„": '"', "″": '"', "‘": "'", "’": "'", "′": "'"}
_ASCII = str.maketrans(_QUOTES | {"–": "-", "—": "-", "\u2011": "-", "\u00a0": " ", "…": "..."})


def clean_answer(text: str) -> str:
    """The answer as one line of plain characters, without what comes before its first letter or opening quote."""
    text = " ".join(text.translate(_ASCII).split())
    start = next((index for index, letter in enumerate(text) if letter.isalnum() or letter == '"'), len(text))
    return text[start:]


def chat_text(prompt: str, *, from_image: bool = False) -> str:
    """The conversation in Gemma 3's turn format, ready for its answer. Gemma 3 has no system turn: the rules open the
    user's."""
    system = SYSTEM_PROMPTS["image" if from_image else "text"]
    return f"<start_of_turn>user\n{system}\nuser prompt: {prompt.strip()}<end_of_turn>\n<start_of_turn>model\n"


@torch.inference_mode()
def enhance_prompt(
    encoder: TextEncoder,
    prompt: str,
    *,
    from_image: bool = False,
    seed: int = DEFAULT_SEED,
    temperature: float = TEMPERATURE,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> str:
    """A fuller prompt, written by the text encoder itself; the same seed gives the same text.

    from_image: the shot starts from a picture, so only what happens next is written. temperature 0 takes the likeliest
    word.
    Returns the prompt unchanged when the model answers nothing.
    Errors: RequestError for an encoder that cannot write (Gemma 4 LTX is trained to read only).
    """
    if encoder.family != GEMMA3:
        raise RequestError(
            "Prompt enhancement needs the Gemma 3 text encoder; the Gemma 4 of LTX-2.5 cannot write: turn "
            "enhancement off."
        )
    tokenizer, model = encoder.tokenizer, encoder.model
    ids = [tokenizer.bos, *tokenizer.text_ids(chat_text(prompt, from_image=from_image))]
    stops = {index for index in (tokenizer.token_id("<eos>"), tokenizer.token_id("<end_of_turn>")) if index is not None}
    generator = torch.Generator().manual_seed(seed)
    answer: list[int] = []
    step, memory = torch.tensor([ids], device=encoder.device), None
    while len(answer) < max_new_tokens:
        output = model(input_ids=step, past_key_values=memory, use_cache=True)
        memory = output.past_key_values
        # the output head is the embedding matrix, so nothing more needs loading
        logits = (
            nn.functional.linear(output.last_hidden_state[:, -1], model.embed_tokens.weight)[0].float().cpu()
        )  # [V]
        logits = logits[: tokenizer.size]
        if temperature > 0:
            index = int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator))
        else:
            index = int(logits.argmax())
        if index in stops:
            break
        answer.append(index)
        step = torch.tensor([[index]], device=encoder.device)
    return clean_answer(tokenizer.text_of(answer)) or prompt
