"""A host's layers in the language model: the same states from them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.networks.layers.ops import TORCH_OPS
from ltx2.text.gemma import load_text_encoder, run_hidden_states
from ltx2.text.layers import OnInputDevice, RowsAtUse, with_ops


class CastingLinear(nn.Linear):
    """As a host has them: stored in one type, cast to the input's at use."""

    comfy_cast_weights = True

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x), None if self.bias is None else self.bias.to(x))


OPS = SimpleNamespace(**{name: getattr(TORCH_OPS, name) for name in ("Conv1d", "LayerNorm")}, Linear=CastingLinear)


def states_of(encoder):
    states = []
    with torch.inference_mode():
        run_hidden_states(encoder, torch.arange(3, 40)[None], None, lambda index, state: states.append(state.clone()))
    return states


@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_the_states_are_the_same_and_the_table_belongs_to_nobody(tiny, version):
    path = tiny(version)["text_encoder"]
    plain, hosted = load_text_encoder(path, dtype=torch.float32), load_text_encoder(path, dtype=torch.bfloat16)
    table = hosted.model.embed_tokens.weight
    model = with_ops(hosted.model, OPS, dtype=torch.float32)
    assert not any(type(layer) is nn.Linear for layer in model.modules())
    assert isinstance(model.embed_tokens, RowsAtUse) and model.embed_tokens.table.data_ptr() == table.data_ptr()
    assert all(parameter is not table for parameter in model.parameters())
    assert any(isinstance(layer, OnInputDevice) for layer in model.modules())
    for expected, found in zip(states_of(plain), states_of(hosted), strict=True):
        assert found.dtype == torch.float32 and torch.equal(expected, found)


def test_layers_that_dequantise_at_use_stay(tiny):
    model = nn.Sequential(QuantizedLinear.__new__(QuantizedLinear))
    nn.Module.__init__(model[0])
    assert with_ops(model, OPS, dtype=torch.float32)[0].__class__ is QuantizedLinear


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs two devices")
@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_weights_left_behind_follow(tiny, version):
    from dataclasses import replace

    encoder = load_text_encoder(tiny(version)["text_encoder"], dtype=torch.float32)
    expected = states_of(encoder)
    with_ops(encoder.model, OPS, dtype=torch.float32)
    encoder = replace(encoder, compute_device=torch.device("cuda"))
    found = []
    with torch.inference_mode():
        ids = torch.arange(3, 40, device="cuda")[None]
        run_hidden_states(encoder, ids, None, lambda index, state: found.append(state.cpu()))
    assert all(torch.allclose(a, b, atol=1e-3, rtol=1e-3) for a, b in zip(expected, found, strict=True))
