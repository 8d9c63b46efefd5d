"""A language model that writes: Gemma 3, which reads the prompts of LTX-2 and 2.3, or a second Gemma made for answers.

Nothing is ever downloaded. Checked against transformers' own generate().
"""

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointError, MissingPackageError, RequestError, is_out_of_memory
from .gemma import TextEncoder, encoder_files, files_identity, load_text_encoder
from .language_model import GEMMA3, GEMMA4, RELEASES
from .layers import RowsAtUse
from .tokenizer import PromptTokenizer, from_folder

# How a conversation is written down, by the kind of Gemma: system and user text → text that its answer follows.
_TURNS = {
    # Gemma 3 has no system turn: the rules open the user's
    GEMMA3: "<start_of_turn>user\n{system}\n{user}<end_of_turn>\n<start_of_turn>model\n",
    GEMMA4: "<|turn>system\n{system}<turn|>\n<|turn>user\n{user}<turn|>\n<|turn>model\n<|channel>final\n",
}
_STOPS = ("<eos>", "<end_of_turn>", "<turn|>")
_MARKS = re.compile(r"<\|?/?(?:start_of_turn|end_of_turn|turn|channel|think|bos|eos|image|audio)\|?>")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.S)


@dataclass(frozen=True)
class TextSampling:
    """How the next word is drawn. temperature 0 takes the likeliest. top_k, top_p, min_p: which words may be drawn: so
    many, the likeliest that make up so much, those at least so likely as this share of the likeliest; 0 (1 for top_p)
    leaves a rule out. repetition: what the odds of a word that stands in the answer already are divided by."""

    temperature: float = 0.7
    top_k: int = 64
    top_p: float = 0.95
    min_p: float = 0.05
    repetition: float = 1.05
    max_new_tokens: int = 600


@dataclass(frozen=True)
class PromptWriter:
    """A language model ready to write.

    step: ids [1, T] and what it remembers → logits [V] float32 on the CPU of the next word, and its new memory.
    family: of its turns, ``gemma3`` or ``gemma4``. identity: changes when the files do.
    """

    tokenizer: PromptTokenizer
    step: Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]]
    family: str
    device: torch.device
    name: str
    identity: str


def writer_of(encoder: TextEncoder) -> PromptWriter:
    """The text encoder as a writer. Raises RequestError for one that was trained to read only."""
    if encoder.family != GEMMA3 and "ltx" in (encoder.version or "ltx"):
        raise RequestError(
            f"{encoder.name} ({RELEASES[encoder.family]}) reads prompts and cannot write them: name a second Gemma as "
            "the enhancer"
        )
    model, size = encoder.model, encoder.tokenizer.size
    softcap = getattr(model.config, "final_logit_softcapping", None)

    def step(ids: torch.Tensor, memory: Any) -> tuple[torch.Tensor, Any]:
        output, memory = _next_words(model, ids, memory)
        # the output head is the embedding matrix, so nothing more needs loading
        last, words = output.last_hidden_state[:, -1], model.embed_tokens
        found = words.logits(last) if isinstance(words, RowsAtUse) else nn.functional.linear(last, words.weight)
        logits = found[0].float().cpu()
        if softcap:
            logits = softcap * torch.tanh(logits / softcap)
        return logits[:size], memory

    return PromptWriter(encoder.tokenizer, step, encoder.family, encoder.device, encoder.name, encoder.identity)


def _next_words(model: nn.Module, ids: torch.Tensor, memory: Any) -> tuple[Any, Any]:
    """What a language model says behind what it remembers, and what it remembers then."""
    parameters = inspect.signature(type(model).forward).parameters
    name = "cache" if "cache" in parameters else "past_key_values"  # its name in transformers before 5.24
    output = model(input_ids=ids, use_cache=True, **{name: memory})
    return output, getattr(output, name)


def load_writer(path: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.bfloat16) -> PromptWriter:
    """A second Gemma that was made for answers: a Hugging Face folder (Gemma 3, 3n or 4 of any size), or one file of
    Gemma 3 or Gemma 4 12B with its tokenizer inside.

    Raises CheckpointError (no Gemma, damaged, absent), RequestError (a Gemma that cannot write), MissingPackageError.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"the enhancer {path} does not exist: name a Gemma folder or file")
    kind = _folder_kind(path) if path.is_dir() else None
    if path.is_dir() and not (kind or "").startswith(("gemma3", "gemma4")):
        raise CheckpointError(
            f"the enhancer {path.name} is {kind or 'no Hugging Face folder'}, expected an instruction-tuned Gemma 3 or "
            "4"
        )
    if kind is None or kind in ("gemma3", "gemma3_text"):
        return writer_of(load_text_encoder(path, device=device, dtype=dtype))
    return _folder_writer(path, kind, device, dtype)


def _folder_kind(path: Path) -> str | None:
    try:
        return str(json.loads((path / "config.json").read_text("utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _folder_writer(path: Path, kind: str, device: str, dtype: torch.dtype) -> PromptWriter:
    """A model whose network transformers alone knows, such as those with embeddings in every layer."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingPackageError("the enhancer needs transformers: run pip install transformers") from error
    try:
        model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, use_safetensors=True, dtype=dtype)
    except Exception as error:  # transformers raises nearly anything for a damaged or unknown folder
        if is_out_of_memory(error):
            raise
        why = " ".join(str(error).split())[:160]
        raise CheckpointError(f"the enhancer {path.name} cannot be loaded by transformers ({why})") from error
    model = model.to(device).eval().requires_grad_(False)
    tokenizer = from_folder(path)

    def step(ids: torch.Tensor, memory: Any) -> tuple[torch.Tensor, Any]:
        output, memory = _next_words(model, ids, memory)
        return output.logits[0, -1].float().cpu()[: tokenizer.size], memory

    family = GEMMA4 if kind.startswith("gemma4") else GEMMA3
    identity = files_identity(encoder_files(path))
    return PromptWriter(tokenizer, step, family, torch.device(device), path.name, identity)


def conversation(family: str, system: str, user: str) -> str:
    """A system and a user text as a kind of Gemma reads them, up to where its answer begins. Marks of turns in them are
    taken out."""
    return _TURNS[family].format(system=_MARKS.sub("", system).strip(), user=_MARKS.sub("", user).strip())


@torch.inference_mode()
def write(
    writer: PromptWriter,
    system: str,
    user: str,
    *,
    seed: int,
    sampling: TextSampling = TextSampling(),  # noqa: B008 (frozen)
    progress: Callable[[int], None] | None = None,
) -> str:
    """What the model answers; the same seed gives the same text. Thoughts before the answer are left out.

    progress: called with the number of words so far; raising from it stops the work.
    """
    tokenizer = writer.tokenizer
    ids = [tokenizer.bos, *tokenizer.text_ids(conversation(writer.family, system, user))]
    stops = {tokenizer.token_id(piece) for piece in _STOPS} - {None}
    generator = torch.Generator().manual_seed(seed)
    answer: list[int] = []
    step, memory = torch.tensor([ids], device=writer.device), None
    while len(answer) < sampling.max_new_tokens:
        logits, memory = writer.step(step, memory)
        index = next_id(logits, answer, sampling, generator)
        if index in stops:
            break
        answer.append(index)
        if progress is not None:
            progress(len(answer))
        step = torch.tensor([[index]], device=writer.device)
    return _THOUGHT.sub("", tokenizer.text_of(answer))


def next_id(logits: torch.Tensor, answer: list[int], sampling: TextSampling, generator: torch.Generator) -> int:
    """Draw the next word from logits [V]."""
    logits = logits.clone()
    if answer and sampling.repetition != 1:
        seen = torch.tensor(sorted(set(answer)))
        odds = logits[seen]
        logits[seen] = torch.where(odds > 0, odds / sampling.repetition, odds * sampling.repetition)
    if sampling.temperature <= 0:
        return int(logits.argmax())
    if sampling.top_k:
        logits[logits < logits.topk(min(sampling.top_k, len(logits))).values[-1]] = -torch.inf
    chances = torch.softmax(logits / sampling.temperature, -1)
    if sampling.min_p:
        chances[chances < sampling.min_p * chances.max()] = 0
    if sampling.top_p < 1:
        ranked, order = chances.sort(descending=True)
        beyond = ranked.cumsum(0) - ranked >= sampling.top_p * ranked.sum()
        chances[order[beyond]] = 0
    return int(torch.multinomial(chances, 1, generator=generator))
