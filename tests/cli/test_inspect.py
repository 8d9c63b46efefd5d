"""``ltx2 inspect``: what it says about each kind of file."""

import argparse
import json

import torch

from ltx2.cli import inspect
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


def test_quantised_and_foreign_files(tmp_path, capsys):
    tensors = {"patchify_proj.weight": ((2, 32), 8, b"\0" * 68), "audio_patchify_proj.weight": ((2,), 0, b"\0" * 8)}
    architecture = gguf_files.value("general.architecture", 8, gguf_files.text("ltxv"))
    out = said(capsys, gguf_files.write(tmp_path / "a.gguf", tensors, [architecture]))
    assert "general.architecture: ltxv" in out and "1 Q8_0, 1 F32" in out and "66 parameters" in out
    out = said(capsys, save(tmp_path / "other.safetensors", {"unet.weight": torch.ones(3)}))
    assert "none of the tensors belongs to a network of LTX-2" in out and "not in these files" not in out
