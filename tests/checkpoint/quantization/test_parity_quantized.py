"""Storage formats compared with comfy-kitchen: what it quantises, this package turns back as it does."""

import json

import pytest
import torch

from ltx2.checkpoint.reader import open_checkpoint

from ..files import save

kitchen = pytest.importorskip("comfy_kitchen")
tensor = pytest.importorskip("comfy_kitchen.tensor")


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
