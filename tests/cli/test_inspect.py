"""``ltx2 inspect``: what it says about each kind of file."""

import argparse
import json

import pytest
import torch

from ltx2.cli import inspect
from ltx2.errors import CheckpointError
from ltx2.stages.presets import find_preset
from tests.checkpoint import gguf_files, small
from tests.checkpoint.files import save
from tests.checkpoint.test_lora import pair


def said(capsys, *arguments) -> str:
    parser = argparse.ArgumentParser()
    inspect.add_parser(parser.add_subparsers())
    args = parser.parse_args(["inspect", *map(str, arguments)])
    args.run(args)
    return capsys.readouterr().out


def test_a_checkpoint_and_a_lora(tmp_path, capsys):
    metadata = {"model_version": "2.3.0", "license": "first line\nsecond \x1b[31mline" + "x" * 500}
    model = save(tmp_path / "model.safetensors", small.prefixed(small.transformer() | small.connectors()), metadata)
    lora = save(
        tmp_path / "lora.safetensors",
        pair("patchify_proj", torch.ones(2, 8), torch.ones(small.WIDTH, 2))
        | pair("more", torch.ones(2, 8), torch.ones(8, 2)),
    )
    out = said(capsys, lora, model)
    assert "version 2.3.0 (LTX-2.3, text encoder Gemma 3 12B)" in out and "transformer: " in out and "F32" in out
    assert "license: first line second  [31mline" in out and "characters)" in out and "\x1b" not in out
    assert "text projection: in the ltx-2-19b or ltx-2.3-22b checkpoint" in out and "vocoder: in" in out
    assert "1 of 2 LoRA weights fit the model; not in the model: more" in out and 'ranks: {"2": 2}' in out
    found = json.loads(said(capsys, model, "--json"))
    parts = found[0]["components"]
    assert parts["transformer"]["parameters"] == sum(t.numel() for t in small.transformer().values())
    assert parts["video_connector"]["stored"] == {"F32": parts["video_connector"]["tensors"]}


def test_the_demonstration_model_has_a_text_encoder_of_its_own(capsys):
    out = said(capsys, "mini")
    assert "text encoder a small Gemma 3 of its own" in out and "12B" not in out
    assert "text encoder: in gemma_3_mini.safetensors, which comes along as mini" in out


def test_quantised_and_foreign_files(tmp_path, capsys):
    tensors = {"patchify_proj.weight": ((2, 32), 8, b"\0" * 68), "audio_patchify_proj.weight": ((2,), 0, b"\0" * 8)}
    architecture = gguf_files.value("general.architecture", 8, gguf_files.text("ltxv"))
    out = said(capsys, gguf_files.write(tmp_path / "a.gguf", tensors, [architecture]))
    assert "general.architecture: ltxv" in out and "1 Q8_0, 1 F32" in out and "66 parameters" in out
    out = said(capsys, save(tmp_path / "other.safetensors", {"unet.weight": torch.ones(3)}))
    assert "none of the tensors belongs to a network of LTX-2" in out and "not in these files" not in out


def test_what_a_lora_is_and_is_for(tmp_path, capsys):
    model = save(tmp_path / "model.safetensors", small.prefixed(small.transformer() | small.connectors()))
    width = small.WIDTH
    tensors = pair("diffusion_model.transformer_blocks.0.attn1.to_q", torch.ones(2, width), torch.ones(width, 2))
    tensors |= pair("diffusion_model.transformer_blocks.9.attn1.to_q", torch.ones(2, width), torch.ones(width, 2))
    name = "diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
    tensors |= {f"{name}.lokr_w1": torch.ones(2, 2), f"{name}.lokr_w2": torch.ones(width // 2, width // 2)}
    metadata = {"reference_downscale_factor": "2", "transformer.lora_alpha": "6"}
    lora = save(tmp_path / "control.safetensors", tensors, metadata)
    (found,) = json.loads(said(capsys, lora, "--json"))
    assert found["kind"] == "IC-LoRA" and found["weights"] == {"LoRA": 2, "LoKr": 1}
    assert found["ranks"] == {"2": 2} and found["scales"] == {"3": 2, "1": 1}
    assert found["networks"] == {"transformer": 2, "video connector": 1} and "fit" not in found
    assert found["reference_downscale_factor"] == 2 and found["reference_temporal_scale_factor"] == 1
    out = said(capsys, model, lora)
    assert "fit: 2 of 3 LoRA weights fit the model; not in the model: transformer_blocks.9.attn1.to_q" in out
    assert "reference: reference video at the size divided by 2" in out and "kind: IC-LoRA" in out


@pytest.mark.parametrize(
    "name, metadata, kind, use, preset",
    [
        ("ltx-2.3-22b-ic-lora-union-control-ref0.5", {"reference_downscale_factor": "2"}, "IC-LoRA",
         "depth, edges (canny) or poses", "ltx2_3_distilled"),
        ("ltx-2-19b-ic-lora-depth-control", {}, "IC-LoRA", "a depth film", "ltx2_distilled"),
        ("ltx-2.3-22b-ic-lora-ingredients-0.9", {}, "IC-LoRA", "a reference sheet", "ltx2_3_distilled"),
        ("mine", {"reference_downscale_factor": "1"}, "IC-LoRA", "a film or picture", "ltx2_3_distilled"),
        ("ltx-2.3-22b-ic-lora-dubit-0.9", {}, "dubbing IC-LoRA", "ltx2 dub", "ltx2_quality"),
        ("ltx-2.3-22b-ic-lora-lipdub-0.9", {}, "dubbing IC-LoRA", "ltx2 dub", "ltx2_quality"),
        ("ltx-2.3-id-lora-talkvid-3k", {}, "ID-LoRA", "--voice", "ltx2_3_template"),
        ("ltx-2.3-22b-distilled-lora-384", {}, "distilled LoRA", "--refine-lora", "ltx2_3_template"),
        ("squish", {"modelspec.title": "distilled squish"}, "distilled LoRA", "--refine-lora", "ltx2_3_template"),
        ("squish", {}, "LoRA", "style, subject or motion", None),
    ],
)  # fmt: skip
def test_what_each_kind_is_for_and_runs_with(tmp_path, capsys, name, metadata, kind, use, preset):
    to_q = "diffusion_model.transformer_blocks.0.attn1.to_q"
    path = save(tmp_path / f"{name}.safetensors", pair(to_q, torch.ones(2, 8), torch.ones(8, 2)), metadata)
    (found,) = json.loads(said(capsys, path, "--json"))
    assert (found["kind"], found.get("preset")) == (kind, preset) and use in found["use"]
    assert preset is None or find_preset(preset)


def test_a_lora_of_the_text_encoder(tmp_path, capsys):
    name = "text_encoders.model.layers.0.self_attn.q_proj"
    path = save(tmp_path / "abliterated.safetensors", pair(name, torch.ones(2, 8), torch.ones(8, 2)))
    out = said(capsys, path)
    assert "kind: text-encoder LoRA" in out and "preset" not in out


def test_kinds_that_are_not_read_are_named(tmp_path, capsys):
    glora = {f"diffusion_model.x.{part}.weight": torch.ones(2, 2) for part in ("a1", "a2", "b1", "b2")}
    with pytest.raises(CheckpointError, match="holds GLoRA, expected one of"):
        said(capsys, save(tmp_path / "glora.safetensors", glora))
