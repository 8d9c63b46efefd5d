"""Damage that no header shows: an end that a download left as zeros, and weights that are no numbers."""

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ltx2.checkpoint.models import load_transformer
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.checkpoint.recognition.damage import check_finite
from ltx2.errors import CheckpointError

from . import small
from .files import save

UNFINISHED = "the last of tensor .* among them: its download is not finished, go on with it"
ADAPTER = {  # what a training leaves as zeros at a file's end, behind matrices that never are
    "diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.randn(16, 512),
    "diffusion_model.transformer_blocks.0.attn1.to_q.lora_B.weight": torch.zeros(512, 16),
    "z.bias": torch.zeros(4096),
    "z.ids": torch.zeros(64, 64, dtype=torch.int64),
}


def gguf_file(path, quantized):
    writer = gguf.GGUFWriter(path, "ltxv")
    kind = gguf.GGMLQuantizationType.Q8_0
    for name in "aw":
        values = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
        if quantized:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def weights(path, kind):
    if kind.startswith("gguf"):
        gguf_file(path, kind == "gguf q8")
    elif kind == "adapter":
        save_file(ADAPTER, path)
    else:
        save_file({"a": torch.randn(64, 256), "w": torch.randn(64, 256), "z.bias": torch.zeros(9)}, path)


@pytest.mark.parametrize("kind", ["plain", "adapter", "gguf", "gguf q8"])
def test_a_file_that_ends_in_zeros_is_not_finished(tmp_path, kind):
    path = tmp_path / ("w.gguf" if "gguf" in kind else "w.safetensors")
    weights(path, kind)
    whole = path.read_bytes()
    assert open_checkpoint(path).tensors
    body = sum(part.nbytes for part in open_checkpoint(path).tensors.values())

    @settings(max_examples=10, deadline=None, database=None)
    @given(missing=st.floats(0.75, 1))
    def unfinished(missing):
        zeros = int(body * missing)
        path.write_bytes(whole[:-zeros] + bytes(zeros))
        with pytest.raises(CheckpointError, match=UNFINISHED) as caught:
            open_checkpoint(path)
        assert len(str(caught.value)) <= 300 + len(str(path))

    unfinished()


def test_weights_that_are_no_numbers_are_refused_before_anything_is_made(tmp_path):
    sound = small.prefixed(small.transformer())
    large = next(iter(sound))

    @settings(max_examples=6, deadline=None, database=None)
    @given(
        name=st.sampled_from(sorted(sound)),
        bad=st.sampled_from([float("nan"), float("inf"), float("-inf")]),
        dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
        at=st.integers(0, 2**20),
    )
    def refused(name, bad, dtype, at):
        tensors = {each: tensor.to(dtype, copy=True) for each, tensor in sound.items()}
        tensors[name].view(-1)[at % tensors[name].numel()] = bad
        checkpoint = open_checkpoint(save(tmp_path / "a.safetensors", tensors))
        wrong = name.removeprefix(small.PREFIX)[:60]
        with pytest.raises(CheckpointError, match=rf"^a.safetensors holds NaN or infinity in tensor \S*{wrong}"):
            load_transformer(checkpoint)

    refused()
    tensor = torch.zeros(2**16, dtype=torch.float32)
    for at in (0, -1):  # one larger than what is looked through is looked at where it begins and ends
        damaged = tensor.index_fill(0, torch.tensor([at % len(tensor)]), float("nan"))
        lazy = open_checkpoint(save(tmp_path / "b.safetensors", {large: damaged})).tensors[large]
        with pytest.raises(CheckpointError, match="NaN or infinity"):
            check_finite(lazy)
