"""Gemma in every folder that people have, and what is wrong with one told in a sentence."""

import json

import pytest
import torch

from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError
from ltx2.text.gemma import load_text_encoder
from tests.checkpoint.files import save

PREFIXES = ("language_model.model.", "model.language_model.", "model.", "", "gemma3_12b.transformer.model.")


@pytest.fixture(scope="module")
def gemma(tiny):
    """Bare weights, the tokenizer's bytes, and the encoder of the released file."""
    path = tiny("2.3")["text_encoder"]
    tensors = {name: tensor.load() for name, tensor in open_checkpoint(path).tensors.items()}
    tokenizer = tensors.pop("spiece_model").numpy().tobytes()
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    return bare, tokenizer, load_text_encoder(path, dtype=torch.float32)


def write(folder, gemma, *, prefix="model.", shards=2, index=True, tokenizer="tokenizer.model", more=()):
    """A folder of Hugging Face; its tokenizer's place is named from there."""
    names = sorted(gemma[0])
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    folder.mkdir(parents=True)
    for i, file in enumerate(files):
        mine = {prefix + name: gemma[0][name] for name in names[i::shards]}
        save(folder / file, mine | (dict(more) if not i else {}), {"format": "pt"})
    if index:
        weight_map = {prefix + name: files[i % shards] for i, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    if tokenizer:
        (folder / tokenizer).parent.mkdir(exist_ok=True)
        (folder / tokenizer).write_bytes(gemma[1])
    return folder


def check(path, gemma, **options):
    found = load_text_encoder(path, dtype=torch.float32, **options)
    expected = gemma[2].model.state_dict()
    assert all(torch.equal(found.model.state_dict()[name], tensor) for name, tensor in expected.items())
    assert found.tokenizer.text_ids("a lake") == gemma[2].tokenizer.text_ids("a lake")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_in_shards_with_a_vision_tower_beside(tmp_path, gemma, prefix):
    other = {f"vision_tower.{name}.weight": torch.ones(2, 2) for name in ("encoder.layers.0.self_attn.q_proj", "head")}
    folder = write(tmp_path / "gemma", gemma, prefix=prefix, more=other if prefix.startswith("lang") else ())
    check(folder, gemma)


def test_any_place_of_the_tokenizer_and_any_file_of_the_shards(tmp_path, gemma):
    inside = write(tmp_path / "a" / "text_encoder", gemma)
    check(inside.parent, gemma)  # the folder of a pipeline, whose tokenizer lies with the encoder
    beside = write(tmp_path / "b" / "text_encoder", gemma, tokenizer="../tokenizer/tokenizer.model", index=False)
    for given in (beside, beside.parent):
        check(given, gemma)
    for given in (inside / "model-00002-of-00002.safetensors", inside / "model.safetensors.index.json"):
        check(given, gemma)
    bare = write(tmp_path / "c", gemma, tokenizer="")
    with pytest.raises(CheckpointError, match="has neither tokenizer.json nor tokenizer.model"):
        load_text_encoder(bare)
    check(bare, gemma, tokenizer=inside / "tokenizer.model")
    for given, words in (
        ("none.json", "cannot be opened"),
        ("a\0b", "cannot be opened"),
        (str(inside.parent), "neither"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_text_encoder(bare, tokenizer=tmp_path / given)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"Access to model google/gemma-3 is restricted", "Access to model"),
    ],
    ids=["empty", "lfs", "html", "text"],
)
def test_what_lies_in_the_tokenizers_place_is_named(tmp_path, gemma, name, data, words):
    folder = write(tmp_path / "gemma", gemma, tokenizer="")
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_text_encoder(folder)
    assert f"{folder / name} is " in str(caught.value) or len(str(folder)) > 80


def test_folders_that_mean_nothing_whole_are_told(tmp_path, gemma):
    folder = write(tmp_path / "gemma", gemma, index=False)
    save(folder / "model.fp16.safetensors", {"model.norm.weight": gemma[0]["norm.weight"]})
    with pytest.raises(CheckpointError, match="tensors of one name in several files .*choose one of the files"):
        load_text_encoder(folder)
    (folder / "model.fp16.safetensors").unlink()
    for text in (b"{", b"[]", b"\xff\xfe"):
        (folder / "config.json").write_bytes(text)
        with pytest.raises(CheckpointError, match="config.json"):
            load_text_encoder(folder)
    (folder / "config.json").unlink()
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002.safetensors is not beside it"):
        load_text_encoder(folder)
