"""Generated keyframes: where their tokens lie, how they are marked, that nothing is left of them, who refuses them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltx2.continuation.state import LTX2ContinuationState
from ltx2.errors import RequestError
from ltx2.stages.conditioning import Conditioning
from ltx2.stages.conditioning.positions import Guide
from ltx2.stages.conditioning.references import ReferenceLatent
from ltx2.stages.conditioning.slots import slot_frames
from ltx2.stages.denoising.streams import ClipClock, streams
from ltx2.stages.latent_preparation import draw_noise
from ltx2.stages.pipeline import generate, make_job
from ltx2.stages.request import Request
from ltx2.story.segment_job import segment_job
from ltx2.values import AVLatent, ClipCondition

SMALL = {"prompt": "A lake.", "width": 64, "height": 64, "frames": 25, "preset": "ltx2_two_stage"}
QUICK = {"denoise": {"num_inference_steps": 1}}


@given(st.integers(1, 40), st.integers(0, 9), st.sampled_from([0, 1, 9, 17]))
def test_a_number_is_spread_between_the_ends_or_behind_what_is_known(latents, count, known):
    frames = 8 * latents + 1
    first = max(known - 1, 0)
    if count > max(frames - 2 - first, 0):
        with pytest.raises(RequestError, match="ask for fewer"):
            slot_frames(count, frames, known)
        return
    found = slot_frames(count, frames, known)
    assert len(found) == count and all(first < one < frames - 1 for one in found) and list(found) == sorted(set(found))
    wanted = np.linspace(first, frames - 1, count + 2).round().astype(int)[1:-1]
    assert count == 0 or np.abs(np.array(found) - wanted).max() == 0
    assert slot_frames(found, frames, known) == found


def test_tokens_by_hand():
    """Behind guides, in front of references; free, marked, each lasting one frame."""
    latent = torch.randn(2, 128, 3, 2, 1)
    held = Conditioning(
        guides=(Guide(torch.ones(1, 128, 1, 2, 1), 8),),
        references=(ReferenceLatent(torch.ones(1, 128, 1, 1, 1), attention=0.5),),
        slots=(4, 12),
    )
    made = streams(AVLatent(latent, None), held, ClipClock(25, 2)).video
    assert made.own == 6 and made.latent.shape[1] == 6 + 2 + 4 + 1
    assert made.mask[0, :, 0].tolist() == [1] * 6 + [0] * 2 + [1] * 4 + [0]
    assert made.keyframes[0, :, 0].tolist() == [1] * 2 + [0] * 4 + [0] * 2 + [1] * 4 + [0]
    assert not made.latent[:, 6:].any() and not made.clean[:, 8:12].any()
    seconds = made.positions[0, 0, 8:12]
    assert torch.allclose(seconds, torch.tensor([[2.16, 2.2]] * 2 + [[2.48, 2.52]] * 2))
    assert made.positions[0, 1, 8:12].tolist() == [[0, 32], [32, 64]] * 2
    # the clip and the slots see each other in full, the reference by its weight
    assert (made.attention[0].start, made.attention[0].stop) == (0, 12)
    begun = torch.randn(1, 128, 2, 2, 1)
    seeded = streams(AVLatent(latent, None), replace(held, slot_start=begun), ClipClock(25, 2))
    assert torch.equal(seeded.video.latent[1, 8:12], begun[0].permute(1, 2, 3, 0).reshape(4, 128))
    back = seeded.latents(seeded.tokens("latent"), AVLatent(latent, None))
    assert torch.equal(back.keyframes, begun.expand(2, -1, -1, -1, -1)) and torch.equal(back.video, latent)
    noise = draw_noise(AVLatent(latent, None), [torch.Generator(), torch.Generator()], conditioning=held)
    assert noise.video.shape == made.latent.shape


def test_they_change_the_clip_in_the_first_stage_alone_and_are_not_in_it(models, monkeypatch):
    from ltx2.stages import steps

    known, seen = models("2.5"), []
    really = steps.denoise
    monkeypatch.setattr(
        steps,
        "denoise",
        lambda *args, conditioning, **more: (
            seen.append(conditioning) or really(*args, conditioning=conditioning, **more)
        ),
    )
    plain, held = (generate(known, Request(**SMALL, overrides=QUICK, keyframe_slots=slots)) for slots in (0, 2))
    assert [one.slots for one in seen] == [(), (), (8, 16), ()]
    assert held.latent.video.shape == plain.latent.video.shape
    assert not torch.equal(held.latent.video, plain.latent.video)


def test_what_cannot_be_is_said_first(models):
    known = models("2.5")
    asked = Request(**SMALL, keyframe_slots=3)
    job = make_job(known, asked)
    assert job.request.keyframe_slots == (6, 12, 18) and make_job(known, job.request).request == job.request
    assert job.stages[0].tokens == 4 + 3 and job.stages[1].tokens == 16
    before = np.zeros((9, 64, 64, 3), np.uint8)
    behind = replace(asked, clips=(ClipCondition(before),))
    assert make_job(known, behind).request.keyframe_slots == (12, 16, 20)
    for other, fields, said in (
        (known, {"keyframe_slots": (8, 8)}, "expected frames that rise"),
        (known, {"keyframe_slots": (8, 25)}, "frame 25, the clip has frames 0 to 24"),
        (known, {"keyframe_slots": "many"}, "expected a number, or frames"),
        (known, {"keyframe_slots": 24}, "room for 23"),
        (known, {"keyframe_slots": (4,), "clips": behind.clips}, "frames 0 to 8 are known"),
        (models("2.3"), {}, "LTX-2.5 did and LTX-2.3 did not: use LTX-2.5, or leave keyframe_slots out"),
    ):
        with pytest.raises(RequestError, match=said):
            make_job(other, replace(asked, **fields))


def test_a_segment_that_goes_on_from_a_state_has_them_behind_what_it_repeats(models):
    state = LTX2ContinuationState(video_frames=[np.zeros((64, 64, 3), np.uint8)] * 9)
    made = segment_job(models("2.5"), Request(**SMALL, keyframe_slots=3), state)
    assert made.job.request.keyframe_slots == (12, 16, 20)
    with pytest.raises(RequestError, match="frames 0 to 8 are known"):
        segment_job(models("2.5"), Request(**SMALL, keyframe_slots=(8, 16)), state)
