"""Sound to latents and back: lengths, fitting, silence, damage."""

import pytest
import torch

from ltx2 import clock
from ltx2.errors import CheckpointError, MediaError, RequestError
from ltx2.networks.audio.codec import decode_audio, encode_waveform, fit_latents
from ltx2.values import Waveform

from .references import audio_metadata, build, random_weights, short_vocoder_23_metadata, vocoder_20_metadata

AUDIO = audio_metadata(16, (2, 1, 1), 1, latent_channels=1)


def small(component, metadata):
    module = build(component, metadata)
    module.load_state_dict(random_weights(component, metadata, 4))
    return module.eval()


@pytest.fixture(scope="module")
def encoder():
    return small("audio_encoder", AUDIO)


@pytest.fixture(scope="module")
def decoder():
    return small("audio_decoder", AUDIO)


@pytest.fixture(scope="module")
def vocoder():
    return small("vocoder", vocoder_20_metadata(32))


@torch.no_grad()
@pytest.mark.parametrize("rate, channels", [(16_000, 1), (44_100, 2), (48_000, 6), (8000, 2)])
def test_any_sound_becomes_25_latents_a_second(encoder, rate, channels):
    latent = encode_waveform(encoder, Waveform(torch.rand(channels, rate) - 0.5, rate))
    assert latent.shape == (1, 1, 26, 16) and latent.dtype == torch.float32 and latent.isfinite().all()
    assert encode_waveform(encoder, Waveform(torch.rand(channels, rate) - 0.5, rate), latents=25).shape == (
        1,
        1,
        25,
        16,
    )


@torch.no_grad()
def test_a_single_sample_is_one_latent(encoder):
    assert encode_waveform(encoder, Waveform(torch.zeros(2, 1), 48_000)).shape == (1, 1, 1, 16)


def test_fitting_crops_the_end_or_adds_zeros():
    latent = torch.randn(1, 8, 5, 16)
    assert torch.equal(fit_latents(latent, 3), latent[:, :, :3]) and torch.equal(fit_latents(latent, 5), latent)
    longer = fit_latents(latent, 7)
    assert torch.equal(longer[:, :, :5], latent) and not longer[:, :, 5:].any()
    assert fit_latents(torch.ones(1, 4, 2, 3, 3), 4).shape == (1, 4, 4, 3, 3)
    with pytest.raises(RequestError, match="expected at least 1"):
        fit_latents(latent, 0)


@torch.no_grad()
@pytest.mark.parametrize("latents, samples", [(1, 240), (25, 23_280), (126, 120_240)])
def test_decoded_length_is_exact(decoder, vocoder, latents, samples):
    sound = decode_audio(decoder, vocoder, torch.randn(1, 1, latents, 16))
    assert sound.sample_rate == 24_000 and sound.samples.shape == (2, samples)
    assert samples == clock.decoded_samples(latents, 24_000) and sound.samples.abs().max() <= 1


@torch.no_grad()
def test_windows_give_the_whole(decoder):
    vocoder = small("vocoder", short_vocoder_23_metadata())
    latent = torch.randn(1, 1, 90, 16, generator=torch.Generator().manual_seed(1))
    whole, parts = (decode_audio(decoder, vocoder, latent, window_latents=window) for window in (500, 40))
    assert whole.sample_rate == 48_000 and whole.samples.shape == (2, clock.decoded_samples(90, 48_000))
    assert (whole.samples - parts.samples).abs().max() < 1e-5 * whole.samples.abs().max()


@torch.no_grad()
def test_silence_there_and_back_is_finite(encoder, decoder, vocoder):
    latent = encode_waveform(encoder, Waveform(torch.zeros(2, 8000), 48_000))
    assert latent.isfinite().all() and decode_audio(decoder, vocoder, latent).samples.isfinite().all()
    assert decode_audio(decoder, vocoder, torch.zeros(1, 1, 4, 16)).samples.isfinite().all()


@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_damaged_latents_are_named(decoder, vocoder, damage):
    latent = torch.zeros(1, 1, 4, 16)
    latent[0, 0, 2, 3] = damage
    with pytest.raises(MediaError, match="audio latent holds NaN or infinity"):
        decode_audio(decoder, vocoder, latent)


@torch.no_grad()
def test_damaged_vocoder_is_named(decoder):
    vocoder = small("vocoder", vocoder_20_metadata(32))
    vocoder.conv_pre.bias.fill_(float("nan"))
    with pytest.raises(MediaError, match="decoded sound holds NaN"):
        decode_audio(decoder, vocoder, torch.zeros(1, 1, 2, 16))


@torch.no_grad()
def test_wrong_rate_is_named(decoder):
    vocoder = small("vocoder", {"vocoder": vocoder_20_metadata(32)["vocoder"] | {"output_sampling_rate": 22_050}})
    with pytest.raises(CheckpointError, match="22050 Hz"):
        decode_audio(decoder, vocoder, torch.zeros(1, 1, 2, 16))


@pytest.mark.parametrize("shape", [(1, 8, 4, 16), (2, 1, 4, 16), (1, 1, 0, 16), (1, 1, 4, 8), (1, 4, 16)])
def test_other_shapes_are_refused(decoder, vocoder, shape):
    with pytest.raises(RequestError, match="audio latent has shape"):
        decode_audio(decoder, vocoder, torch.zeros(shape))


@pytest.mark.parametrize("frames, fps, latents", [(121, 24, 126), (121, 25, 121), (241, 24, 251), (25, 25, 25)])
def test_lengths_of_usual_clips(frames, fps, latents):
    count = clock.audio_latents(frames, clock.parse_fps(fps))
    assert count == latents
    assert clock.decoded_samples(count, 24_000) == (4 * latents - 3) * 240
    assert clock.decoded_samples(count, 48_000) == (4 * latents - 3) * 480
