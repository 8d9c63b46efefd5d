"""Sound networks, upsamplers and duration head against the published packages, at other seeds and sizes than the
goldens."""

import pytest
import torch

from .references import (
    UPSAMPLERS,
    audio_metadata,
    build,
    duration_metadata,
    from_diffusers,
    from_ltx_core,
    random_inputs,
    random_weights,
    short_vocoder_23_metadata,
    upsampler_metadata,
    vocoder_20_metadata,
    vocoder_23_metadata,
)

CASES = {
    "audio_encoder": ("audio_encoder", audio_metadata(32, (1, 2, 4), 2, latent_channels=2)),
    "audio_decoder": ("audio_decoder", audio_metadata(32, (1, 2, 4), 2, latent_channels=2)),
    "vocoder_2.0": ("vocoder", vocoder_20_metadata(64)),
    "vocoder_2.3": ("vocoder", vocoder_23_metadata(64, 64)),
    "vocoder_2.3_short": ("vocoder", short_vocoder_23_metadata()),
    **{
        f"upsampler_{kind}": ("upsampler", upsampler_metadata(8, 32, 2, **options))
        for kind, options in UPSAMPLERS.items()
    },
}


def compare(component, metadata, seed, reference):
    weights, inputs = random_weights(component, metadata, seed), random_inputs(component, metadata, seed)
    ours, theirs = build(component, metadata), reference(component, metadata, weights)
    ours.load_state_dict(weights)
    for name, given in inputs.items():
        out, wanted = ours(given), theirs(given)
        assert out.shape == wanted.shape
        scale = wanted.abs().max()
        assert 1e-3 < scale and (out - wanted).abs().max() < 1e-5 * scale, name


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_ltx_core(case):
    pytest.importorskip("ltx_core")
    compare(*CASES[case], 21, from_ltx_core)


@torch.no_grad()
@pytest.mark.parametrize("case", [case for case in CASES if case != "vocoder_2.3_short"])
def test_diffusers(case):
    pytest.importorskip("diffusers.pipelines.ltx2.vocoder")
    compare(*CASES[case], 23, from_diffusers)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [dict(), dict(queries=2, heads=2, hidden=24)])
def test_duration_head_of_diffusers(sizes):
    pytest.importorskip("diffusers.pipelines.ltx2.duration_head")
    metadata = duration_metadata(**sizes)
    weights, inputs = random_weights("duration_head", metadata, 24), random_inputs("duration_head", metadata, 24)
    ours, theirs = build("duration_head", metadata), from_diffusers("duration_head", metadata, weights)
    ours.load_state_dict(weights)
    for video, audio in ((inputs["video"], inputs["audio"]), (inputs["video"], None), (None, inputs["audio"])):
        assert torch.allclose(ours(video, audio), theirs(video, audio), rtol=1e-5)
