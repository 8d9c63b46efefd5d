"""Damage that no header shows: an end that a download left as zeros, and weights that are no numbers."""

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ltx2.checkpoint.lora import check_lora, read_lora
from ltx2.checkpoint.models import load_transformer
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.checkpoint.recognition.damage import check_finite, check_loaded
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


@pytest.mark.parametrize(
    "last",
    [
        {"y.lora_A.weight": torch.zeros(16, 512), "y.lora_B.weight": torch.zeros(512, 16)},  # a part that was taken out
        {"y.weight": torch.zeros(300, 700)},
        {"y.weight": torch.cat([torch.randn(300, 700), torch.zeros(500, 700)])},  # padded
    ],
)
def test_a_file_may_end_in_tensors_and_rows_of_zeros(tmp_path, last):
    path = save(tmp_path / "a.safetensors", {"a.weight": torch.randn(64, 256), **last})
    loaded_whole(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:40000].ljust(len(whole), b"\0"))  # as a download breaks off
    with pytest.raises(CheckpointError, match=UNFINISHED):
        open_checkpoint(path)


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


LAYER = torch.randn(1200, 512, generator=torch.Generator().manual_seed(7))
AT_REST = {  # zeros as they come in sound files: rows of padding, biases, adapters that were not trained, small layers
    "blocks.0.lora_A.weight": LAYER[:64],
    "blocks.0.lora_B.weight": torch.zeros(4096, 64),
    "table.weight": torch.cat([LAYER[:700], torch.zeros(300, 512), LAYER[700:]]),
    "spare.weight": torch.zeros(300, 512),
    "z.bias": torch.zeros(40000),
    "squeezed.weight": (LAYER * 1e-4).to(torch.float8_e4m3fn),
    "padded.weight": torch.nn.functional.pad(LAYER, (0, 200, 0, 300)),
    "last.weight": LAYER[:, :500],
    # a fused bias with a part that is left out, before a layer that was not trained
    "half.bias": torch.cat([LAYER.flatten()[:4096], torch.zeros(4096)]),
    "half.proj.weight": torch.zeros(300, 512),
    "one.table": torch.nn.functional.pad(LAYER[None, :300], (0, 0, 0, 900)),
    "one.up.weight": torch.zeros(1500, 512),
    "experts.weight": torch.nn.functional.pad(LAYER[:900], (0, 0, 300, 0)).view(6, 200, 512),
    # a row alone is no sign of columns of padding
    "query.weight": torch.cat([torch.nn.functional.pad(LAYER[:1, :200], (0, 312)), torch.zeros(300, 512), LAYER[:9]]),
    # of numbers that were rounded the last before the padding are zeros now and then
    "rounded.weight": torch.nn.functional.pad(
        torch.cat([LAYER[:300], LAYER[:1] * (torch.arange(512) < 505)]), (0, 200, 0, 300)
    ).to(torch.float8_e4m3fn),
    "thinned.weight": (LAYER * (torch.rand(LAYER.shape, generator=torch.Generator().manual_seed(1)) > 0.9))
    * ((torch.arange(1200) < 300) | (torch.arange(1200) > 700)).view(-1, 1)
    * ~((torch.arange(1200) == 299).view(-1, 1) & (torch.arange(512) > 470)),
    "zz.weight": LAYER[:40],
}


def loaded_whole(path):
    for tensor in open_checkpoint(path).tensors.values():
        check_loaded(tensor)


def test_zeros_that_weights_are_made_of_are_no_holes(tmp_path):
    for dtype in (torch.float32, torch.bfloat16):
        tensors = {name: tensor if tensor.element_size() == 1 else tensor.to(dtype) for name, tensor in AT_REST.items()}
        loaded_whole(save(tmp_path / f"{dtype}.safetensors", tensors))


def test_scales_in_tiles_of_layers_that_were_thinned_out_are_no_holes(tmp_path):
    scales = torch.ones(8, 64, 32, 4, 4)  # [tile rows, tile columns, row % 32, row // 32 % 4, column % 4]
    scales[:7], scales[7, :, :8, :3] = 0, 0
    scales[7, :, :8, 3] = 0  # the first 104 rows of the last tile, but for those of other lanes
    tensors = {
        "a.weight": torch.ones(1024, 2048, dtype=torch.uint8),
        "a.weight_scale": scales.view(1024, 256).to(torch.float8_e4m3fn),
        "a.weight_scale_2": torch.ones(()),
        "b.weight": torch.ones(4, 4, dtype=torch.float8_e4m3fn),
    }
    loaded_whole(save(tmp_path / "a.safetensors", tensors))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_hole_in_the_middle_of_a_download_is_told_before_anything_is_made(tmp_path, sparse):
    layers = {f"{number}.weight": LAYER[:, : 512 - number].bfloat16() for number in range(4)}
    whole = save(tmp_path / "whole.safetensors", {"z.bias": torch.zeros(9000)} | layers).read_bytes()
    path, first = tmp_path / "a.safetensors", whole.index(layers["0.weight"][0].view(torch.uint8).numpy().tobytes())

    @settings(max_examples=6, deadline=None, database=None, derandomize=True)
    @given(begin=st.integers(first + 16384, len(whole) - (1 << 20)), pieces=st.integers(1, 3))
    def told(begin, pieces):
        begin -= begin % 16384  # as a download comes in, which is not where rows begin
        end = min(begin + (pieces << 20), len(whole) - 16384)
        path.unlink(missing_ok=True)
        with open(path, "wb") as file:
            file.write(whole[:begin])
            file.seek(end) if sparse else file.write(bytes(end - begin))
            file.write(whole[end:])
        with pytest.raises(
            CheckpointError, match="zeros in the middle of its weights .* is not finished there"
        ) as caught:
            loaded_whole(path)
        assert len(str(caught.value)) <= 300 + len(str(path)) and not str(caught.value).endswith(".")

    told()


def test_a_hole_is_told_by_one_edge_in_short_rows_too(tmp_path):
    path = save(tmp_path / "a.safetensors", {"a.weight": LAYER.view(-1, 16), "b.weight": LAYER})
    whole, at = path.read_bytes(), path.read_bytes().index(LAYER.numpy().tobytes())
    for into in range(4, 64, 4):  # rows of 64 bytes
        path.write_bytes(whole[: at + 65536 + into] + bytes(1 << 17) + whole[at + 65536 + into + (1 << 17) :])
        with pytest.raises(CheckpointError, match="holds 128 KiB of zeros in the middle of its weights"):
            loaded_whole(path)


def test_a_hole_in_packed_weights_and_in_adapters_is_told(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "ltxv")
    kind, values = gguf.GGMLQuantizationType.Q8_0, np.random.default_rng(0).standard_normal((600, 512), np.float32)
    writer.add_tensor("w", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    module = "diffusion_model.transformer_blocks.0.attn1.to_q"
    save(
        tmp_path / "l.safetensors",
        {f"{module}.lora_A.weight": LAYER[:300], f"{module}.lora_B.weight": LAYER.T[:, :300]},
    )
    for path in (tmp_path / "w.gguf", tmp_path / "l.safetensors"):
        whole = path.read_bytes()
        path.write_bytes(whole[:40960] + bytes(131072) + whole[172032:])
        with pytest.raises(CheckpointError, match="holds 128 KiB of zeros in the middle of its weights"):
            check_lora(read_lora(path)) if "l." in path.name else loaded_whole(path)
