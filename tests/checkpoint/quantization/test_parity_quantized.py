"""Storage formats compared with comfy-kitchen: what it quantises, this package turns back as it does."""

import json

import pytest
import torch

from ltx2.checkpoint.quantization.detection import BY_KIND
from ltx2.checkpoint.reader import open_checkpoint

from ..files import save

kitchen = pytest.importorskip("comfy_kitchen")
tensor = pytest.importorskip("comfy_kitchen.tensor")
w4a8 = pytest.importorskip("comfy_kitchen.tensor.w4a8_int8")


def weight(rows=256, columns=512):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)) * 0.02


def loaded(tmp_path, tensors: dict, about: dict) -> torch.Tensor:
    description = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    path = save(
        tmp_path / "a.safetensors", {f"x.{key}": t for key, t in tensors.items()} | {"x.comfy_quant": description}
    )
    return open_checkpoint(path).tensors["x.weight"].load(dtype=torch.float32)


def stored(layout, given, **options) -> tuple[dict, torch.Tensor]:
    """Tensors of a file by suffix, and the weight as comfy-kitchen gets it back, float32."""
    data, params = layout.quantize(given, **options)
    tensors = {f"weight{suffix}": t for suffix, t in layout.state_dict_tensors(data, params).items()}
    return tensors, layout.dequantize(data, params).float()


@pytest.mark.parametrize("name, kind", [("TensorCoreFP8Layout", "float8_e4m3fn")])
def test_fp8(tmp_path, name, kind):
    tensors, theirs = stored(getattr(tensor, name), weight())
    assert torch.equal(loaded(tmp_path, tensors, {"format": kind}), theirs)


@pytest.mark.parametrize("shape", [(256, 512), (144, 80), (16, 16)], ids=str)
def test_nvfp4(tmp_path, shape):
    tensors, theirs = stored(tensor.TensorCoreNVFP4Layout, weight(*shape))
    assert torch.allclose(loaded(tmp_path, tensors, {"format": "nvfp4"}), theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("group", [None, 256, 64, 16])
def test_int8(tmp_path, group):
    options = {"convrot": True, "convrot_groupsize": group} if group else {}
    tensors, theirs = stored(tensor.TensorWiseINT8Layout, weight(), per_channel=True, **options)
    assert torch.allclose(
        loaded(tmp_path, tensors, {"format": "int8_tensorwise", **options}), theirs, rtol=1e-5, atol=1e-7
    )
    assert (theirs - weight()).abs().max() < 2e-3  # the rotation was undone


@pytest.mark.parametrize("shape", [(256, 512), (32, 64), (160, 96)], ids=str)
def test_mxfp8(tmp_path, shape):
    tensors, theirs = stored(tensor.TensorCoreMXFP8Layout, weight(*shape))
    assert torch.equal(loaded(tmp_path, tensors, {"format": "mxfp8"}), theirs)


def test_mxfp8_padded_to_whole_blocks(tmp_path):
    """A weight of 40 × 50 is stored as one of 64 × 64, and read as what it was."""
    tensors, theirs = stored(tensor.TensorCoreMXFP8Layout, weight(40, 50))
    path = save(tmp_path / "a.safetensors", {f"x.{key}": t for key, t in tensors.items()})
    found = open_checkpoint(path).tensors["x.weight"]
    assert found.shape == (64, 64) and found.stored == "mxfp8" and found.with_shape((33, 90)) is None
    assert torch.equal(found.with_shape((40, 50)).load(dtype=torch.float32), theirs[:40, :50])


@pytest.mark.parametrize("rotated", [256, 64])
def test_w4a4(tmp_path, rotated):
    tensors, theirs = stored(tensor.TensorCoreConvRotW4A4Layout, weight(), convrot_groupsize=rotated)
    found = loaded(tmp_path, tensors, {"format": "convrot_w4a4", "convrot_groupsize": rotated})
    assert torch.allclose(found, theirs, rtol=1e-5, atol=1e-7)
    assert (found - weight()).norm() < 0.2 * weight().norm()


@pytest.mark.parametrize(
    "options",
    [{}, {"codebook": False}, {"codebook": False, "symmetric": False}, {"bits": 6}, {"group_size": 32}],
    ids=str,
)
@pytest.mark.parametrize("rotated", [256, 64])
def test_w4a8(tmp_path, options, rotated):
    parts = w4a8.quantize_w4a8_int8_weight(weight(), convrot_groupsize=rotated, **options)
    names = "weight", "weight_s_rel", "weight_s_channel", "weight_correction", "weight_codebook"
    tensors = {name: part for name, part in zip(names, parts) if part is not None}
    sizes = {"group_size": options.get("group_size", 16), "convrot_groupsize": rotated}
    theirs = w4a8.dequantize_w4a8_int8_weight(*parts[:3], parts[4], parts[3], **sizes, output_dtype=torch.float32)
    found = loaded(tmp_path, tensors, {"format": "asym_w4a8_int8", **sizes})
    assert torch.allclose(found, theirs, rtol=1e-5, atol=1e-7)
    assert (found - weight()).norm() < 0.12 * weight().norm()


def test_every_format_of_the_package_is_compared():
    compared = {"float8_e4m3fn", "nvfp4", "int8_tensorwise", "mxfp8", "convrot_w4a4", "asym_w4a8_int8"}
    others = {f"float8_e4m3fn_{scaled}" for scaled in ("rowwise", "blockwise", "block3d")}  # of another package
    assert compared == set(BY_KIND) - others - {"float8_e5m2"}  # which differs from e4m3 in its dtype alone
