"""Building: every tensor is named, lands where it belongs, shares the file's memory where it can."""

import gc
import types

import pytest
import torch
from torch import nn

from ltx2.checkpoint import models
from ltx2.checkpoint.layout import find_component
from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError, RequestError

from . import small
from .files import save
from .quantization.test_quantized import about

E4M3 = torch.float8_e4m3fn


def opened(tmp_path, tensors):
    return open_checkpoint(save(tmp_path / "a.safetensors", small.prefixed(tensors)))


def test_missing_unexpected_and_misshapen_tensors(tmp_path):
    sound = small.transformer()
    gone = [name for name in sound if name.startswith("transformer_blocks.1.attn1.")]
    lacking = {name: tensor for name, tensor in sound.items() if name not in gone}
    with pytest.raises(
        CheckpointError, match=rf"a.safetensors has {len(gone)} missing tensors \(transformer_blocks.1.attn1.*, …\)"
    ):
        models.load_transformer(opened(tmp_path, lacking))
    extra = {**sound, "transformer_blocks.0.more": torch.ones(1), "transformer_blocks.0.other": torch.ones(1)}
    with pytest.raises(
        CheckpointError, match=r"2 unexpected tensors \(transformer_blocks.0.more, transformer_blocks.0.other\)"
    ):
        models.load_transformer(opened(tmp_path, extra))
    wrong = {**sound, "transformer_blocks.1.attn1.to_q.weight": torch.ones(3, 3)}
    with pytest.raises(
        CheckpointError, match=r"1 tensors of another shape \(transformer_blocks.1.attn1.to_q.weight is \[3, 3\]"
    ):
        models.load_transformer(opened(tmp_path, wrong))


def test_weights_are_views_of_the_file_and_need_no_gradients(tmp_path):
    checkpoint = opened(tmp_path, small.transformer())
    network = models.load_transformer(checkpoint)
    lazy = checkpoint.tensors[f"{small.PREFIX}proj_out.weight"]
    assert network.proj_out.weight.data_ptr() == lazy.load().data_ptr()
    assert not network.training and not any(p.requires_grad or p.is_meta for p in network.parameters())


def test_types_are_converted_one_by_one(tmp_path):
    tensors = small.transformer()
    network = models.load_transformer(opened(tmp_path, tensors), dtype=torch.bfloat16)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert torch.equal(network.proj_out.weight, tensors["proj_out.weight"].bfloat16())


def quantised(tensors):
    """Linear weights of the blocks as scaled fp8, and what they stand for."""
    stored, dense = {}, dict(tensors)
    for name, tensor in tensors.items():
        if name.startswith("transformer_blocks.") and name.endswith(".weight") and tensor.ndim == 2:
            scale = tensor.abs().max() / 448
            stored[name] = (tensor / scale).to(E4M3)
            stored[f"{name}_scale"] = scale
            dense[name] = stored[name].float() * scale
        else:
            stored[name] = tensor
    return stored, dense


def test_quantised_weights_dequantised_and_kept(tmp_path):
    stored, dense = quantised(small.transformer())
    plain = models.load_transformer(opened(tmp_path, dense))
    checkpoint = opened(tmp_path, stored)
    at_load = models.load_transformer(checkpoint, dtype=torch.float32)
    kept = models.load_transformer(checkpoint, dtype=torch.float32, quantized="on_use")
    layers = [module for module in kept.modules() if isinstance(module, QuantizedLinear)]
    assert len(layers) == sum(name.endswith("_scale") for name in stored)
    assert torch.equal(small.run(at_load), small.run(plain)) and torch.allclose(
        small.run(kept), small.run(plain), atol=1e-6
    )
    sizes = [sum(p.nbytes for p in network.parameters()) for network in (kept, plain)]
    assert sizes[1] - sizes[0] == sum(3 * t.numel() - 4 for name, t in stored.items() if t.dtype == E4M3)
    with pytest.raises(RequestError, match="'later'"):
        models.load_transformer(checkpoint, quantized="later")


def test_other_types_of_storage_keep_their_layers_too(tmp_path):
    tensors = small.transformer()
    name = "transformer_blocks.0.attn1.to_q"
    scale = tensors[f"{name}.weight"].abs().amax(1, keepdim=True) / 127
    stored = {
        **tensors,
        f"{name}.weight": (tensors[f"{name}.weight"] / scale).round().to(torch.int8),
        f"{name}.weight_scale": scale,
    }
    stored[f"{name}.comfy_quant"] = about(format="int8_tensorwise")
    network = models.load_transformer(opened(tmp_path, stored), quantized="on_use")
    layer = network.transformer_blocks[0].attn1.to_q
    assert layer.form.name == "int8" and torch.allclose(
        layer.dense("cpu", torch.float32), tensors[f"{name}.weight"], atol=2e-3
    )
    assert torch.isfinite(small.run(network)).all()


class _EmptyUntilLoaded(nn.Module):
    """A host's layer that has no tensors before they are assigned."""

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features, self.out_features, self.weight, self.bias = in_features, out_features, None, None

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def test_layers_of_a_host_that_are_empty_until_loaded(tmp_path):
    ops = types.SimpleNamespace(
        **{name: getattr(nn, name) for name in ("RMSNorm", "LayerNorm")}, Linear=_EmptyUntilLoaded
    )
    stored, dense = quantised(small.transformer())
    plain = models.load_transformer(opened(tmp_path, dense))
    for mode in ("dequantize", "on_use"):
        network = models.load_transformer(opened(tmp_path, stored), ops=ops, dtype=torch.float32, quantized=mode)
        assert torch.allclose(small.run(network), small.run(plain), atol=1e-6)


def test_a_component_says_where_it_comes_from(tmp_path):
    assert str(find_component(opened(tmp_path, small.transformer()), "transformer")) == "transformer of a.safetensors"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool], ids=str)
def test_whole_numbers_in_place_of_weights_are_a_quantisation(tmp_path, dtype):
    """Of whatever program, and whatever shape they have: never "incomplete"."""
    tensors = small.transformer()
    for name in [name for name in tensors if name.endswith("to_k.weight")]:
        tensors[name] = torch.zeros(len(tensors[name]), 7).to(dtype)
    tensors["transformer_blocks.0.attn1.to_k.secret_scales"] = torch.ones(3)
    with pytest.raises(CheckpointError, match="quantised in a way that is not known here: use the bf16") as caught:
        models.load_transformer(opened(tmp_path, tensors))
    assert "incomplete" not in str(caught.value)


@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_no_layer_is_given_first_values_or_made_twice(tmp_path, monkeypatch, was_on, fails):
    path = save(tmp_path / "model.safetensors", small.prefixed(small.transformer() | small.connectors()))
    made = []
    for name in ("uniform_", "kaiming_uniform_", "ones_", "zeros_"):
        monkeypatch.setattr(nn.init, name, lambda *_, name=name, **__: pytest.fail(f"{name} for what a file replaces"))
    kind = models.Transformer
    monkeypatch.setattr(models, "Transformer", lambda *a, **k: made.append(gc.isenabled()) or kind(*a, **k))
    if fails:
        monkeypatch.setattr(models, "Transformer", lambda *a, **k: (_ for _ in ()).throw(TypeError("no")))
    (gc.enable if was_on else gc.disable)()
    try:
        if fails:
            with pytest.raises(CheckpointError):
                models.load_transformer(open_checkpoint(path))
        else:
            models.load_transformer(open_checkpoint(path))
            assert made == [False]
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
