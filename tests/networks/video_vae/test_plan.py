"""Plans follow the free memory, say what they are, estimate what is measured, and give the same pictures."""

import pytest
import torch

from benchmarks.live_memory import live_peak
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder
from ltx2.networks.video_vae.plan import (
    DecodePlan,
    choose,
    decode,
    decode_bytes,
    encode,
    encode_bytes,
    plan_decode,
    plan_encode,
)
from ltx2.networks.video_vae.streaming import stream_decode, stream_encode
from ltx2.networks.video_vae.tiling import Tiling

from .samples import decoder, encoder, noise, released

GIB = 2**30
FULL_HD = (1, 128, 16, 34, 60)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    "free, mode, words",
    [
        (40, "whole", "the whole clip at once, about 11"),
        (17, "stream", "an exact stream in pieces of 32 frames, about"),  # at once a card takes 19 GiB
        (5, "stream", "an exact stream in pieces of 16 frames, about 3.6 GiB beside the weights, 5.0 GiB free"),
        (4, "stream", "an exact stream in pieces of 8 frames, about 2.7 GiB"),
        (2.8, "stream", "an exact stream in pieces of 2 frames, about"),
        (1.8, "tiles", "tiles (768 px tiles overlapping by 64, 80 frames overlapping by 24), blended"),
        (0.01, "tiles", "the leanest way there is, and it may not fit"),
    ],
)
def test_plans_follow_the_free_memory(free, mode, words):
    plan = plan_decode(released("2.3"), FULL_HD, int(free * GIB), torch.bfloat16)
    assert plan.mode == mode and words in str(plan)
    assert plan.fits == (free > 0.1)
    assert plan_encode(released("2.3"), FULL_HD, int(free * GIB), torch.bfloat16).mode == mode


def test_length_does_not_change_a_stream():
    ten, sixty = ((*FULL_HD[:2], latents, *FULL_HD[3:]) for latents in (31, 181))
    ten, sixty = (plan_decode(released("2.3"), shape, 6 * GIB, torch.bfloat16) for shape in (ten, sixty))
    assert ten == sixty and sixty.mode == "stream"


def test_other_decoders_can_be_planned_for():
    plans = [DecodePlan("whole", 100 * GIB), DecodePlan("tiles", 8 * GIB, tiling=Tiling(320, 160, 80, 40))]
    assert choose(plans, 24 * GIB).mode == "tiles"
    assert choose(plans, 1 * GIB).estimate_bytes == 8 * GIB and not choose(plans, 1 * GIB).fits
    assert "free" not in str(plans[0])


@pytest.mark.parametrize("piece_frames", (None, 8))
@pytest.mark.parametrize("version", ("2.0", "2.3"))
def test_estimates_are_what_is_measured(version, piece_frames):
    config, shape = released(version), (1, 128, 6, 5, 8)
    half = {"device": "meta", "dtype": torch.bfloat16}
    down, up = VideoDecoder(config, **half), VideoEncoder(config, **half)
    latent, clip = torch.empty(shape, **half), torch.empty(1, 3, 41, 160, 256, **half)

    def drain(stream):
        for piece in stream:
            del piece

    if piece_frames is None:
        measured = live_peak(lambda: down(latent)), live_peak(lambda: up(clip))
    else:
        measured = tuple(
            live_peak(lambda run=run, model=model, given=given: drain(run(model, given, piece_frames=piece_frames)))
            for run, model, given in ((stream_decode, down, latent), (stream_encode, up, clip))
        )
    estimates = [work(config, shape, torch.bfloat16, piece_frames) for work in (decode_bytes, encode_bytes)]
    for found, estimate in zip(measured, estimates):
        # the clip is too short to fill the state of the innermost layers
        assert 0.97 * found <= estimate <= 1.45 * found


PLANS = DecodePlan("whole", 0), DecodePlan("stream", 0, 4), DecodePlan("tiles", 0, 4, Tiling(128, 64, 32, 16))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.mode)
def test_plans_can_be_carried_out(plan):
    model, latent, reports = decoder(), noise(1, 4, 5, 3, 4), []
    pixels = torch.cat(list(decode(model, latent, plan, progress=reports.append)), 2)
    assert pixels.shape == (1, 3, 33, 96, 128) and reports
    there, clip = encoder(), noise(1, 3, 33, 128, 160).clamp(-1, 1)
    encoded = encode(there, clip, plan, dtype=torch.float32, progress=reports.append)
    assert encoded.shape == (1, 4, 5, 4, 5) and encoded.dtype == torch.float32
    if plan.mode != "tiles":
        torch.testing.assert_close(pixels, model(latent), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(encoded, there(clip), atol=1e-5, rtol=1e-4)
