"""A negative prompt within the text attention: nothing when off, the formula by hand, and both streams moved."""

from dataclasses import replace

import pytest
import torch

from ltx2.errors import RequestError
from ltx2.networks.transformer.model import StreamInput
from ltx2.networks.transformer.nag import Nag, guided_heads

from .samples import inputs, small_config, small_transformer

VERSIONS = ("2.0", "2.3", "2.5")


def streams(version):
    config = small_config(version)
    given = inputs(config)
    return small_transformer(config, 5), *(StreamInput(**given[name]) for name in ("video", "audio"))


def guided(stream, nag, other):
    return replace(stream, nag=nag, negative_context=other)


@torch.no_grad()
@pytest.mark.parametrize("version", VERSIONS)
def test_off_is_exactly_off_and_on_moves_both_streams(version):
    model, video, audio = streams(version)
    plain = model(video, audio)
    others = torch.randn_like(video.context), torch.randn_like(audio.context)
    for nag in (Nag(1.0), Nag(11.0, alpha=0.0)):
        found = model(guided(video, nag, others[0]), guided(audio, nag, others[1]))
        assert all(torch.equal(a, b) for a, b in zip(found, plain))
    found = model(guided(video, Nag(11.0), others[0]), guided(audio, Nag(11.0), others[1]))
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in zip(found, plain))


@torch.no_grad()
@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_prompt_on_both_sides_changes_nothing(version):
    model, video, audio = streams(version)
    plain = model(video, audio)
    found = model(guided(video, Nag(11.0), video.context), guided(audio, Nag(11.0), audio.context))
    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(found, plain))


@pytest.mark.parametrize("scale, alpha, tau", [(11.0, 0.25, 2.5), (3.0, 1.0, 100.0), (0.5, 0.5, 0.1)])
def test_the_formula_token_by_token(scale, alpha, tau):
    positive, negative = torch.randn(2, 2, 3, 8, dtype=torch.float64).float()
    found = guided_heads(positive, negative, Nag(scale, alpha, tau))
    for row in range(2):
        for token in range(3):
            z, other = positive[row, token].double(), negative[row, token].double()
            g = scale * z - (scale - 1) * other
            ratio = g.abs().sum() / z.abs().sum()
            if ratio > tau:
                g = g * tau / ratio
            assert torch.allclose(found[row, token].double(), alpha * g + (1 - alpha) * z, atol=1e-5)


def test_without_a_negative_context_it_is_told():
    model, video, audio = streams("2.3")
    with pytest.raises(RequestError, match="no negative context"):
        model(replace(video, nag=Nag(5.0)), audio)
