"""Components in every layout: one file, split files, conversions without prefixes or metadata."""

import json

import pytest
import torch

from ltx2.checkpoint import models
from ltx2.checkpoint.layout import MissingComponent, components, find_component, model_version
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError

from . import small
from .files import save

VERSIONS = ("2.0", "2.3", "2.5")


def opened(tmp_path, tensors, metadata=None, name="a"):
    return open_checkpoint(save(tmp_path / f"{name}.safetensors", tensors, metadata))


def config(**blocks) -> dict[str, str]:
    return {"config": json.dumps(blocks)}


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", ""])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_transformer_under_any_prefix(tmp_path, version, prefix):
    tensors = small.transformer(version)
    checkpoint = opened(
        tmp_path, small.prefixed(tensors | small.connectors(), prefix), config(transformer=small.METADATA)
    )
    found = components(checkpoint)
    assert set(found) == {"transformer", "video_connector", "audio_connector"}
    assert set(found["transformer"].tensors) == set(tensors)
    assert model_version(checkpoint) == tuple(map(int, version.split(".")))
    network = models.load_transformer(checkpoint)
    assert network.config == small.CONFIGS[version]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_without_metadata_shapes_decide(tmp_path, version):
    checkpoint = opened(tmp_path, small.transformer(version) | small.connectors())
    assert models.load_transformer(checkpoint).config == small.CONFIGS[version]
    video, audio = models.load_connectors(checkpoint)
    assert (video.config.width, audio.config.width, video.config.heads, video.config.layers) == (
        small.WIDTH,
        small.AUDIO_WIDTH,
        2,
        1,
    )


def test_connectors_of_a_file_of_their_own_are_described_by_the_transformers(tmp_path):
    described = config(transformer={**small.METADATA, "rope_type": "interleaved"})
    first = opened(tmp_path, small.prefixed(small.transformer()), described, "transformer")
    second = opened(tmp_path, small.connectors(), None, "connectors")
    both = open_checkpoint(first.paths, second.paths)
    video, _ = models.load_connectors(both)
    assert video.config.rotary.interleaved
    with pytest.raises(MissingComponent, match="transformer.safetensors holds no video connector"):
        models.load_connectors(first)


def test_a_component_comes_from_the_first_file_alone(tmp_path):
    first = opened(tmp_path, small.prefixed(small.transformer("2.3", seed=1)), None, "one")
    second = opened(tmp_path, small.prefixed(small.transformer("2.0", seed=2)), None, "two")
    component = find_component(open_checkpoint(first.paths, second.paths), "transformer")
    assert component.paths == first.paths and "caption_projection.linear_1.weight" not in component.tensors


def test_shards_are_put_together(tmp_path):
    tensors = list(small.prefixed(small.transformer()).items())
    halves = [opened(tmp_path, dict(part), None, name) for part, name in ((tensors[::2], "b"), (tensors[1::2], "a"))]
    component = find_component(open_checkpoint(halves[0].paths, halves[1].paths), "transformer")
    assert len(component.tensors) == len(tensors) and len(component.paths) == 2


def test_metadata_and_tensors_disagree_about_the_version(tmp_path):
    tensors = small.prefixed(small.transformer("2.5"))
    assert model_version(opened(tmp_path, tensors, {"model_version": "0.9.8"})) == (2, 5)
    assert model_version(opened(tmp_path, tensors, {"model_version": "2.5.0-rc1"})) == (2, 5, 0)
    newer = opened(tmp_path, tensors, {"model_version": "3.1"})
    with pytest.raises(CheckpointError, match="3.1"):
        models.load_transformer(newer)


def test_missing_components_name_the_released_file(tmp_path):
    newest = opened(tmp_path, small.prefixed(small.transformer("2.5")))
    with pytest.raises(MissingComponent, match="load text_encoders/gemma4-12b-with-proj-ltx-2.5 as well"):
        find_component(newest, "text_projection")
    first = opened(tmp_path, small.prefixed(small.transformer("2.0")))
    with pytest.raises(MissingComponent, match="the ltx-2-19b or ltx-2.3-22b checkpoint"):
        find_component(first, "vocoder")
    with pytest.raises(MissingComponent, match="a.safetensors holds no transformer"):
        models.load_transformer(opened(tmp_path, {"something": torch.ones(1)}))


def test_sound_and_picture_halves_under_bare_names_are_told_apart(tmp_path):
    video = {"encoder.conv_in.conv.weight": torch.ones(4, 3, 3, 3, 3)}
    video["decoder.up_blocks.0.res_blocks.0.conv1.conv.weight"] = torch.ones(1, 1, 1, 1, 1)
    video |= {
        f"per_channel_statistics.{name}": torch.ones(4)
        for name in ("mean-of-means", "std-of-means", "channel", "mean-of-stds")
    }
    audio = {
        "encoder.conv_in.conv.weight": torch.ones(4, 2, 3, 3),
        "decoder.conv_in.conv.weight": torch.ones(4, 2, 3, 3),
    }
    both = open_checkpoint(opened(tmp_path, video, None, "video").paths, opened(tmp_path, audio, None, "audio").paths)
    found = components(both)
    assert set(found) == {"video_encoder", "video_decoder", "audio_encoder", "audio_decoder"}
    assert {name: component.paths[0].stem for name, component in found.items()} == {
        "video_encoder": "video",
        "video_decoder": "video",
        "audio_encoder": "audio",
        "audio_decoder": "audio",
    }
    statistics = [name for name in found["video_encoder"].tensors if name.startswith("per_channel_statistics.")]
    assert sorted(statistics) == ["per_channel_statistics.mean-of-means", "per_channel_statistics.std-of-means"]


@pytest.mark.parametrize(
    "names",
    [
        ("vocoder.conv_pre.weight",),
        ("conv_pre.weight",),
        ("vocoder.vocoder.conv_pre.weight", "vocoder.bwe_generator.conv_pre.weight"),
        ("vocoder.conv_pre.weight", "bwe_generator.conv_pre.weight"),
    ],
    ids=str,
)
def test_vocoder_names_lose_their_prefix_once(tmp_path, names):
    component = find_component(opened(tmp_path, {name: torch.ones(2, 2, 2) for name in names}), "vocoder")
    wanted = {"conv_pre.weight"} if len(names) == 1 else {"vocoder.conv_pre.weight", "bwe_generator.conv_pre.weight"}
    assert set(component.tensors) == wanted


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": "invalid_fields"},
        {"config": "[]"},
        {"config": "[" * 100_000},
        config(transformer=[]),
        config(transformer={"num_attention_heads": "x"}),
        config(transformer={"num_attention_heads": 0}),
        config(transformer={"positional_embedding_max_pos": 7}),
        config(transformer={"norm_eps": None}),
        config(transformer={"rope_type": "other"}),
    ],
    ids=lambda metadata: str(metadata)[:40],
)
def test_configurations_that_make_no_sense(tmp_path, metadata):
    with pytest.raises(CheckpointError, match="a.safetensors"):
        models.load_transformer(opened(tmp_path, small.prefixed(small.transformer("2.0")), metadata))
