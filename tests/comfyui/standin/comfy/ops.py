"""Layers that keep their stored dtype and cast it to the input's at use, without initialising weights."""

import torch
import torch.nn.functional as F


class _Cast:
    comfy_cast_weights = True

    def reset_parameters(self):
        return None

    def _cast(self, x):
        to = {"device": x.device, "dtype": x.dtype}
        return self.weight.to(**to), None if self.bias is None else self.bias.to(**to)


class manual_cast:
    class Linear(_Cast, torch.nn.Linear):
        def forward(self, x):
            return F.linear(x, *self._cast(x))

    class Conv1d(_Cast, torch.nn.Conv1d):
        def forward(self, x):
            return self._conv_forward(x, *self._cast(x))

    class Conv2d(_Cast, torch.nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, *self._cast(x))

    class Conv3d(_Cast, torch.nn.Conv3d):
        def forward(self, x):
            return self._conv_forward(x, *self._cast(x))

    class ConvTranspose1d(_Cast, torch.nn.ConvTranspose1d):
        def forward(self, x):
            weight, bias = self._cast(x)
            return F.conv_transpose1d(
                x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )

    class GroupNorm(_Cast, torch.nn.GroupNorm):
        def forward(self, x):
            return F.group_norm(x, self.num_groups, *self._cast(x), self.eps)

    class LayerNorm(_Cast, torch.nn.LayerNorm):
        def forward(self, x):
            weight, bias = self._cast(x) if self.weight is not None else (None, None)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)

    class RMSNorm(_Cast, torch.nn.RMSNorm):
        bias = None

        def forward(self, x):
            weight = self._cast(x)[0] if self.weight is not None else None
            return F.rms_norm(x, self.normalized_shape, weight, self.eps)

    class Embedding(_Cast, torch.nn.Embedding):
        bias = None

        def forward(self, x, out_dtype=None):
            return F.embedding(x, self.weight).to(out_dtype or self.weight.dtype)


disable_weight_init = manual_cast


def cast_bias_weight(layer, input=None, dtype=None, device=None, bias_dtype=None, offloadable=False):
    return layer.weight.to(device, dtype), None if layer.bias is None else layer.bias.to(device, bias_dtype), None


def uncast_bias_weight(layer, weight, bias, borrowed):
    pass
