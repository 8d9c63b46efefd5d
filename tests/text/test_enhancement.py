"""Prompt enhancement: deterministic, bounded, and only with an encoder that can write."""

import dataclasses

import pytest
import torch

from ltx2.errors import RequestError
from ltx2.text.enhancement import chat_text, clean_answer, enhance_prompt
from ltx2.text.gemma import load_text_encoder


@pytest.fixture(scope="module")
def encoder(tiny):
    return load_text_encoder(tiny("2.3")["text_encoder"], dtype=torch.float32)


def test_same_seed_same_text(encoder):
    first = enhance_prompt(encoder, "a dog runs", seed=1, max_new_tokens=12)
    assert first and first == enhance_prompt(encoder, "a dog runs", seed=1, max_new_tokens=12)
    assert first != enhance_prompt(encoder, "a dog runs", seed=2, max_new_tokens=12)


def test_greedy_equals_transformers(encoder):
    """The likeliest words, as generate() of the full language model finds them."""
    from transformers import Gemma3ForCausalLM

    model = Gemma3ForCausalLM(encoder.model.config).eval()
    model.model.load_state_dict(encoder.model.state_dict())
    model.lm_head.weight = model.model.embed_tokens.weight
    ids = [encoder.tokenizer.bos, *encoder.tokenizer.text_ids(chat_text("a dog runs"))]
    inputs = torch.tensor([ids])
    out = model.generate(
        inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=8, do_sample=False, eos_token_id=[1, 5]
    )
    expected = [index for index in out[0, len(ids) :].tolist() if index not in (1, 5)]
    found = enhance_prompt(encoder, "a dog runs", temperature=0, max_new_tokens=8)
    assert found == (clean_answer(encoder.tokenizer.text_of(expected)) or "a dog runs")


def test_an_empty_answer_keeps_the_prompt(encoder):
    assert enhance_prompt(encoder, "a dog runs", max_new_tokens=0) == "a dog runs"


def test_gemma4_cannot_write(encoder):
    with pytest.raises(RequestError, match="Gemma 3 text encoder.*turn enhancement off"):
        enhance_prompt(dataclasses.replace(encoder, family="gemma4"), "a dog runs")


def test_answer_is_plain_text():
    assert clean_answer("\n **— “Hi”,\u00a0she’s there…\n\nnow") == '"Hi", she\'s there... now'
    assert clean_answer("* -") == ""


def test_chat_has_both_rules_and_prompt():
    text = chat_text(" a dog ", from_image=True)
    assert text.startswith("<start_of_turn>user\n") and text.endswith(
        "user prompt: a dog<end_of_turn>\n<start_of_turn>model\n"
    )
    assert len(text) > len(chat_text("a dog"))
