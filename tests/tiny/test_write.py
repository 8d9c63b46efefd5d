"""Tiny checkpoints: the released layouts, loaded through the loader of released files, and what they show and sound
like."""

import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from ltx2.checkpoint import models
from ltx2.checkpoint.layout import components, find_component, model_version
from ltx2.checkpoint.lora import match_lora, read_lora
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import RequestError
from ltx2.networks.video_vae.latent_upsampler import upsample
from ltx2.tiny.write import write_tiny

VERSIONS = ("2.0", "2.3", "2.5")
ROLES = {
    "transformer", "text_encoder", "text_projection", "video_vae", "audio_vae", "vocoder", "spatial_upsampler",
    "temporal_upsampler",
    "distilled_lora",
}  # fmt: skip
MB = 10**6


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


def header(path):
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_slice(name) for name in file.keys()}


def test_roles_and_sizes(tiny, version):
    paths = tiny(version)
    assert (
        paths.keys() - ROLES
        == {"2.0": set(), "2.3": {"spatial_upsampler_x1.5"}, "2.5": {"conv_video_vae", "duration_head"}}[version]
    )
    assert ROLES <= paths.keys() and all(path.is_file() for path in paths.values())
    assert sum(path.stat().st_size for path in set(paths.values())) < 15 * MB


def test_same_seed_same_bytes(tiny, tmp_path):
    def digests(paths):
        return {role: hashlib.sha256(path.read_bytes()).hexdigest() for role, path in paths.items()}

    assert digests(write_tiny(tmp_path / "again", "2.0")) == digests(tiny("2.0"))
    other = digests(write_tiny(tmp_path / "other", "2.0", seed=1))
    assert all(other[role] != digest for role, digest in digests(tiny("2.0")).items())
    assert not list(tmp_path.rglob("*.partial"))


def test_names_of_the_released_files(tiny):
    names = {version: {path.name for path in tiny(version).values()} for version in VERSIONS}
    assert {
        "ltx-2-19b-dev.safetensors",
        "gemma_3_12B_it.safetensors",
        "ltx-2-spatial-upscaler-x2-1.0.safetensors",
    } <= names["2.0"]
    assert {"ltx-2.3-22b-dev.safetensors", "ltx-2.3-22b-distilled-lora-384.safetensors"} <= names["2.3"]
    assert {"ltx-2.3-spatial-upscaler-x2-1.1.safetensors", "ltx-2.3-spatial-upscaler-x1.5-1.0.safetensors"} <= names[
        "2.3"
    ]
    assert {"ltx-2.5-video-vae-bf16.safetensors", "ltx-2.5-video-vae-conv-bf16.safetensors"} <= names["2.5"]
    assert {path.parent.name for path in tiny("2.5").values()} == {
        "diffusion_models",
        "text_encoders",
        "vae",
        "loras",
        "model_patches",
        "latent_upscale_models",
    }


def test_prefixes_and_metadata(tiny, version):
    paths = tiny(version)
    metadata, tensors = header(paths["transformer"])
    config = json.loads(metadata["config"])
    assert metadata.get("model_version") == {"2.0": None, "2.3": "2.3.0", "2.5": "2.5.0"}[version]
    prefixes = {name.split(".")[0] for name in tensors}
    if version == "2.5":
        assert prefixes == {"model"} and config.keys() == {"transformer", "scheduler"}
        assert json.loads(metadata["gemma_source_checkpoint"]) == {
            "ltx_version": "2.5.0",
            "gemma_version": "gemma4-12b-ltx-v1",
        }
        text = header(paths["text_encoder"])
        assert "gemma_config" in text[0]
        assert {
            "tokenizer_json",
            "text_embedding_projection.video_aggregate_embed.weight",
            "model.layers.0.layer_scalar",
        } <= text[1].keys()
        for role in ("video_vae", "conv_video_vae"):
            assert {name.split(".")[0] for name in header(paths[role])[1]} == {
                "encoder",
                "decoder",
                "per_channel_statistics",
            }
        assert {name.split(".")[0] for name in header(paths["audio_vae"])[1]} == {"audio_vae", "vocoder"}
    else:
        assert prefixes == {"model", "text_embedding_projection", "vae", "audio_vae", "vocoder"}
        assert config.keys() == {"transformer", "vae", "audio_vae", "vocoder", "scheduler"}
        assert {"spiece_model", "model.norm.weight"} <= header(paths["text_encoder"])[1].keys()
    kinds = {tensor.get_dtype() for path in set(paths.values()) for tensor in header(path)[1].values()}
    assert kinds == {"BF16", "U8"}


def test_every_network_loads(tiny, version):
    """Strictly: all names and shapes are those of the networks."""
    paths = tiny(version)
    checkpoint = open_checkpoint(
        *dict.fromkeys(paths[role] for role in ("transformer", "text_projection", "video_vae", "audio_vae"))
    )
    assert (model_version(checkpoint) or (2, 0))[:2] == tuple(map(int, version.split(".")))
    load = (
        models.load_transformer, models.load_connectors, models.load_text_projection, models.load_video_encoder,
        models.load_video_decoder, models.load_audio_encoder, models.load_audio_decoder, models.load_vocoder,
    )  # fmt: skip
    for one in load:
        one(checkpoint)
    assert models.load_vocoder(checkpoint).sample_rate == (24000 if version == "2.0" else 48000)
    for role, size in (
        ("spatial_upsampler", (3, 4, 6)),
        ("temporal_upsampler", (5, 2, 3)),
        ("spatial_upsampler_x1.5", (3, 3, 5)),
    ):
        if role in paths:
            upsampler = models.load_upsampler(open_checkpoint(paths[role]), dtype=torch.float32)
            statistics = models.load_video_encoder(checkpoint, dtype=torch.float32).per_channel_statistics
            with torch.inference_mode():
                larger = upsample(upsampler, torch.randn(1, 128, 3, 2, 3), statistics)
            assert larger.shape[2:] == size and larger.isfinite().all() and larger.std() < 5
    if version == "2.5":
        assert type(models.load_video_decoder(open_checkpoint(paths["conv_video_vae"]))).__name__ == "VideoDecoder"
        assert type(models.load_video_decoder(checkpoint)).__name__ == "DiffusionDecoder"
        head = models.load_duration_head(open_checkpoint(paths["duration_head"]), dtype=torch.float32)
        with torch.inference_mode():
            seconds = float(head(torch.randn(1, 1024, 64), torch.randn(1, 1024, 32)))
        assert 1 < seconds < 20


def test_loads_without_metadata(tiny, version):
    """What the shapes say is what the metadata says, as far as shapes can say it."""
    paths = tiny(version)
    checkpoint = open_checkpoint(*dict.fromkeys(paths[role] for role in ("transformer", "video_vae", "audio_vae")))
    found = components(checkpoint)
    decoder = "diffusion_decoder" if version == "2.5" else "video_decoder"
    assert {
        "transformer",
        "video_connector",
        "audio_connector",
        "video_encoder",
        decoder,
        "audio_decoder",
        "vocoder",
    } <= found.keys()
    for name in ("video_encoder", "video_decoder"):
        if name in found:
            component = found[name]
            config = models.video_vae_config(component.config, component.shapes)
            bare = models.video_vae_config(None, component.shapes)
            half = name.removeprefix("video_")
            for field in (f"{half}_channels", f"{half}_blocks", f"{half}_padding"):
                assert getattr(config, field) == getattr(bare, field)


def test_lora_fits_completely(tiny, version):
    paths = tiny(version)
    lora = read_lora(paths["distilled_lora"])
    match = match_lora(lora, find_component(open_checkpoint(paths["transformer"]), "transformer").shapes)
    assert match.matched and not match.unmatched


def smiley(height=192, width=256):
    """A picture with an object, edges and a gradient, [1, 3, 1, H, W] in -1…1."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.stack([x / width, y / height, 1 - x / width]) * 2 - 1
    picture[:, (x - width // 2) ** 2 + (y - height // 2) ** 2 < (height * 0.36) ** 2] = torch.tensor([1.0, 0.7, -0.4])[
        :, None
    ]
    return picture[None, :, None]


@pytest.mark.parametrize(
    "version, role", [("2.0", "video_vae"), ("2.3", "video_vae"), ("2.5", "video_vae"), ("2.5", "conv_video_vae")]
)
def test_a_picture_comes_back_blurred(tiny, version, role):
    checkpoint = open_checkpoint(tiny(version)[role])
    encoder = models.load_video_encoder(checkpoint, dtype=torch.float32)
    decoder = models.load_video_decoder(checkpoint, dtype=torch.float32)
    picture = smiley()
    with torch.inference_mode():
        latent = encoder(picture)
        decoded = decoder(latent)
        assert latent.shape == (1, 128, 1, 6, 8) and 0.2 < latent.std() < 3
        blurred = F.avg_pool2d(picture[:, :, 0], 8)
        error = F.avg_pool2d(decoded[:, :, 0], 8) - blurred
        assert error.square().mean() < 0.15 * blurred.var()
        dreamt = decoder(torch.randn(1, 128, 2, 3, 3))
    assert dreamt.shape == (1, 3, 9, 96, 96) and 0.1 < dreamt.std() < 0.8


def test_sound_is_audible_and_not_clipped(tiny, version):
    checkpoint = open_checkpoint(tiny(version)["audio_vae"])
    decoder, vocoder = (
        models.load_audio_decoder(checkpoint, dtype=torch.float32),
        models.load_vocoder(checkpoint, dtype=torch.float32),
    )
    with torch.inference_mode():
        sound = vocoder(decoder(torch.randn(1, 8, 25, 16)))
    assert sound.shape == (1, 2, 97 * vocoder.sample_rate // 100)
    assert 0.03 < sound.square().mean().sqrt() < 0.3 and sound.abs().mean(1).max() < 0.99 and sound.mean().abs() < 0.01


def test_unknown_version(tmp_path):
    with pytest.raises(RequestError, match="2.0, 2.3, 2.5, got '3.0'"):
        write_tiny(tmp_path, "3.0")


def test_command_lists_the_files(tmp_path, capsys):
    import argparse

    from ltx2.cli import tiny as verb

    parser = argparse.ArgumentParser()
    verb.add_parser(parser.add_subparsers())
    args = parser.parse_args(["tiny", str(tmp_path / "models"), "--version", "2.0"])
    assert not args.run(args)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].startswith(str(tmp_path)) and "ltx-2-19b-dev.safetensors" in lines[0]
