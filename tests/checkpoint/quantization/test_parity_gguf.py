"""Block formulas and files compared with the gguf package."""

import numpy as np
import pytest
import torch

from ltx2.checkpoint.quantization.gguf_blocks import BLOCK_TYPES, dequantize_blocks
from ltx2.checkpoint.reader import open_checkpoint

gguf = pytest.importorskip("gguf")
QUANTISED = {kind: block for kind, block in BLOCK_TYPES.items() if block.formula}


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: QUANTISED[kind].name)
def test_formula(kind):
    block = QUANTISED[kind]
    their = gguf.GGMLQuantizationType(kind)
    assert their.name == block.name and gguf.GGML_QUANT_SIZES[their] == (block.block_weights, block.block_bytes)
    data = np.random.default_rng(kind).integers(0, 256, (50, block.block_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        theirs = gguf.dequantize(data, their)
    ours = torch.empty(50, block.block_weights)
    dequantize_blocks(block, torch.from_numpy(data.copy()).flatten(), ours)
    np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize(
    "kind", [k for k in QUANTISED if QUANTISED[k].name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")]
)
def test_files_of_the_package(tmp_path, kind):
    weight = np.random.default_rng(0).standard_normal((6, 64), dtype=np.float32)
    packed = gguf.quantize(weight, gguf.GGMLQuantizationType(kind))
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "ltxv")
    writer.add_array("tokens", ["a", "bc"] * 50)
    writer.add_float32("scale", 0.5)
    writer.add_tensor("x.weight", packed, raw_dtype=gguf.GGMLQuantizationType(kind))
    writer.add_tensor("half", weight.astype(np.float16))
    writer.add_tensor("full", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_checkpoint(tmp_path / "a.gguf")
    assert checkpoint.metadata["general.architecture"] == "ltxv" and checkpoint.metadata["scale"] == "0.5"
    tensors = checkpoint.tensors
    theirs = gguf.dequantize(packed, gguf.GGMLQuantizationType(kind))
    np.testing.assert_array_equal(tensors["x.weight"].load(dtype=torch.float32).numpy(), theirs)
    np.testing.assert_array_equal(tensors["half"].load().numpy(), weight.astype(np.float16))
    np.testing.assert_array_equal(tensors["full"].load().numpy(), weight)
