"""The tiny autoencoder's decoder: the published key names and sizes, streaming equal to decoding at once, bad files."""

import math

import pytest
import torch
import torch.nn.functional as F

from ltx2.errors import CheckpointError
from ltx2.networks.video_vae.tiny_decoder import TinyDecoder, build_tiny_decoder


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, like in TinyDecoder(device="meta").state_dict().items():
        scale = 1 / math.sqrt(like[0].numel()) if like.ndim > 1 else 0.1
        found[name] = torch.randn(like.shape, generator=generator) * scale
    return found


def at_once(weights, latent):
    """All frames together, written down independently of the network: memory is the same frames moved by one."""

    def conv(x, name, padding=1):
        return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), padding=padding)

    x = latent[0].movedim(1, 0)  # [F, C, h, w]
    x = F.relu(conv(3 * torch.tanh(x / 3), "decoder.1"))
    for first in (3, 9, 15):
        for number in range(first, first + 3):
            before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
            h = F.relu(conv(torch.cat([x, before], 1), f"decoder.{number}.conv.0"))
            h = conv(F.relu(conv(h, f"decoder.{number}.conv.2")), f"decoder.{number}.conv.4")
            x = F.relu(h + x)
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        grown = conv(x, f"decoder.{first + 4}.conv", padding=0)
        x = torch.stack(grown.chunk(2, dim=1), 1).flatten(0, 1)
        x = conv(x, f"decoder.{first + 5}")
    return F.pixel_shuffle(conv(F.relu(x), "decoder.22"), 4)[7:]


@torch.no_grad()
def test_streaming_equals_decoding_at_once():
    weights, latent = tensors(), torch.randn(1, 128, 3, 2, 3)
    pieces = list(build_tiny_decoder(weights).stream(latent))
    assert [len(piece) for piece in pieces] == [1, 8, 8]
    found = torch.cat(pieces)
    assert found.shape == (17, 3, 64, 96)
    assert torch.allclose(found, at_once(weights, latent), atol=1e-5)


def test_the_published_size():
    assert sum(t.numel() for t in TinyDecoder(device="meta").state_dict().values()) == pytest.approx(10.2e6, rel=0.01)


def test_other_files_are_named():
    with pytest.raises(CheckpointError, match="no tiny autoencoder for LTX-2"):
        build_tiny_decoder({"decoder.1.weight": torch.zeros(4, 16, 3, 3)})
    weights = tensors()
    weights["decoder.3.conv.0.weight"] = weights["decoder.3.conv.0.weight"][:, :10]
    with pytest.raises(CheckpointError, match=r"decoder.3.conv.0.weight of shape \[256, 10, 3, 3\], expected"):
        build_tiny_decoder(weights)


def test_an_encoder_in_the_file_is_left_alone():
    build_tiny_decoder(tensors() | {"encoder.0.weight": torch.zeros(1)})
