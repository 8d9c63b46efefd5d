"""Layers that follow their input give what torch's own give, and their weights stay where they are."""

import torch

from ltx2.networks.layers.offload_ops import OFFLOAD_OPS, is_offloaded
from ltx2.networks.layers.ops import TORCH_OPS


def test_same_results_and_the_weights_stay():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    for make in (
        lambda ops: ops.Linear(8, 6),
        lambda ops: ops.Linear(8, 6, bias=False),
        lambda ops: ops.RMSNorm(8, eps=1e-6),
    ):
        usual, following = make(TORCH_OPS), make(OFFLOAD_OPS)
        following.load_state_dict(usual.state_dict())
        assert torch.equal(following(x), usual(x))
        assert is_offloaded(following) and not is_offloaded(usual)


def test_the_input_may_be_elsewhere():
    layer = OFFLOAD_OPS.Linear(8, 6)
    out = layer(torch.empty(2, 8, device="meta", dtype=torch.bfloat16))
    assert out.device.type == "meta" and out.dtype == torch.bfloat16
    assert layer.weight.device.type == "cpu"
