"""What the pipeline does against drift: latents held to a reference, sound taken up at another loudness, guides."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ltx2.errors import RequestError
from ltx2.sampling.channel_statistics import statistics_of
from ltx2.stages import steps
from ltx2.stages.conditioning import condition_video
from ltx2.stages.pipeline import generate
from ltx2.stages.request import Request, make_job
from ltx2.values import AudioCondition, ChannelStatistics, ClipCondition, ImageCondition, LatentDrift, Waveform

pytestmark = pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
ONE_STEP = {"denoise": {"num_inference_steps": 1}}


def request_with(drift=None, **fields):
    clip = ClipCondition(np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3)).astype(np.uint8), strength=0.9)
    known = {"clips": (clip,), "audio_latents": 0, "frames": 25, "width": 64, "height": 64, "seed": 1}
    return Request(prompt="a lake", preset="ltx2_distilled", latent_drift=drift, overrides=ONE_STEP, **known | fields)


def test_new_latents_are_held_to_a_reference_and_the_rest_stays_bit_for_bit(models):
    loaded = models("2.3")
    off = generate(loaded, request_with())
    assert off.drift_reference is None
    measured = generate(loaded, request_with(LatentDrift(0.4)))
    assert torch.equal(measured.latent.video, off.latent.video)
    own = statistics_of(off.latent.video[:, :, 2:])  # nine frames are two latent ones
    assert torch.equal(measured.drift_reference.mean, own.mean)
    reference = ChannelStatistics(own.mean + 0.5, own.deviation, own.deviation)
    held = generate(loaded, request_with(LatentDrift(0.4, reference)))
    assert torch.equal(held.latent.video[:, :, :2], off.latent.video[:, :, :2])
    assert torch.allclose(statistics_of(held.latent.video[:, :, 2:]).mean, own.mean + 0.2, atol=1e-4)
    assert torch.allclose(held.drift_reference.mean, own.mean + 0.5 - 0.1 * 0.3, atol=1e-4)


def test_what_cannot_be_is_refused_before_anything_is_made(models):
    for drift, words in (
        (LatentDrift(2.0), "latent is 2.0, expected 0 to 1"),
        (LatentDrift(0.5, ChannelStatistics(*torch.ones(3, 4))), r"shape \[4\], expected 128"),
        (LatentDrift(0.5, ChannelStatistics(*torch.full((3, 128), torch.nan))), "finite numbers"),
        (0.5, "latent_drift is 0.5, expected LatentDrift"),
    ):
        with pytest.raises(RequestError, match=words):
            make_job(models("2.3"), request_with(drift))


def test_sound_is_taken_up_softer_and_louder_than_it_was_left(monkeypatch):
    """By a codec that keeps loudness, but loses something on every way: what a state holds does not go that way."""

    def encode(models, sound):
        level = sound.samples.unflatten(1, (-1, 960)).square().mean((0, 2)).sqrt()
        return level.log().reshape(1, 1, -1, 1).expand(1, 8, -1, 16) + 0.3

    def decode(models, latent, audio=None, *, progress=None):
        return (Waveform(latent.audio[0, 0, :, 0].exp().repeat_interleave(960).expand(2, -1) * 0.9, 24000),)

    monkeypatch.setattr(steps, "encode_sound", encode)
    monkeypatch.setattr(steps, "decode_sounds", decode)
    known = AudioCondition(torch.linspace(-3, -1, 12).reshape(1, 1, -1, 1).repeat(1, 8, 1, 16).bfloat16())
    assert steps.encode_audio_condition(None, known, audio_latents=40) is known
    for gain in (0.5, 0.8, 1.5):
        taken = steps.encode_audio_condition(None, replace(known, gain=gain), audio_latents=40)
        assert taken.gain == 1 and taken.latent.dtype == torch.bfloat16
        expected = known.latent.float() + math.log(gain)
        assert torch.allclose(taken.latent.float(), expected, atol=0.02)


def test_an_anchor_is_looked_at_beside_what_lies_at_its_frame():
    shape, seen = (1, 128, 2, 2, 2), []

    def encode(pixels):
        seen.append(pixels)
        return torch.zeros(1, 128, -(-pixels.shape[2] // 8), 2, 2) + float(pixels.mean())

    frames = np.zeros((9, 64, 64, 3), np.uint8)
    anchor = ImageCondition(np.full((64, 64, 3), 255, np.uint8), 0, 0.3, crf=0, guide=True)
    clips = (ClipCondition(frames),)
    plain = condition_video(shape, encode, clips=clips)
    found = condition_video(shape, encode, images=(anchor,), clips=clips)
    assert torch.equal(found.video, plain.video) and torch.equal(found.video_mask, plain.video_mask)
    (guide,) = found.guides
    assert (guide.frame, guide.strength) == (0, 0.3) and guide.latent.mean() == pytest.approx(1, abs=0.01)
