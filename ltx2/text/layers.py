"""A language model's layers exchanged for a host's, which may keep their weights elsewhere and bring them at use.

Only layers of plain torch are exchanged; those that dequantise at use stay as they are.
"""

from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from ..checkpoint.quantization.linear import PackedParameter
from ..networks.layers.ops import Ops


class RowsAtUse(nn.Module):
    """An embedding whose table stays where it was loaded, mapped from its file: a prompt needs a few hundred rows of
    it.

    ids [B, T] on any device → [B, T, D] of ``dtype`` there. The table is no parameter, so nobody moves it.
    """

    def __init__(self, embedding: nn.Embedding, dtype: torch.dtype):
        super().__init__()
        self.num_embeddings, self.dtype = embedding.num_embeddings, dtype
        self.table = embedding.weight.detach()
        self.scale = float(getattr(embedding, "embed_scale", 1.0))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of these ids."""
        rows = F.embedding(ids.to(self.table.device), self.table).to(self.dtype)  # [B, T, D]
        # the scale is rounded to the rows' type first, as in the published model
        return (rows * torch.tensor(self.scale, dtype=self.dtype, device=rows.device)).to(ids.device)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """How likely each id comes next, of hidden states [B, D]: [B, ids], computed where the table lies."""
        return F.linear(states.to(self.table.device, self.table.dtype), self.table)


class OnInputDevice(nn.Module):
    """A small layer, such as a norm, whose weights go to its input wherever they were left."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, *args: Any, **keywords: Any) -> Any:
        """The layer's result, on the input's device."""
        tensors = dict(chain(self.layer.named_parameters(), self.layer.named_buffers()))
        if all(tensor.device == x.device for tensor in tensors.values()):
            return self.layer(x, *args, **keywords)
        return functional_call(
            self.layer, {name: tensor.to(x.device) for name, tensor in tensors.items()}, (x, *args), keywords
        )


def with_ops(model: nn.Module, ops: Ops, *, dtype: torch.dtype) -> nn.Module:
    """The model, its linear layers now those of ``ops`` with the same weights, computing in ``dtype``; other weights
    follow their input.

    Changes the model that was given and returns it.
    """
    for name, layer in list(model.named_modules()):
        stem, _, last = name.rpartition(".")
        exchanged = _exchanged(layer, ops, dtype)
        if exchanged is not None:
            setattr(model.get_submodule(stem), last, exchanged)
    return model.eval().requires_grad_(False)


def _exchanged(layer: nn.Module, ops: Ops, dtype: torch.dtype) -> nn.Module | None:
    if type(layer) is nn.Linear:
        with torch.device("meta"):
            linear = ops.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        linear.weight, linear.bias = layer.weight, layer.bias
        return linear
    if isinstance(layer, nn.Embedding):
        return RowsAtUse(layer, dtype)
    own_tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    if isinstance(layer, PackedParameter) or not own_tensors:
        return None
    if not list(layer.children()):
        # what computes its tensors (rotary frequencies) has no parameters and looks after itself
        return OnInputDevice(layer) if list(layer.parameters(recurse=False)) else None
    layer.register_forward_pre_hook(_bring_buffers, with_kwargs=True)
    return None


def _bring_buffers(layer: nn.Module, args, keywords):
    """A block's own scalars to its input: no host counts them, and they are a few bytes."""
    x = args[0] if args else keywords["hidden_states"]
    for name, buffer in layer.named_buffers(recurse=False):
        if buffer.device != x.device:
            setattr(layer, name, buffer.to(x.device))
