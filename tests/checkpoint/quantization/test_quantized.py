"""Quantised weights in safetensors: every spelling is found, folded and turned back; what does not fit is named."""

import json

import pytest
import torch

from ltx2.checkpoint.adapters.difference import LoadedDifference
from ltx2.checkpoint.adapters.kinds.low_rank import LowRank
from ltx2.checkpoint.adapters.kinds.whole import Whole
from ltx2.checkpoint.quantization.convrot import rotation
from ltx2.checkpoint.quantization.formats.fp8 import Fp8
from ltx2.checkpoint.quantization.formats.int8 import Int8
from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.checkpoint.quantization.packed import QuantizedTensor, row_scale, scale_into
from ltx2.checkpoint.quantization.tiles import tiled_size, untile_scales
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError

from ..files import save

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
PREFIX = "model.diffusion_model.transformer_blocks.0.attn1."


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def about(**fields) -> torch.Tensor:
    return torch.tensor(list(json.dumps(fields).encode()), dtype=torch.uint8)


def opened(tmp_path, tensors, metadata=None):
    return open_checkpoint(save(tmp_path / "a.safetensors", tensors, metadata)).tensors


@pytest.fixture
def fp8():
    return torch.randn(8, 16, generator=generator()).to(E4M3)


def test_plain_fp8(tmp_path, fp8):
    found = opened(tmp_path, {"x.weight": fp8, "x.bias": torch.ones(8).to(E5M2)})
    assert set(found) == {"x.weight", "x.bias"} and isinstance(found["x.weight"], QuantizedTensor)
    assert found["x.weight"].load().equal(fp8.bfloat16()) and found["x.weight"].stored == "fp8 (e4m3)"
    assert found["x.bias"].load(dtype=torch.float32).equal(torch.ones(8)) and found["x.bias"].stored == "fp8 (e5m2)"


@pytest.mark.parametrize(
    "beside, metadata",
    [
        ({"weight_scale": torch.tensor(0.25), "input_scale": torch.tensor(3.0)}, {}),
        ({"weight_scale": torch.tensor([0.25])}, {}),
        ({"weight_scale": torch.full((8, 1), 0.25)}, {}),
        ({"scale_weight": torch.tensor(0.25), "scale_input": torch.tensor(1.0)}, {}),
        ({"weight_scale": torch.tensor(0.25), "comfy_quant": about(format="float8_e4m3fn")}, {}),
        ({"weight_scale": torch.tensor(0.25)}, {"layers": {f"{PREFIX}to_q": {"format": "float8_e4m3fn"}}}),
        (
            {"weight_scale": torch.tensor(0.25)},
            {"layers": {"transformer_blocks.0.attn1.to_q": {"fmt": "float8_e4m3fn"}}},
        ),
        ({"weight_scale": torch.tensor(0.25)}, {"layers": {"transformer_blocks.0.attn1.to_q": "float8_e4m3fn"}}),
    ],
    ids=["scaled", "one", "rows", "older", "comfy_quant", "metadata", "metadata-bare", "metadata-name"],
)
def test_scaled_fp8_in_every_spelling(tmp_path, fp8, beside, metadata):
    tensors = {f"{PREFIX}to_q.weight": fp8, "model.diffusion_model.scaled_fp8": torch.zeros(2).to(E4M3)}
    tensors |= {f"{PREFIX}to_q.{key}": tensor for key, tensor in beside.items()}
    found = opened(tmp_path, tensors, {"_quantization_metadata": json.dumps(metadata)} if metadata else None)
    assert set(found) == {f"{PREFIX}to_q.weight"}
    assert found[f"{PREFIX}to_q.weight"].load(dtype=torch.float32).equal(fp8.float() * 0.25)


@pytest.mark.parametrize("rows, columns", [(8, 16), (16, 16), (48, 40)])
@pytest.mark.parametrize("device_dtype", [torch.float32, torch.bfloat16])
def test_fp8_with_scales_of_columns_groups_and_blocks(tmp_path, rows, columns, device_dtype):
    """Each number times the scale that stands over it, whatever shape the scales have; square weights too."""
    random = generator(3)
    weight = torch.randn(rows, columns, generator=random).to(E4M3)
    of_rows, of_columns = torch.rand(rows, 1, generator=random), torch.rand(1, columns, generator=random)
    groups = torch.rand(rows, columns // 8, generator=random)
    blocks = torch.rand(-(-rows // 32), -(-columns // 32), generator=random)  # the last ones are cut off
    over = blocks.repeat_interleave(32, 0).repeat_interleave(32, 1)[:rows, :columns]
    cases = [
        ("weight_scale", of_rows, of_rows), ("scale_weight", of_rows.flatten(), of_rows),
        ("weight_scale", of_columns, of_columns), ("scale_weight", groups[..., None], groups.repeat_interleave(8, 1)),
        ("weight_scale", groups.bfloat16(), groups.bfloat16().float().repeat_interleave(8, 1)),
    ]  # fmt: skip
    if rows != columns:
        cases.append(("weight_scale", of_rows.T.contiguous(), of_rows))
    if blocks.numel() > 1:
        cases += [("weight_scale_inv", blocks, over), ("weight_scale", blocks, over)]
    for key, scale, expected in cases:
        found = opened(tmp_path, {"x.weight": weight, f"x.{key}": scale})["x.weight"]
        assert found.load(dtype=device_dtype).equal((weight.float() * expected).to(device_dtype)), (key, scale.shape)
        layer = QuantizedLinear(found.pack(), None)
        assert layer.dense("cpu", device_dtype).equal(found.load(dtype=device_dtype))
    whole = torch.randint(-127, 128, (rows, columns), dtype=torch.int8, generator=random)
    for scale in (of_rows, of_rows.flatten(), *([] if rows == columns else [of_rows.T.contiguous()])):
        found = opened(tmp_path, {"x.weight": whole, "x.weight_scale": scale})["x.weight"]
        assert found.load(dtype=device_dtype).equal((whole.float() * of_rows).to(device_dtype))


def test_a_block_that_is_described_counts(tmp_path):
    weight, scale = torch.randn(24, 24, generator=generator()).to(E4M3), torch.rand(2, 2, generator=generator())
    tensors = {"x.weight": weight, "x.weight_scale": scale}
    over = scale.repeat_interleave(12, 0).repeat_interleave(12, 1)
    described = {"x.comfy_quant": about(format="float8_e4m3fn_blockwise", group_size=12)}
    assert opened(tmp_path, tensors | described)["x.weight"].load(dtype=torch.float32).equal(weight.float() * over)
    described = {"x.comfy_quant": about(format="float8_e4m3fn_blockwise", group_size=8)}
    with pytest.raises(CheckpointError, match=r"scales \[2, 2\] beside \[24, 24\]"):
        opened(tmp_path, tensors | described)


def test_scaled_bias_and_input(tmp_path, fp8):
    tensors = {"x.weight": fp8, "x.bias": torch.full((8,), 2.0).to(E4M3), "x.bias_scale": torch.tensor(0.5)}
    tensors["x.pre_quant_scale"] = torch.arange(16.0)
    found = opened(tmp_path, tensors)
    assert set(found) == {"x.weight", "x.bias"}
    assert found["x.bias"].load().equal(torch.ones(8, dtype=torch.bfloat16))
    assert found["x.weight"].load(dtype=torch.float32).equal(fp8.float() * torch.arange(16.0))


def test_int8_with_and_without_rotation(tmp_path):
    q = torch.randint(-127, 128, (6, 64), dtype=torch.int8, generator=generator())
    scale = torch.rand(6, 1, generator=generator()) * 0.01
    tensors = {"x.weight": q, "x.weight_scale": scale, "x.comfy_quant": about(format="int8_tensorwise")}
    assert opened(tmp_path, tensors)["x.weight"].load(dtype=torch.float32).equal(q.float() * scale)
    tensors["x.comfy_quant"] = about(format="int8_tensorwise", convrot=True, convrot_groupsize=16)
    found = opened(tmp_path, tensors)["x.weight"]
    expected = ((q.float() * scale).view(6, 4, 16) @ rotation(16)).view(6, 64)
    assert found.stored == "int8 convrot 16" and torch.allclose(found.load(dtype=torch.float32), expected, atol=1e-7)
    tensors["x.comfy_quant"] = about(format="int8_tensorwise", params={"convrot": True, "convrot_groupsize": 4})
    assert opened(tmp_path, tensors)["x.weight"].form.rotated == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("scales", [1, 6])
def test_a_card_scales_in_one_pass_with_the_same_rounding(dtype, scales):
    """Eight-bit weights times scales, written to narrower types: as float32 products that are rounded once."""
    random = generator(scales)
    scale = row_scale(torch.rand(scales, generator=random) / 100)
    whole = torch.randint(-127, 128, (6, 40), dtype=torch.int8, generator=random)
    floats = (torch.randn(6, 40, generator=random) * 30).to(torch.float8_e4m3fn)
    for weight, form in ((whole, Int8()), (floats, Fp8())):
        expected, found = (torch.empty(weight.shape, dtype=dtype) for _ in range(2))
        form.fill(expected, {"weight": weight, "scale": scale})
        found.copy_(weight)
        scale_into(found, weight if weight is whole else found, scale)
        assert torch.equal(found, expected)


def test_rotations_undo_themselves():
    for size in (4, 16, 64, 256):
        matrix = rotation(size)
        assert torch.allclose(matrix @ matrix, torch.eye(size), atol=1e-6) and matrix.equal(matrix.T)


def test_tiled_scales_are_where_the_layout_says():
    rows, columns = 300, 10
    scales = torch.arange(tiled_size(rows, columns))
    found = untile_scales(scales, rows, columns)
    across = 12 // 4
    for row, column in ((0, 0), (5, 3), (33, 4), (127, 9), (128, 0), (299, 7)):
        tile = row // 128 * across + column // 4
        assert found[row, column] == tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4


def test_nvfp4(tmp_path):
    rows, columns = 4, 32
    packed = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8, generator=generator())
    scales = torch.rand(tiled_size(rows, 2), generator=generator()).to(E4M3).view(128, 4)
    tensors = {
        "x.weight": packed,
        "x.weight_scale": scales,
        "x.weight_scale_2": torch.tensor(0.5),
        "x.comfy_quant": about(format="nvfp4"),
    }
    found = opened(tmp_path, tensors)["x.weight"]
    assert found.shape == (rows, columns) and found.stored == "nvfp4"
    values = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    weight = found.load(dtype=torch.float32)
    for row, column in ((0, 0), (1, 1), (3, 31), (2, 16)):
        nibble = int(packed[row, column // 2]) >> (0 if column % 2 else 4) & 15
        value = values[nibble & 7] * (-1 if nibble & 8 else 1)
        scale = untile_scales(scales, rows, 2)[row, column // 16].float() * 0.5
        assert weight[row, column] == value * scale


@pytest.mark.parametrize(
    "beside, part",
    [
        (
            {"weight": torch.zeros(4, 8, dtype=torch.int8), "comfy_quant": about(format="svdquant_w4a4")},
            "svdquant_w4a4",
        ),
        (
            {"weight": torch.zeros(4, 8, dtype=torch.int8), "comfy_quant": about(format="convrot_w4a4")},
            "no weight_scale",
        ),
        (
            {"weight": torch.zeros(4, 8, dtype=torch.int8), "comfy_quant": about(format="asym_w4a8_int8")},
            "weight_s_rel",
        ),
        ({"weight": torch.zeros(4, 8).to(E4M3), "comfy_quant": about(format="mxfp8")}, "multiples of 32"),
        ({"weight": torch.zeros(32, 32).to(E4M3), "comfy_quant": about(format="mxfp8")}, "no weight_scale"),
        ({"weight": torch.zeros(4, 8, dtype=torch.int8), "comfy_quant": about(format="int8_tensorwise")}, "no scale"),
        ({"weight": torch.zeros(4, 8, dtype=torch.int8), "comfy_quant": about(format=["x"])}, "['x']"),
        ({"weight": torch.zeros(4, 8), "comfy_quant": about(format="nvfp4")}, "nvfp4 in F32"),
        ({"weight": torch.zeros(4, 8), "weight_scale": torch.ones(1)}, "dtype F32"),
        ({"weight": torch.zeros(4, 8, dtype=torch.uint8), "comfy_quant": about(format="nvfp4")}, "weight_scale"),
        ({"weight": torch.zeros(4, 7, dtype=torch.uint8), "comfy_quant": about(format="nvfp4")}, "nvfp4 of shape"),
        ({"weight": torch.zeros(4, 8).to(E4M3), "weight_scale": torch.ones(3)}, "scales [3]"),
        ({"weight": torch.zeros(4, 8).to(E4M3), "weight_scale": torch.ones(8)}, "scales [8] beside [4, 8]"),
        ({"weight": torch.zeros(8, 24).to(E4M3), "weight_scale": torch.ones(3, 5)}, "scales [3, 5]"),
        ({"weight": torch.zeros(4, 8).to(E4M3), "weight_scale": torch.ones(4, dtype=torch.int32)}, "scales of I32"),
        ({"weight": torch.zeros(4, 8).to(E4M3), "weight_scale_inv": torch.ones(1)}, "may be what it is divided by"),
        (
            {"weight": torch.zeros(4, 8).to(E4M3), "weight_scale": torch.ones(1), "scale_weight": torch.ones(1)},
            "scales of x.weight under two names",
        ),
        (
            {"weight": torch.zeros(4, 4, dtype=torch.int8), "weight_scale": torch.ones(1, 4)},
            "int8 scales [1, 4]",
        ),
        ({"weight": torch.zeros(4, 8).to(E4M3), "pre_quant_scale": torch.ones(3)}, "pre_quant_scale"),
        ({"weight": torch.zeros(4, 8).to(E4M3), "comfy_quant": torch.zeros(5000, dtype=torch.uint8)}, "5000 bytes"),
        (
            {"weight": torch.zeros(4, 8).to(E4M3), "comfy_quant": torch.tensor(list(b"[1]"), dtype=torch.uint8)},
            "JSON object",
        ),
        (
            {
                "weight": torch.zeros(4, 8, dtype=torch.int8),
                "weight_scale": torch.ones(1),
                "comfy_quant": about(format="int8_tensorwise", convrot=True, convrot_groupsize=6),
            },
            "groups of 6",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, beside, part):
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path, {f"x.{key}": tensor for key, tensor in beside.items()})
    assert "a.safetensors" in str(caught.value) and part in str(caught.value)


@pytest.mark.parametrize("text", ["invalid_fields", "[]", '{"layers": []}', '{"layers": {"x": 1}}', "[" * 100_000])
def test_metadata_that_is_no_table(tmp_path, fp8, text):
    with pytest.raises(CheckpointError, match="_quantization_metadata"):
        opened(tmp_path, {"x.weight": fp8}, {"_quantization_metadata": text})


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scales_that_are_not_finite_are_refused_when_a_weight_is_loaded_or_kept(tmp_path, fp8, value, dtype):
    scales = torch.ones(8, 1, dtype=dtype)
    scales[5] = value
    found = opened(tmp_path, {"x.weight": fp8, "x.weight_scale": scales})["x.weight"]
    for use in (found.load, found.pack):
        with pytest.raises(CheckpointError, match="not finite in x.weight_scale: the file is damaged"):
            use()


def test_a_layer_that_keeps_its_storage(tmp_path, fp8):
    weight = opened(tmp_path, {"x.weight": fp8, "x.weight_scale": torch.tensor(0.25)})["x.weight"]
    bias, x = torch.randn(8), torch.randn(3, 16)
    layer = QuantizedLinear(weight.pack(), bias)
    dense = fp8.float() * 0.25
    assert torch.allclose(layer(x), torch.nn.functional.linear(x, dense, bias), atol=1e-6)
    assert sum(p.nbytes for p in layer.parameters()) == fp8.numel() + 4 + 8 * 4
    up, down, whole = torch.randn(8, 2), torch.randn(2, 16), torch.randn(8, 16)
    rank = LoadedDifference(LowRank(), 1.0, {"up": up, "down": down})
    full = LoadedDifference(Whole(), 1.0, {"difference": whole})
    changed = layer.with_differences([rank, full])
    assert torch.allclose(changed(x), torch.nn.functional.linear(x, dense + up @ down + whole, bias), atol=1e-5)
    assert changed.weight.data_ptr() == layer.weight.data_ptr() and not layer.differences
    again = changed.with_differences([full])
    assert torch.allclose(again.dense("cpu", torch.float32), dense + up @ down + 2 * whole, atol=1e-5)
    assert [found.kind for found in again.differences] == [LowRank(), Whole(), Whole()]
