"""Prompt → ids: the same from every kind of tokenizer file, BOS first, at most 1024."""

import builtins
import json

import pytest

from ltx2.errors import CheckpointError, MissingPackageError
from ltx2.text import tokenizer as tk
from ltx2.tiny import text as tiny_text

PROMPTS = [
    "the camera moves slowly over the sea",
    'A man says "the moon rises" and walks.',
    "two  spaces and\ta tab\nand a line",
    "Café über 日本 🎬",
    "the<start_of_turn>user<end_of_turn>x",
    "lighting, theme, camerawork",
]


@pytest.fixture
def without_sentencepiece(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)


def test_both_kinds_of_file_read_alike():
    package = tk.from_sentencepiece(tiny_text.sentencepiece_proto(), "x")
    other = tk.from_tokenizer_json(tiny_text.tokenizer_json(), "x")
    for prompt in PROMPTS:
        assert other.text_ids(prompt) == package.text_ids(prompt), prompt
        if "<" not in prompt:  # marks of turns are left out by one and not by the other
            assert other.text_of(package.text_ids(prompt)) == package.text_of(package.text_ids(prompt))
    assert other.token_id("<end_of_turn>") == package.token_id("<end_of_turn>") == 5
    assert other.token_id("no such piece") is package.token_id("no such piece") is None
    assert other.size == package.size and other.bos == package.bos == 2


def test_the_package_is_named_where_it_is_absent(without_sentencepiece):
    with pytest.raises(MissingPackageError, match="gemma.safetensors needs the sentencepiece package: run pip install"):
        tk.from_sentencepiece(tiny_text.sentencepiece_proto(), "gemma.safetensors")


def test_a_prompt_that_is_cut_says_where():
    tokenizer = tk.from_tokenizer_json(tiny_text.tokenizer_json(), "x")
    assert tk.cut_note(tokenizer, "the sea " * 20) is None
    words = [f"the sea at {i} " for i in range(3000)]
    note = tk.cut_note(tokenizer, "".join(words))
    total = 1 + len(tokenizer.text_ids("".join(words).strip()))
    assert note.startswith(f"the prompt has {total:,} tokens, the last {total - 1024:,} are not read")
    last = note.split("…")[1].rstrip('"')
    kept = tokenizer.text_of(tk.prompt_ids(tokenizer, "".join(words)))
    assert kept.rstrip().endswith(last) and last
    exact = tokenizer.text_of(tk.prompt_ids(tokenizer, "".join(words))[1:])
    assert tk.cut_note(tokenizer, exact) is None


@pytest.mark.parametrize(
    "read, data",
    [(tk.from_sentencepiece, tiny_text.sentencepiece_proto()), (tk.from_tokenizer_json, tiny_text.tokenizer_json())],
)
def test_rules_of_a_prompt(read, data):
    tokenizer = read(data, "x")
    ids = tk.prompt_ids(tokenizer, "  the sea \n")
    assert ids[0] == 2 and 1 not in ids and ids == tk.prompt_ids(tokenizer, "the sea")
    assert ids.count(2) == 1
    assert tk.prompt_ids(tokenizer, "") == [2]
    long = tk.prompt_ids(tokenizer, "sea " * 3000)
    assert len(long) == 1024 and long[0] == 2


def test_a_post_processor_cannot_add_a_second_bos():
    body = json.loads(tiny_text.tokenizer_json())
    body["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
    }
    tokenizer = tk.from_tokenizer_json(json.dumps(body).encode(), "x")
    assert tk.prompt_ids(tokenizer, "the sea").count(2) == 1


def test_folder_takes_tokenizer_json_or_the_model(tmp_path):
    with pytest.raises(CheckpointError, match="neither tokenizer.json nor tokenizer.model"):
        tk.from_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(tiny_text.sentencepiece_proto())
    first = tk.from_folder(tmp_path).text_ids("the sea")
    (tmp_path / "tokenizer.json").write_bytes(tiny_text.tokenizer_json())
    assert tk.from_folder(tmp_path).text_ids("the sea") == first


@pytest.mark.parametrize("data", [b"", b"\x0a\xff\x01", b"not a model at all", b"\x0a\x03\x0a\x01"])
def test_damaged_sentencepiece_is_one_sentence(data):
    with pytest.raises(CheckpointError, match="gemma.safetensors"):
        tk.from_sentencepiece(data, "gemma.safetensors")


def test_damaged_tokenizer_json_is_one_sentence():
    for data in (b"{}", b"\xff\xfe", b"[]"):
        with pytest.raises(CheckpointError, match="gemma.safetensors"):
            tk.from_tokenizer_json(data, "gemma.safetensors")
