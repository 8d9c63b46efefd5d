"""Folders, indexes and shards: a diffusers pipeline loads as the release's own file does, everything else is named."""

import json
import os

import pytest
import torch

from ltx2.checkpoint import models as load
from ltx2.checkpoint.folders import has_text_encoder, model_name, parts_of
from ltx2.checkpoint.layout import components
from ltx2.checkpoint.lora import read_lora
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.cli import main
from ltx2.errors import CheckpointError
from tests.networks.transformer.references import diffusers_name
from tests.networks.video_vae.test_parity import diffusers_names

from . import small
from .files import save
from .test_lora import pair

NETWORKS = (
    "transformer",
    "text_projection",
    "video_encoder",
    "video_decoder",
    "audio_encoder",
    "audio_decoder",
    "vocoder",
)
WORDS = {
    "ups": "upsamplers",
    "resblocks": "resnets",
    "conv_pre": "conv_in",
    "conv_post": "conv_out",
    "act_post": "act_out",
}
PREFIX, FILE = "model.diffusion_model.", "diffusion_pytorch_model"


def without(prefix, tensors):
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def statistics(tensors, prefix):
    stem = f"{prefix}.per_channel_statistics."
    return {"latents_mean": tensors[f"{stem}mean-of-means"], "latents_std": tensors[f"{stem}std-of-means"]}


def as_pipeline(folder, path, shards=3):
    """A release's file as a diffusers pipeline, the transformer in shards with an index."""
    file = open_checkpoint(path)
    tensors = {name: tensor.load() for name, tensor in file.tensors.items()}
    config = json.loads(file.metadata["config"])
    own = without(PREFIX, tensors)
    transformer = {diffusers_name(name): tensor for name, tensor in own.items() if "connector" not in name}
    joining = {name: tensor for name, tensor in own.items() if "connector" in name}
    joining |= without("text_embedding_projection.", tensors)
    renames = (("_embeddings_connector", "_connector"), ("aggregate_embed", "text_proj_in"))
    parts = {
        "connectors": {diffusers_name(n.replace(*renames[0]).replace(*renames[1])): t for n, t in joining.items()},
        "vae": statistics(tensors, "vae")
        | {
            f"{half}.{name}": tensor
            for half in ("encoder", "decoder")
            for name, tensor in diffusers_names(half, config["vae"], without(f"vae.{half}.", tensors)).items()
        },
        "audio_vae": statistics(tensors, "audio_vae")
        | {n: t for n, t in without("audio_vae.", tensors).items() if "statistics" not in n},
        "vocoder": {
            ".".join(WORDS.get(part, part) for part in name.split(".") if part != "lowpass"): tensor
            for name, tensor in without("vocoder.", tensors).items()
            if "inverse_basis" not in name
        },
    }
    names = sorted(transformer)
    files = [f"{FILE}-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    weight_map = {name: files[i * shards // len(names)] for i, name in enumerate(names)}
    (folder / "transformer").mkdir(parents=True)
    for one in files:
        save(folder / "transformer" / one, {n: transformer[n] for n in names if weight_map[n] == one}, {"format": "pt"})
    (folder / "transformer" / f"{FILE}.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    block = config["transformer"]
    double = block["frequencies_precision"] == "float64"
    about = {
        key: block[key] for key in ("num_attention_heads", "attention_head_dim", "rope_type", "cross_attention_dim")
    }
    about |= {f"audio_{key}": block[f"audio_{key}"] for key in ("num_attention_heads", "attention_head_dim")}
    about |= {"rope_double_precision": double, "audio_cross_attention_dim": block["audio_cross_attention_dim"]}
    (folder / "transformer" / "config.json").write_text(json.dumps(about))
    for name, found in parts.items():
        (folder / name).mkdir()
        save(folder / name / f"{FILE}.safetensors", found)
    connector = {f"video_{key}": block[key] for key in block if key.startswith("connector_num_")}
    connector["video_connector_attention_head_dim"] = block["connector_attention_head_dim"]
    connector |= {key: block[key] for key in block if key.startswith("audio_connector_")}
    connector |= {
        "rope_type": block["rope_type"],
        "rope_double_precision": double,
        "caption_channels": block["caption_channels"],
    }
    (folder / "connectors" / "config.json").write_text(json.dumps(connector))
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def pipelines(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    return {
        version: (
            tiny(version)["transformer"],
            as_pipeline(folder / f"LTX-{version}-Distilled", tiny(version)["transformer"]),
        )
        for version in ("2.0", "2.3")
    }


@pytest.mark.parametrize("version", ["2.0", "2.3"])
def test_a_pipeline_of_diffusers_is_what_the_releases_file_is(pipelines, version):
    file, folder = pipelines[version]
    for one, other in zip(both := (open_checkpoint(file), open_checkpoint(folder)), reversed(both)):
        assert components(one).keys() == components(other).keys()
    for name in NETWORKS:
        ours, theirs = (getattr(load, f"load_{name}")(checkpoint, dtype=torch.float32) for checkpoint in both)
        one, other = ours.state_dict(), theirs.state_dict()
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one if "inverse" not in key), name
        if "video" not in name:  # a file's configuration has both halves of a VAE
            assert ours.config == theirs.config, name
    ours, theirs = (
        [make(one, dtype=torch.float32) for make in (load.load_video_encoder, load.load_video_decoder)] for one in both
    )
    clip, latent = torch.rand(1, 3, 9, 64, 64) * 2 - 1, torch.randn(1, 128, 2, 2, 2)
    for value, encoder, decoder in ((clip, ours[0], theirs[0]), (latent, ours[1], theirs[1])):
        with torch.no_grad():
            assert torch.equal(encoder(value), decoder(value))
    for one, other in zip(*(load.load_connectors(checkpoint) for checkpoint in both)):
        assert one.config == other.config
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


def test_any_file_of_a_pipeline_stands_for_its_network(pipelines, capsys):
    _, folder = pipelines["2.3"]
    shards = sorted((folder / "transformer").glob("*.safetensors"))
    index = next(
        (folder / "transformer").glob("*.json.json"), folder / "transformer" / f"{FILE}.safetensors.index.json"
    )
    for given in (folder / "transformer", shards[1], index):
        assert parts_of(given) == shards and len(components(open_checkpoint(given))["transformer"].tensors) == 402
        assert main(["inspect", str(given)]) == 0 and "transformer: 402 tensors" in capsys.readouterr().out
    assert {model_name(path) for path in open_checkpoint(folder).paths} == {"LTX-2.3-Distilled"}
    assert model_name(shards[0].parent.parent.parent / "x.safetensors") == "x.safetensors"
    assert not has_text_encoder(folder) and not has_text_encoder(index)


def refused(path, *parts) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert all(part in str(caught.value) for part in (str(path), *parts)), caught.value


def test_folders_and_indexes_that_are_none_are_told(tmp_path, capsys):
    refused(tmp_path, "a folder without weights")
    assert main(["inspect", str(tmp_path)]) == 1 and "a folder without weights" in capsys.readouterr().err
    (tmp_path / "model_index.json").write_text("{}")
    refused(tmp_path, "a diffusers pipeline without the folder transformer")
    (tmp_path / "model_index.json").unlink()
    save(tmp_path / "a.safetensors", small.transformer())
    assert parts_of(tmp_path) == [tmp_path / "a.safetensors"]
    save(tmp_path / "b.safetensors", small.transformer())
    refused(tmp_path, "2 models (a.safetensors, b.safetensors)", "choose one")
    index = tmp_path / "b.safetensors.index.json"
    for text in (
        "",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"x": 3}}',
        '{"weight_map": {"x": "../a.safetensors"}}',
        "[" * 100_000,
    ):
        index.write_text(text)
        refused(index, "is not an index of safetensors shards")
    index.write_text('{"weight_map": {"x": "c.safetensors", "y": "a.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 shards \(c.safetensors\): finish the download"):
        open_checkpoint(index)


def test_a_folder_of_peft_is_a_lora(tmp_path):
    save(tmp_path / "adapter_model.safetensors", pair("base_model.model.proj_in", torch.ones(2, 8), torch.ones(8, 2)))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 8, "r": 2}')
    found = read_lora(tmp_path)
    assert found.differences["patchify_proj"].scale == 4


def test_a_configuration_that_cannot_be_read_is_told(tmp_path):
    save(tmp_path / "x.safetensors", {"transformer_blocks.0.attn1.norm_q.weight": torch.ones(2)})
    for text in ("{", "[]", "\xff" * 3):
        (tmp_path / "config.json").write_text(text, "latin-1")
        with pytest.raises(CheckpointError, match="config.json is not a network's configuration"):
            open_checkpoint(tmp_path / "x.safetensors")


def test_a_lora_keeps_the_names_that_its_configuration_speaks_of(tmp_path):
    tensors = pair("transformer.time_embed.linear", torch.ones(2, 8), torch.ones(8, 2))
    tensors |= pair("transformer.transformer_blocks.0.attn1.norm_q", torch.ones(2, 8), torch.ones(8, 2))
    metadata = {
        "lora_adapter_metadata": '{"transformer.lora_alpha": 4, "transformer.alpha_pattern": {"time_embed.linear": 1}}'
    }
    found = read_lora(save(tmp_path / "l.safetensors", tensors, metadata)).differences
    assert {name: one.scale for name, one in found.items()} == {
        "adaln_single.linear": 0.5, "transformer_blocks.0.attn1.q_norm": 2,
    }  # fmt: skip


@pytest.mark.parametrize("inner, name", [("transformer", "model.safetensors"), ("snapshots/0a1b", "model_index.json")])
def test_a_folder_around_the_models_says_which_one_is_meant(tmp_path, inner, name):
    """As the whole of a pipeline without its index, and as Hugging Face's cache keeps models."""
    for folder in ("blobs", ".locks", inner):
        (tmp_path / folder).mkdir(parents=True)
    for file in (tmp_path / "blobs" / "0a1b2c", tmp_path / ".locks" / "a.safetensors", tmp_path / inner / name):
        file.touch()
    refused(
        tmp_path, "a folder without weights", f"its weights are in {inner.replace('/', os.sep)}, so name that folder"
    )


def test_a_part_under_the_name_of_another_is_told(tmp_path):
    first, second = {"a.weight": torch.ones(2)}, {"b.weight": torch.ones(2)}
    paths = [tmp_path / f"m-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for path, tensors in zip(paths, (first, second)):
        save(path, tensors)
    assert set(open_checkpoint(tmp_path).tensors) == {"a.weight", "b.weight"}
    save(paths[1], first)
    for path in (tmp_path, paths[0], paths[1]):
        with pytest.raises(
            CheckpointError, match=r"00002-of-00002\S* holds tensor a.weight as m-00001.*: get both again"
        ):
            open_checkpoint(path)


def test_a_file_whose_beginning_was_never_written_is_told(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(bytes(4096) + b"x" * 4096)
    with pytest.raises(
        CheckpointError, match="begins with zeros where its header stands: its download is not finished"
    ):
        open_checkpoint(path)
