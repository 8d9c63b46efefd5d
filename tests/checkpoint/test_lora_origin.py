"""A LoRA that says that it was made for another model is told about; one that says nothing, or ours, is not."""

import pytest
import torch

from ltx2.checkpoint.lora import read_lora
from ltx2.checkpoint.lora_report import other_model_notes
from ltx2.stages.models import load_models
from tests.stages.conftest import FAST

from .files import save
from .test_lora import pair

TO_Q = "diffusion_model.transformer_blocks.0.attn1.to_q"


def lora(folder, name="mine", metadata=None, size=8):
    tensors = pair(TO_Q, torch.ones(2, size), torch.ones(size, 2))
    return read_lora(save(folder / f"{name}.safetensors", tensors, metadata))


@pytest.mark.parametrize(
    "base",
    ["wan2.1_14b", "hunyuan-video", "flux1", "sdxl_base_v1-0", "ltxv", "ltxv-13b-0.9.7", "LTX-Video", "qwen_image"],
)
@pytest.mark.parametrize("key", ["ss_base_model_version", "modelspec.architecture"])
def test_other_families(tmp_path, key, base):
    (note,) = other_model_notes(lora(tmp_path, metadata={key: base}), (2, 3, 0))
    assert f"mine.safetensors was made for {base}" in note and "no LTX-2" in note


@pytest.mark.parametrize("base", ["ltx2", "LTX-2", "ltxv2", "ltx-video-2", "ltx2.3", "ltxav", "", "my model", "2"])
def test_ours_and_what_says_nothing(tmp_path, base):
    assert not other_model_notes(lora(tmp_path, metadata={"ss_base_model_version": base}), (2, 3, 0))


@pytest.mark.parametrize(
    "name, metadata, made",
    [
        ("ltx-2-19b-lora-camera-control", {}, (2, 0)),
        ("LTX-2.3-22b-style", {}, (2, 3)),
        ("x", {"ss_base_model_version": "ltx2.5"}, (2, 5)),
        ("x", {"modelspec.title": "ltx-2.3 look"}, (2, 3)),
        ("ltx-2-19b-x", {"model_version": "2.5.0"}, (2, 5)),
        ("ltx2_style", {}, None),
        ("style-ltx-2-v3", {}, None),
        ("ltx-2.35", {}, None),
    ],
)
def test_other_releases(tmp_path, name, metadata, made):
    found = lora(tmp_path, name, metadata)
    for version in ((2, 0), (2, 3, 0), (2, 5, 0), (2, 4), None):
        notes = other_model_notes(found, version)
        differs = made is not None and version not in (None, (2, 4)) and version[:2] != made
        assert bool(notes) == differs, (version, notes)
        assert (
            not notes or f"was made for LTX-{made[0]}.{made[1]}, the model is LTX-{version[0]}.{version[1]}" in notes[0]
        )


def test_it_is_told_where_models_are_loaded(tiny, tmp_path):
    path = lora(tmp_path, "ltx-2-19b-look", size=64).path
    for given in ({"loras": [(path, 1.0)]}, {"distilled_lora": path}):
        told = load_models(tiny("2.3")["transformer"], config=FAST, **given).notes
        assert any("was made for LTX-2.0, the model is LTX-2.3" in note for note in told)
