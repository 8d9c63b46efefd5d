"""Twice the frame rate: tiles that cover the clip, a film that stays what it is, a state that knows nothing of it."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltx2 import clock
from ltx2.errors import CheckpointError, RequestError
from ltx2.film.timeline import first_segment, next_segment
from ltx2.networks.video_vae.latent_upsampler import upsample
from ltx2.stages.doubling import rounds
from ltx2.stages.doubling.tiles import doubled_frames, keyframes, most_latent_frames, part_frames, tiles_of
from ltx2.stages.pipeline import generate, make_job
from ltx2.stages.request import Request
from ltx2.values import ClipCondition, ImageCondition

SMALL = {"prompt": "A lake.", "width": 64, "height": 64, "frames": 41, "preset": "ltx2_fast"}
QUICK = {"denoise": {"num_inference_steps": 1}, "double": {"sigmas": (0.9, 0.0)}}


def made(models, **fields):
    return generate(models, Request(**{**SMALL, "overrides": QUICK, **fields}))


def frames_of(segment):
    return np.concatenate(list(segment.frames()))


# 121 frames are five parts of 24, 129 four of 32, 25 and 33 one of either
@pytest.mark.parametrize(("frames", "part"), [(121, 24), (129, 32), (97, 32), (25, 24), (33, 32), (9, 24)])
def test_parts_leave_the_least_over(frames, part):
    assert part_frames(frames) == part


@given(st.integers(1, 60), st.sampled_from([0, 1, 9, 17]), st.integers(1, 2))
def test_tiles_give_every_latent_frame_once_and_meet_at_keyframes(parts, known, number):
    frames = 8 * parts + 1
    places = tuple(place << number for place in keyframes(frames, known))
    assert places[0] == 0 and places[-1] == doubled_frames(frames, number) - 1
    assert not 1 < known < frames or (known - 1) << number in places
    tiles, taken = tiles_of(places, 1 << number), []
    assert 1 <= len(tiles) <= 1 << number
    for tile in tiles:
        assert tile.first in places and tile.last in places
        # a clip of its own, of whose latent frames at least one besides the artificial first is thrown away
        assert clock.is_valid_frame_count(tile.last - tile.first + 1)
        assert tile.dropped >= 2 or tile.first == 0
        taken += range(tile.latents.start + tile.dropped, tile.latents.stop)
        assert tile.latents.stop - tile.latents.start <= most_latent_frames(frames, number, known)
    assert taken == list(range(clock.latent_frames(places[-1] + 1)))


@given(
    st.lists(st.integers(3, 20), min_size=1, max_size=4), st.integers(1, 2), st.sampled_from(["24", "24000/1001", "25"])
)
def test_doubled_segments_follow_each_other_as_those_before_them(parts, number, fps):
    timing = first_segment(8 * parts[0] + 1, clock.parse_fps(fps))
    film, doubled = timing.total_frames, timing.doubled(number)
    for count in parts[1:]:
        timing = next_segment(timing, 8 * count + 1)
        after = timing.doubled(number)
        assert after.picture_start == doubled.picture_end
        assert after.first_frame == doubled.total_frames
        # a frame of before stands where it stood
        assert after.picture_start - after.start <= timing.picture_start - timing.start
        film, doubled = timing.total_frames, after
    assert doubled.total_frames == doubled_frames(film, number) and timing.doubled(0) == timing


def test_a_doubled_clip_is_twice_as_fast_and_its_base_is_the_clip_without_it(models):
    known = models("2.3")
    plain = made(known, frames=17)
    doubled = made(known, frames=17, double_rate=1)
    assert doubled.geometry.frames == 33 and doubled.geometry.fps == 48 and doubled.rounds == 1
    assert frames_of(doubled).shape == (33, 64, 64, 3)
    assert torch.equal(doubled.sound.samples, plain.sound.samples)
    assert torch.equal(doubled.latent.audio, plain.latent.audio)
    # what the next segment goes on from
    assert doubled.base.geometry == plain.geometry and np.array_equal(frames_of(doubled.base), frames_of(plain))
    assert any("experimental" in note for note in doubled.notes)


def test_a_round_is_what_it_is_said_to_be(models, monkeypatch):
    """Upsampled as a whole, noised in tiles with the clip's own pictures as guides, and put together."""
    known, calls = models("2.3"), []

    def denoise(model, start, prompts, sampling, *, clock, compute, conditioning, progress):
        calls.append((start, prompts, sampling, clock, conditioning))
        return start  # as if there were nothing to be done

    monkeypatch.setattr(rounds, "denoise", denoise)
    picture = np.full((64, 64, 3), 200, np.uint8)
    segment = made(known, double_rate=2, fps=24, images=(ImageCondition(picture, frame=12),), overrides={
        "denoise": {"num_inference_steps": 1}})  # fmt: skip
    wanted = segment.base.latent.video
    for _ in range(2):
        wanted = upsample(known.temporal_upsampler, wanted, known.video_decoder.per_channel_statistics)
    # with nothing done in them, tiles put together are the upsampled clip
    assert torch.allclose(segment.latent.video, wanted, atol=1e-5)
    assert segment.geometry.frames == 161 and segment.geometry.fps == 96
    first, second = calls[:2], calls[2:]
    assert [start.video.shape[2] for start, *_ in first] == [7, 11] and all(start.audio is None for start, *_ in calls)
    assert [[guide.frame for guide in held.guides] for *_, held in first] == [[0, 24, 48], [0, 24, 48, 80]]
    assert {guide.strength for *_, held in calls for guide in held.guides} == {0.95}
    assert [place.fps for *_, place, _ in calls] == [48, 48, 60, 60]  # positions stay within what was trained
    sampling = first[0][2]
    assert sampling.sampler == "euler_ancestral" and sampling.eta == 0.5
    assert sampling.sigmas.tolist() == pytest.approx([0.975, 0.909375, 0.725, 0.421875, 0.0])
    assert [one.seeds[0] - segment.seed for _, _, one, *_ in calls] == [1000, 1001, 2000, 2001]
    assert len({one.noise.video[0, 0, 0].item() for _, _, one, *_ in calls}) == len(calls) and len(second) == 2


def test_what_it_starts_from_meets_what_was_before(models, monkeypatch):
    """The last frame that a segment repeats is a keyframe, as the last of the segment before was."""
    seen = []
    monkeypatch.setattr(rounds, "denoise", lambda *args, conditioning, **_: seen.append(conditioning) or args[1])
    before = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), dtype=np.uint8)
    made(models("2.3"), double_rate=1, clips=(ClipCondition(before),))
    assert 16 in [guide.frame for guide in seen[0].guides]


def test_what_cannot_be_is_said_first(models):
    known = models("2.0")
    asked = Request(**SMALL, double_rate=1)
    assert make_job(known, asked).settings.rounds == 1
    for fields, said in (
        ({"double_rate": 3}, "double_rate is 3, expected 0"),
        ({"double_rate": True}, "double_rate is True, expected a whole number"),
        ({"double_rate": 1, "overrides": {"double": {"eta": 2}}}, "double.eta is 2, expected 0"),
        ({"double_rate": 1, "overrides": {"double": {"num_inference_steps": 9}}}, "9 refine steps"),
    ):
        with pytest.raises(RequestError, match=said):
            make_job(known, replace(asked, **fields))
    with pytest.raises(CheckpointError, match="temporal-upscaler-x2"):
        make_job(replace(known, temporal_upsampler=None), asked)
    with pytest.raises(RequestError, match="the temporal upsampler enlarges 2 times"):
        make_job(replace(known, temporal_upsampler=known.upsampler), asked)
    with pytest.raises(RequestError, match="the upsampler adds frames"):
        make_job(replace(known, upsampler=known.temporal_upsampler), asked)
    told = make_job(known, replace(asked, double_rate=0, overrides={"double": {"eta": 0.2}})).notes
    assert any("double.eta has no effect" in note for note in told)
    assert any("keeps its frame rate" in note for note in make_job(known, replace(asked, draft=True)).notes)
    assert make_job(known, asked).geometry.fps == Fraction(24)


def test_models_that_know_keyframes_make_them_between_and_the_next_round_is_held_by_them(models, monkeypatch):
    known, calls = models("2.5"), []

    def denoise(model, start, *args, conditioning, **more):
        calls.append((start, conditioning))
        return replace(start, keyframes=torch.full_like(conditioning.slot_start, float(len(calls))))

    monkeypatch.setattr(rounds, "denoise", denoise)
    segment = made(known, frames=49, double_rate=2)
    (start, first), (_, second), (_, third), *_ = (call for call in calls)
    # 49 frames are two parts of 24: 48 frames at twice the rate, each with a keyframe in its middle
    assert first.slots == (24,) and [guide.frame for guide in first.guides] == [0, 48]
    assert torch.equal(first.slot_start[:, :, 0], start.video[:, :, 3])
    assert second.slots == (24, 72) and [guide.frame for guide in second.guides] == [0, 48, 96]
    # four tiles then, of parts as long as the first ones were
    assert len(calls) == 6 and [guide.frame for guide in third.guides] == [0, 48] and third.slots == (24,)
    held = {guide.frame: guide.latent for guide in calls[3][1].guides}
    assert list(held) == [0, 48, 96] and (held[48] == 1).all()  # of the two tiles that made it the first
    assert segment.geometry.frames == 193


def test_made_keyframes_come_back_from_denoising(models):
    segment = made(models("2.5"), frames=17, double_rate=1)
    assert segment.geometry.frames == 33 and segment.latent.video.shape[2] == 5
    assert segment.latent.video.isfinite().all()
