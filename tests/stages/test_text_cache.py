"""The second run: a prompt that was encoded before needs no text encoder, not even its file."""

import os
import shutil
from dataclasses import replace

import pytest
import torch

from ltx2.errors import CheckpointError
from ltx2.stages.models import load_models
from ltx2.stages.request import Request, make_job
from ltx2.stages.steps import encode_texts

from ..checkpoint.test_lora_networks import every_network
from .conftest import FAST, checkpoints_of
from .test_pipeline import SMALL

LONG = "a lake at night, " * 600  # more than the models read


def notes(models):
    return make_job(models, Request(**SMALL | {"prompt": LONG, "preset": "ltx2_fast"}), parts=("text",)).notes


def spoil(path):
    """Another content under the same name, size and time: whoever opens the file fails."""
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_prompt_that_comes_again_never_opens_gemma(tiny, tmp_path):
    # of 2.5, whose text projection lies in Gemma's file too
    files, gemma = tiny("2.5"), tmp_path / "gemma.safetensors"
    shutil.copy(files["text_encoder"], gemma)
    lora = every_network(tiny, tmp_path, "2.5")
    given = {"text_encoder": gemma, "loras": [(lora, 0.5)], "config": replace(FAST, cache=tmp_path / "cache")}
    first = load_models(checkpoints_of(files), **given)
    contexts = encode_texts(first, ["a lake", LONG])
    told = notes(first)
    spoil(gemma)

    again = load_models(checkpoints_of(files), **given)
    assert notes(again) == told
    assert any("are not read" in note for note in told)
    for found, expected in zip(encode_texts(again, [" a lake", LONG]), contexts):
        assert torch.equal(found.video, expected.video) and torch.equal(found.audio, expected.audio)
    assert not again.text_source.is_loaded and again.context_identity == first.context_identity
    assert [str(report) for report, _ in again.loras] == [str(report) for report, _ in first.loras]
    # and nothing but a new prompt, other files or other strengths does
    for new in (
        lambda: encode_texts(again, ["a sea"]),
        lambda: load_models(checkpoints_of(files), **given | {"loras": [(lora, 0.25)]}),
        lambda: os.utime(gemma, ns=(1, 1)) or load_models(checkpoints_of(files), **given),
    ):
        with pytest.raises(CheckpointError, match="gemma"):
            new()


def test_a_new_prompt_loads_what_it_needs(tiny, tmp_path):
    files, gemma = tiny("2.3"), tmp_path / "gemma.safetensors"
    shutil.copy(files["text_encoder"], gemma)
    given = {"text_encoder": gemma, "config": replace(FAST, cache=tmp_path / "cache")}
    first = load_models(checkpoints_of(files), **given)
    expected = encode_texts(first, ["a lake", "a sea"])
    for path in (tmp_path / "cache").glob("*context*"):
        path.unlink()
    again, changed = (load_models(checkpoints_of(files), **given) for _ in range(2))
    assert not again.text_source.is_loaded
    for found, one in zip(encode_texts(again, ["a lake", "a sea"]), expected):
        assert torch.equal(found.video, one.video)
    assert again.text_source.is_loaded
    os.utime(gemma, ns=(1, 1))
    with pytest.raises(CheckpointError, match="was changed meanwhile: start again"):
        encode_texts(changed, ["a hill"])
