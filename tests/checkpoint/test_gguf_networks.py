"""Networks out of GGUF files: shapes whose outer dimensions of 1 were left out, models in parts, other language
models."""

import json
import shutil

import pytest
import torch

from ltx2.checkpoint import models
from ltx2.checkpoint.quantization.packed import without_outer_ones
from ltx2.checkpoint.reader import open_checkpoint, parts_of
from ltx2.errors import CheckpointError
from ltx2.text.gemma import encoder_files, load_text_encoder

from . import gguf_files as G
from .files import save

F32 = 0


def as_gguf(tensors: dict[str, torch.Tensor], drop_ones: bool) -> dict:
    """Tensors as an F32 file holds them, bare of outer ones as some writers leave them."""

    def shape(tensor):
        return (without_outer_ones(tensor.shape) or (1,)) if drop_ones else tuple(tensor.shape)

    return {name: (shape(t), F32, t.float().contiguous().numpy().tobytes()) for name, t in tensors.items()}


def written(tiny, version, path, *, drop_ones, with_config, only="model.diffusion_model."):
    checkpoint = open_checkpoint(tiny(version)["transformer"])
    tensors = {name: lazy.load() for name, lazy in checkpoint.tensors.items() if name.startswith(only)}
    values = [G.value("general.architecture", 8, G.text("ltxv"))]
    if with_config:
        values.append(G.value("config", 8, G.text(json.dumps(json.loads(checkpoint.metadata["config"])))))
    return G.write(path, as_gguf(tensors, drop_ones), values)


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
@pytest.mark.parametrize("with_config", [False, True])
def test_outer_dimensions_of_one_may_be_missing(tiny, tmp_path, version, with_config):
    whole, bare = (
        written(tiny, version, tmp_path / f"{drop}.gguf", drop_ones=drop, with_config=with_config)
        for drop in (False, True)
    )
    networks = [models.load_transformer(open_checkpoint(path), dtype=torch.float32) for path in (whole, bare)]
    expected, found = (network.state_dict() for network in networks)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape and torch.equal(found[name], tensor), name
    if version == "2.5":
        assert expected["keyframes_abs_pos_embedding"].shape[0] == 1  # of which a writer leaves the 1 out
    if with_config or version != "2.0":  # whose heads nothing but the config tells where they are not the release's
        pairs = zip(*(models.load_connectors(open_checkpoint(path), dtype=torch.float32) for path in (whole, bare)))
        assert all(torch.equal(a, b) for x, y in pairs for a, b in zip(x.parameters(), y.parameters()))


@pytest.mark.parametrize("shape", [(2, 16), (32, 1), (1, 32, 1), (16,), (33,)])
def test_other_differences_of_shape_are_refused(tiny, tmp_path, shape):
    checkpoint = open_checkpoint(tiny("2.5")["transformer"])
    tensors = {name: lazy.load() for name, lazy in checkpoint.tensors.items()}
    name = "model.diffusion_model.keyframes_abs_pos_embedding"
    if without_outer_ones(shape) == without_outer_ones(tensors[name].shape):
        pytest.skip("the same but for outer ones")
    tensors[name] = torch.zeros(shape)
    path = save(tmp_path / "a.safetensors", tensors, dict(checkpoint.metadata))
    with pytest.raises(CheckpointError, match="another shape"):
        models.load_transformer(open_checkpoint(path))


# --- parts


def in_parts(tiny, folder, count, suffix=".gguf"):
    checkpoint = open_checkpoint(tiny("2.3")["transformer"])
    tensors = {n: lazy.load() for n, lazy in checkpoint.tensors.items() if n.startswith("model.diffusion_model.")}
    names = sorted(tensors)
    paths = []
    for number in range(count):
        part = {name: tensors[name] for name in names[number::count]}
        path = folder / f"model-{number + 1:05}-of-{count:05}{suffix}"
        values = [
            G.value("split.no", 2, number.to_bytes(2, "little")),
            G.value("split.count", 2, count.to_bytes(2, "little")),
        ]
        if suffix == ".gguf":
            paths.append(G.write(path, as_gguf(part, False), values))
        else:
            paths.append(save(path, part, dict(checkpoint.metadata)))
    return paths


@pytest.mark.parametrize("suffix", [".gguf", ".safetensors"])
@pytest.mark.parametrize("count", [2, 3])
def test_any_part_opens_all(tiny, tmp_path, count, suffix):
    paths = in_parts(tiny, tmp_path, count, suffix)
    expected = models.load_transformer(open_checkpoint(tiny("2.3")["transformer"]), dtype=torch.float32).state_dict()
    for given in ([paths[0]], [paths[-1]], paths, list(reversed(paths))):
        checkpoint = open_checkpoint(given)
        assert sorted(checkpoint.paths) == sorted(paths)
        found = models.load_transformer(checkpoint, dtype=torch.float32).state_dict()
        assert all(torch.equal(found[name].float(), tensor.float()) for name, tensor in expected.items())
    paths[1].unlink()
    with pytest.raises(CheckpointError, match=rf"{paths[1].name} is not beside it \(1 are missing\): finish"):
        open_checkpoint(paths[0])


def test_a_part_under_another_name_says_what_it_is(tiny, tmp_path):
    paths = in_parts(tiny, tmp_path, 2)
    renamed = shutil.copy(paths[1], tmp_path / "mine.gguf")
    with pytest.raises(CheckpointError, match="is part 2 of 2 of a model, and its name does not say so"):
        open_checkpoint(renamed)


def test_names_that_look_like_parts(tmp_path):
    for name in ("a-00001-of-00001.gguf", "a-00000-of-00000.gguf", "a-1-of-2.gguf", "a-00001-of-99999.gguf"):
        (tmp_path / name).write_bytes(b"")
        assert parts_of(tmp_path / name) == [tmp_path / name]
    assert parts_of(tmp_path / "absent-00001-of-00002.gguf") == [tmp_path / "absent-00001-of-00002.gguf"]


# --- language models

HIDDEN = 4


def test_other_language_models_are_named(tmp_path):
    for kind in ("gemma4", "gemma2", "qwen3", "llama"):
        values = [G.value("general.architecture", 8, G.text(kind))]
        tensors = {"token_embd.weight": torch.zeros(8, HIDDEN), "blk.0.attn_q.weight": torch.zeros(HIDDEN, HIDDEN)}
        path = G.write(tmp_path / f"{kind}.gguf", as_gguf(tensors, False), values)
        with pytest.raises(CheckpointError, match=f"a language model of kind '{kind}' in llama.cpp's form, expected"):
            load_text_encoder(path)


def test_a_folder_may_hold_one_gguf_model(tmp_path):
    with pytest.raises(CheckpointError, match="holds no safetensors file and no GGUF file"):
        encoder_files(tmp_path)
    first = [tmp_path / f"gemma-0000{i}-of-00002.gguf" for i in (1, 2)]
    for path in (*first, tmp_path / "mmproj-gemma.gguf"):
        path.write_bytes(b"")
    assert encoder_files(tmp_path) == first
    (tmp_path / "other-Q4_0.gguf").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds 2 GGUF models .*choose one of the files"):
        encoder_files(tmp_path)
