"""Sound networks and upsamplers built from a host's layers, which follow the type of their input and hide their
weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from .references import (
    audio_metadata,
    build,
    duration_metadata,
    random_inputs,
    random_weights,
    short_vocoder_23_metadata,
    upsampler_metadata,
    vocoder_20_metadata,
)


def following_input(layer):
    """A layer that casts its weights to the type of its input while it runs, as a host's streaming layers do."""

    class Layer(layer):
        def forward(self, x):
            kept = dict(self._parameters)
            cast = {name: nn.Parameter(p.to(x), requires_grad=False) for name, p in kept.items() if p is not None}
            self._parameters.update(cast)
            try:
                return super().forward(x)
            finally:
                self._parameters.update(kept)

    return Layer


LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "GroupNorm")
HOST = SimpleNamespace(**{name: following_input(getattr(nn, name)) for name in LAYERS})


@torch.no_grad()
@pytest.mark.parametrize(
    "component, metadata",
    [
        ("audio_encoder", audio_metadata(16, (2, 1, 1), 1, latent_channels=1)),
        ("audio_decoder", audio_metadata(16, (2, 1, 1), 1, latent_channels=1)),
        ("vocoder", vocoder_20_metadata(32)),
        ("vocoder", short_vocoder_23_metadata()),
        ("upsampler", upsampler_metadata(4, 32, 1, rational=True, scale=1.5)),
        ("duration_head", duration_metadata()),
    ],
)
def test_host_layers_give_the_same(component, metadata):
    weights = {name: t.bfloat16() for name, t in random_weights(component, metadata, 6).items()}
    own, hosted = build(component, metadata), build(component, metadata, ops=HOST, dtype=torch.bfloat16)
    own.load_state_dict(weights)
    hosted.load_state_dict(weights, assign=True)
    assert {t.dtype for t in hosted.state_dict().values()} == {torch.bfloat16}
    if component != "upsampler":  # it has no float32 rule, so its filter stays as stored in both
        own.load_state_dict(weights, assign=True)
    for given in random_inputs(component, metadata, 6).values():
        if component == "duration_head" and given.shape[-1] != metadata["transformer"]["cross_attention_dim"]:
            continue
        out, wanted = hosted(given), own(given)
        assert out.dtype == torch.float32 and torch.allclose(out, wanted, atol=1e-6)
