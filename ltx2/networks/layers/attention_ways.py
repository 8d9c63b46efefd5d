"""The ways in which attention can be computed: as torch chooses, or as somebody asks for who has installed it."""

import importlib.util
import inspect
from collections.abc import Callable
from types import MappingProxyType

import torch
from torch.nn import attention as torch_attention

from ...errors import RequestError
from .attention import AttentionFunction, attention, by_rows

SDPA, CUDNN, FLASH, SAGE = "sdpa", "cudnn", "flash", "sage"
WAYS = (SDPA, CUDNN, FLASH, SAGE)
PACKAGES = MappingProxyType({FLASH: "flash_attn", SAGE: "sageattention"})
# (queries, keys, values), all [B, tokens, heads, d] → [B, tokens of queries, heads, d], of all tokens to all
Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
_HALF = (torch.bfloat16, torch.float16)
_SAGE_DIMS = (64, 96, 128)
_FLASH_WIDEST, _FLASH_STEP = 256, 8


def installed_ways(device: torch.device | str) -> tuple[str, ...]:
    """The ways that work on a device of this machine."""
    found = [SDPA]
    if torch.device(device).type == "cuda":
        if hasattr(torch_attention.SDPBackend, "CUDNN_ATTENTION") and _has_priorities():
            found.append(CUDNN)
        found += [way for way, package in PACKAGES.items() if importlib.util.find_spec(package) is not None]
    return tuple(found)


def attention_way(name: str, device: torch.device | str) -> AttentionFunction:
    """Attention as it is asked for. What a way cannot do is left to torch, which is exact: masks, and types or heads
    that its kernel does not take.

    Raises RequestError for a way that is none, or not there, saying which are.
    """
    there = installed_ways(device)
    if name not in there:
        what = f"the package {PACKAGES[name]}" if name in PACKAGES else "another torch"
        kind = torch.device(device).type
        missing = "" if name not in WAYS else f", which needs {what}" if kind == "cuda" else ", which needs a CUDA card"
        raise RequestError(f"attention is {name!r}{missing}: on {kind} there is {' and '.join(there)}")
    if name == SDPA:
        return attention
    if name == CUDNN:
        return _by_cudnn
    kernel = _flash() if name == FLASH else _sage()
    return by_kernel(kernel, _fits_flash if name == FLASH else _fits_sage)


def by_kernel(kernel: Kernel, fits: Callable[[torch.dtype, int], bool]) -> AttentionFunction:
    """Attention by a kernel that knows no masks. fits: whether it takes a type, and numbers a head."""

    @by_rows
    def attend(q, k, v, *, heads: int, mask=None):
        if mask is not None or not fits(q.dtype, q.shape[-1] // heads):
            return attention(q, k, v, heads=heads, mask=mask)
        return kernel(*(t.unflatten(-1, (heads, -1)) for t in (q, k, v))).flatten(2)

    return attend


@by_rows
def _by_cudnn(q, k, v, *, heads: int, mask=None):
    """Torch's attention, which tries cuDNN's kernel first and its own where that does not take the case."""
    names = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH")
    order = [getattr(torch_attention.SDPBackend, name) for name in names]
    with torch_attention.sdpa_kernel(order, set_priority=True):
        return attention(q, k, v, heads=heads, mask=mask)


def _has_priorities() -> bool:
    return "set_priority" in inspect.signature(torch_attention.sdpa_kernel).parameters


def _fits_flash(dtype: torch.dtype, head_dim: int) -> bool:
    return dtype in _HALF and head_dim <= _FLASH_WIDEST and head_dim % _FLASH_STEP == 0


def _fits_sage(dtype: torch.dtype, head_dim: int) -> bool:
    return dtype in _HALF and head_dim in _SAGE_DIMS


def _flash() -> Kernel:
    from flash_attn import flash_attn_func

    return flash_attn_func


def _sage() -> Kernel:
    from sageattention import sageattn

    return lambda q, k, v: sageattn(q, k, v, tensor_layout="NHD", is_causal=False)
