"""The tiny autoencoder's decoder (taehv's layout, file names ``taeltx_2…``): pictures in moments, for previews and
drafts.

It takes normalised latents as they are and streams: one latent frame at a time, each block remembering the frame
before.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ...clock import FRAMES_PER_LATENT
from ...errors import CheckpointError
from ...values import VIDEO_CHANNELS
from ..layers.ops import TORCH_OPS, Ops

WIDTHS = (256, 128, 64, 64)
PATCH = 4
# the first latent frame stands for one picture, its other seven are dropped
DROPPED_FRAMES = FRAMES_PER_LATENT - 1
PREFIX = "decoder."
MARKER = f"{PREFIX}22.bias"


class _MemoryBlock(nn.Module):
    """Three convolutions over a frame and the one before it, with a way around."""

    def __init__(self, width: int, *, ops: Ops, **to):
        super().__init__()
        layers = {"0": ops.Conv2d(2 * width, width, 3, padding=1, **to)}
        layers |= {number: ops.Conv2d(width, width, 3, padding=1, **to) for number in ("2", "4")}
        self.conv = nn.ModuleDict(layers)

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.conv["0"](torch.cat([x, before], 1)))
        return F.relu(self.conv["4"](F.relu(self.conv["2"](h))) + x)


class _Grow(nn.Module):
    """One frame becomes two."""

    def __init__(self, width: int, *, ops: Ops, **to):
        super().__init__()
        self.conv = ops.Conv2d(width, 2 * width, 1, bias=False, **to)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).reshape(-1, x.shape[1], *x.shape[2:])  # [n, 2·C, h, w] → [2·n, C, h, w]


class _Doubled(nn.Module):
    """Twice the height and width."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


class _Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(x / 3)


class TinyDecoder(nn.Module):
    """Normalised video latents → pictures in 0…1."""

    def __init__(self, *, ops: Ops = TORCH_OPS, device=None, dtype=None):
        super().__init__()
        to = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = [_Clamp(), ops.Conv2d(VIDEO_CHANNELS, WIDTHS[0], 3, padding=1, **to), nn.ReLU()]
        for width, narrower in zip(WIDTHS, WIDTHS[1:]):
            layers += [_MemoryBlock(width, ops=ops, **to) for _ in range(3)]
            layers += [_Doubled(), _Grow(width, ops=ops, **to)]
            layers.append(ops.Conv2d(width, narrower, 3, padding=1, bias=False, **to))
        layers += [nn.ReLU(), ops.Conv2d(WIDTHS[-1], 3 * PATCH**2, 3, padding=1, **to)]
        self.decoder = nn.Sequential(*layers)

    def stream(self, latent: torch.Tensor) -> Iterator[torch.Tensor]:
        """Pieces [n, 3, 32·h, 32·w] of pictures around 0…1, one for each latent frame of [1, 128, F, h, w]; 8F − 7 in
        all."""
        memory: dict[int, torch.Tensor] = {}
        for index, frame in enumerate(latent[0].unbind(1)):
            pictures = self._frame(frame[None], memory)
            yield pictures[DROPPED_FRAMES:] if index == 0 else pictures

    def _frame(self, x: torch.Tensor, memory: dict[int, torch.Tensor]) -> torch.Tensor:
        """One latent frame [1, C, h, w] → [8, 3, H, W]; memory: the last frame that each block saw."""
        for number, layer in enumerate(self.decoder):
            if isinstance(layer, _MemoryBlock):
                last = memory.get(number)
                before = torch.cat([torch.zeros_like(x[:1]) if last is None else last, x[:-1]])
                memory[number] = x[-1:]
                x = layer(x, before)
            else:
                x = layer(x)
        return F.pixel_shuffle(x, PATCH)


def build_tiny_decoder(
    tensors: Mapping[str, torch.Tensor], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TinyDecoder:
    """The decoder of a tiny autoencoder's file; its encoder is left out. Raises CheckpointError for another file."""
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    check_tiny_decoder({name: tensor.shape for name, tensor in own.items()})
    network = TinyDecoder(device="meta", dtype=dtype)
    network.load_state_dict({name: tensor.to(device, dtype) for name, tensor in own.items()}, assign=True)
    return network.eval().requires_grad_(False)


def check_tiny_decoder(shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise CheckpointError where tensors of these shapes are no decoder of a tiny autoencoder for LTX-2."""
    first = shapes.get(f"{PREFIX}1.weight", ())
    if MARKER not in shapes or len(first) != 4 or first[1] != VIDEO_CHANNELS:
        raise CheckpointError(
            f"this is no tiny autoencoder for LTX-2: expected {MARKER} and {VIDEO_CHANNELS} latent channels"
        )
    expected = {name: list(tensor.shape) for name, tensor in TinyDecoder(device="meta").state_dict().items()}
    found = {name: list(shape) for name, shape in shapes.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise CheckpointError(
            f"the tiny autoencoder has {wrong[0]} of shape {found.get(wrong[0], 'missing')}, expected "
            f"{expected.get(wrong[0], 'none')}: take the file for LTX-2"
        )
