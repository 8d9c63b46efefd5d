"""Attention in the way that somebody asks for: torch's where its kernel cannot do it, refused where it is not there."""

import pytest
import torch

from ltx2.errors import RequestError
from ltx2.networks.layers import attention_ways as ways
from ltx2.networks.layers.attention import RowBias, attention

HEADS = 2


def tokens(count, dtype, head_dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, HEADS * head_dim, generator=generator).to(dtype)


def recorded():
    """A kernel of the kind that packages have: without masks, tokens before heads."""
    calls = []

    def kernel(q, k, v):
        calls.append(tuple(q.shape))
        return torch.nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)

    return calls, kernel


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_kernel_gets_what_it_can_do_and_torch_the_rest(dtype):
    calls, kernel = recorded()
    attend = ways.by_kernel(kernel, lambda dtype, width: dtype == torch.bfloat16 and width == 16)
    q, k, v = tokens(5, dtype), tokens(7, dtype, seed=1), tokens(7, dtype, seed=2)
    bias = torch.zeros(1, 1, 1, 7, dtype=dtype)
    bias[..., 3:] = torch.finfo(dtype).min
    rows = (RowBias(0, 2, None), RowBias(2, 5, bias))
    for mask in (None, bias, rows):
        assert torch.equal(attend(q, k, v, heads=HEADS, mask=mask), attention(q, k, v, heads=HEADS, mask=mask))
    half = dtype == torch.bfloat16
    assert calls == ([(2, 5, HEADS, 16), (2, 2, HEADS, 16)] if half else [])  # all rows, and those without a mask
    attend(*(tokens(3, dtype, head_dim=8) for _ in range(3)), heads=HEADS)
    assert len(calls) == 2 * half


def test_cudnn_first_and_torch_where_it_does_not_do_it():
    if not ways._has_priorities():
        pytest.skip("this torch knows no order of attentions")
    q, k, v = (tokens(6, torch.float32, seed=seed) for seed in range(3))
    mask = torch.zeros(1, 1, 1, 6)
    for given in (None, mask):  # on a CPU there is no cuDNN
        assert torch.allclose(
            ways._by_cudnn(q, k, v, heads=HEADS, mask=given), attention(q, k, v, heads=HEADS), atol=1e-6
        )


@pytest.mark.parametrize("name", [*ways.WAYS, "fastest"])
def test_what_is_not_there_is_told_with_what_is(name, monkeypatch):
    assert ways.attention_way("sdpa", "cuda:0") is attention
    if name == "sdpa":
        assert ways.attention_way(name, "cpu") is attention
        return
    with pytest.raises(RequestError, match=f"'{name}'.*: on cpu there is sdpa$"):
        ways.attention_way(name, "cpu")
    monkeypatch.setattr(ways, "installed_ways", lambda device: ("sdpa", "cudnn"))
    if name == "cudnn":
        assert ways.attention_way(name, "cuda") is ways._by_cudnn
        return
    with pytest.raises(RequestError) as caught:
        ways.attention_way(name, "cuda")
    needs = f", which needs the package {ways.PACKAGES[name]}" if name in ways.PACKAGES else ""
    assert str(caught.value) == f"attention is {name!r}{needs}: on cuda there is sdpa and cudnn"
