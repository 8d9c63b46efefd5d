"""Timings of segments: the published numbers, exactness over many segments, and what a state carries of it."""

import dataclasses
import json
import random
from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.clock import parse_fps, samples_of_seconds
from ltx2.continuation.state import LTX2ContinuationState
from ltx2.errors import ContinuationError, Ltx2Warning, RequestError
from ltx2.film import ContextNoise, Handoff, Overlap, Source, capture_state, condition_next
from ltx2.film.state_content import check_latents
from ltx2.film.timeline import (
    clock_shift,
    cut_segment,
    first_segment,
    next_segment,
    overlap_within,
    sound_join,
    warn_beyond_window,
)

from ..continuation.vectors import DATA, formula_frame, formula_latents

PLANS = json.loads((DATA / "overlap_plans.json").read_text("utf-8"))
RATES = ("23.976", "24", "25", "29.97", "30", "50")


def chain(frames, overlap, sound, fps, segments, rule="ceil"):
    plans = [first_segment(frames, fps, audio_rule=rule)]
    while len(plans) < segments:
        plans.append(next_segment(plans[-1], frames, video_overlap=overlap, audio_overlap=sound, audio_rule=rule))
    return plans


@pytest.mark.parametrize(
    "case", PLANS, ids=lambda c: "-".join(str(c[k]) for k in ("num_frames", "video_overlap", "fps", "latent_rule"))
)
def test_published_plans(case):
    totals, *rows = case["plan"]
    rate = case["sample_rate"]
    plans = chain(
        case["num_frames"],
        case["video_overlap"],
        case["audio_overlap"],
        Fraction(case["fps"]),
        len(rows),
        case["latent_rule"],
    )
    assert (
        plans[-1].total_frames == totals["total_frames"]
        and plans[-1].total_samples(rate) == totals["total_audio_samples"]
    )
    for before, timing, row in zip([None, *plans], plans, rows):
        assert (
            float(timing.video_offset_seconds) == row["video_position_offset_sec"]
            and float(timing.start) == row["global_start_sec"]
        )
        assert timing.audio_latents == row["audio_latents"]
        assert [timing.video_overlap, timing.frames] == row["emit_frames"]
        assert (timing.sound_end - timing.start) * rate == row["decoded_audio_samples"]
        if before is None:
            continue
        assert (timing.audio_shift, timing.audio_overlap_latents) == (
            row["latent_shift"],
            row["audio_conditioned_latents"],
        )
        join = sound_join(before, timing)
        window = [join.fade_start, join.fade_end]
        assert [samples_of_seconds(t, rate) for t in window] == row["xfade_global_samples"]
        assert [samples_of_seconds(t - before.start, rate) for t in window] == row["xfade_in_prev_samples"]
        assert [samples_of_seconds(t - timing.start, rate) for t in window] == row["xfade_in_this_samples"]
        assert av_error(before, timing) == row["av_error_sec"] == 0


def av_error(before, timing) -> Fraction:
    """Shift of the sound less shift of the picture, between one segment and the next."""
    sound = Fraction(timing.audio_shift, 25)
    picture = (
        before.video_offset_seconds
        + Fraction(before.frames - before.end_offset - timing.video_overlap) / timing.fps
        - timing.video_offset_seconds
    )
    return sound - picture


@pytest.mark.parametrize("fps", RATES)
def test_nothing_adds_up_over_many_segments(fps):
    fps, dice = parse_fps(fps), random.Random(7)
    timing = first_segment(121, fps)
    frames = 121
    for _ in range(200):
        overlap, sound = 8 * dice.randint(0, 3) + 1, dice.randint(1, 60)
        count = 8 * dice.randint(9, 20) + 1
        following = next_segment(timing, count, video_overlap=overlap, audio_overlap=sound)
        wanted = Fraction(max(0, sound - overlap)) / fps
        assert av_error(timing, following) == 0
        assert (
            abs(following.video_offset_seconds - wanted) <= (Fraction(20, 1000) if wanted else Fraction(40, 1000))
            and following.video_offset_seconds >= 0
        )
        assert following.picture_start == timing.picture_end == Fraction(frames) / fps
        assert following.audio_shift + following.audio_overlap_latents == timing.audio_latents
        join = sound_join(timing, following)
        assert following.start <= join.fade_start and join.fade_end <= min(timing.sound_end, timing.picture_end)
        frames += count - overlap
        timing = following
    assert timing.total_frames == frames


def test_end_offset_moves_picture_and_sound():
    timing = first_segment(121, Fraction(24), end_offset=8)
    following = next_segment(timing, 121)
    assert av_error(timing, following) == 0
    assert timing.total_frames == 113 and following.picture_start == timing.picture_end == Fraction(113, 24)
    end = following.video_offset_seconds + Fraction(9, 24)
    assert following.audio_overlap_latents == int(25 * end + Fraction(3, 4))


def test_doubled_segments_meet_where_their_films_do():
    one = first_segment(121, Fraction(24), end_offset=8)
    for rounds in (1, 2):
        two = next_segment(one, 97, end_offset=4)
        three = next_segment(two, 121)
        doubled = [timing.doubled(rounds) for timing in (one, two, three)]
        assert [timing.fps for timing in doubled] == [24 * 2**rounds] * 3
        for before, timing, plain in zip(doubled, doubled[1:], (two, three)):
            assert timing.first_frame == before.total_frames
            assert timing.picture_start == before.picture_end
            assert timing.start == plain.start and timing.audio_latents == plain.audio_latents


def test_what_a_finished_segment_can_leave_of_an_overlap():
    timing = first_segment(33, Fraction(24), end_offset=12)  # 21 frames are used
    assert overlap_within(timing, Overlap(17, 40)) == (Overlap(17, 40), ())
    assert overlap_within(timing, Overlap(0, 40)) == (Overlap(0, 40), ())
    adjusted, (told,) = overlap_within(timing, Overlap(25, 40))
    assert adjusted == Overlap(17, 40) and "25 became 17: a segment of 21 frames" in told


def test_the_join_shrinks_with_what_is_shared():
    timing = first_segment(121, Fraction(24))
    for seconds, fade in ((Fraction(1, 10), Fraction(40, 1000) * Fraction(100, 120)), (Fraction(2, 100), 0)):
        following = dataclasses.replace(
            next_segment(timing, 121), start=min(timing.sound_end, timing.picture_end) - seconds
        )
        join = sound_join(timing, following)
        assert join.fade_end - join.fade_start == fade and join.crossfades == bool(fade)


def test_cuts_and_silent_joins_start_where_the_picture_does():
    timing = first_segment(121, Fraction(24))
    cut = cut_segment(timing, 97)
    assert (cut.video_overlap, cut.audio_overlap_latents, cut.video_offset_seconds) == (
        0,
        0,
        0,
    ) and cut.start == timing.picture_end
    assert sound_join(timing, cut).fade_end == timing.picture_end and not sound_join(timing, cut).crossfades
    silent = next_segment(timing, 97, audio_overlap=0)
    assert silent.video_offset_seconds == 0 and silent.picture_start == timing.picture_end
    music = next_segment(timing, 97, video_overlap=0, audio_overlap=40)
    assert av_error(timing, music) == 0 and music.audio_overlap_latents > 30


@pytest.mark.parametrize(
    "keywords, words",
    [
        (dict(frames=120), "120 frames, expected 8k.1: use 113 or 121"),
        (dict(frames=121, video_overlap=10), "8k\\+1: use 9 or 17"),
        (dict(frames=9, video_overlap=9), "next segment has 9"),
        (dict(frames=17, audio_latents=20), "of 20 audio latents would be those of the segment before"),
    ],
)
def test_overlaps_that_do_not_fit_are_refused(keywords, words):
    with pytest.raises(RequestError, match=words):
        next_segment(first_segment(121, Fraction(24)), **keywords)


def test_segments_that_cannot_be_are_refused():
    with pytest.raises(RequestError, match="has 1 audio latents, too few for an overlap that starts at latent 25"):
        next_segment(first_segment(33, Fraction(24), audio_latents=1), 33, audio_overlap=9)
    for end_offset in (-1, 33):
        with pytest.raises(RequestError, match=f"end offset is {end_offset} frames, expected 0 to 32"):
            first_segment(33, Fraction(24), end_offset=end_offset)


def test_the_window_of_the_model_is_pointed_out():
    timing = first_segment(465, Fraction(24))
    warn_beyond_window(timing)  # 19.4 s are what it was trained on
    with pytest.warns(Ltx2Warning, match=r"segment 2 reaches 21\.05 s with what it repeats, .* up to 20 s"):
        warn_beyond_window(next_segment(timing, 465))


# --- through the state
# -------------------------------------------------------------------------------------------------


SOURCE = Source("LTX-2.3", "ltx-2.3-22b-dev")


def captured(frames=57, fps="24", size=(12, 8), timing=None, overlap=Overlap(), **keywords):  # noqa: B008 (frozen)
    timing = timing or first_segment(frames, parse_fps(fps))
    pictures = np.stack([formula_frame(i, size[1], size[0]) for i in range(timing.frames)])
    latents = formula_latents(timing.audio_latents)
    return (
        timing,
        pictures,
        latents,
        capture_state(
            pictures,
            latents,
            timing,
            overlap=overlap,
            sample_rate=48000,
            **{"seed": 5, "source": SOURCE, **keywords},
        ),
    )


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("overlaps", ((9, 49), (17, 25), (9, 1), (1, 10)))
def test_a_state_carries_its_plan_exactly(fps, overlaps):
    timing, pictures, latents, state = captured(fps=fps, frames=121, overlap=Overlap(*overlaps))
    again = LTX2ContinuationState.from_continuation_state(state.to_continuation_state())
    following = condition_next(again, 121, fps, size=(12, 8), source=SOURCE)
    expected = next_segment(timing, 121, video_overlap=overlaps[0], audio_overlap=overlaps[1])
    assert (
        following.timing == expected
        and following.video_offset_seconds == expected.video_offset_seconds
        and following.audio_latents == expected.audio_latents
    )
    assert (
        np.array_equal(following.clip.frames, pictures[-overlaps[0] :])
        and following.clip.strength == 1.0
        and following.clip.frame == 0
    )
    assert torch.equal(following.audio.latent, latents[:, :, expected.audio_shift :]) and following.audio.mask == 0.0
    assert following.index == 1 and following.seed == 6 and following.notes == ()
    assert condition_next(again, 121, handoff=Handoff(seed=100)).seed == 101


def test_fields_of_the_captured_state():
    timing, _, _, state = captured()
    shift, offset, start = clock_shift(timing, 9, 49)
    ours = state.metadata["comfy_ltx2"]
    assert (
        state.audio_conditioning_num_frames == 49
        and state.audio_conditioning_strength == 0.0
        and state.audio_sample_rate == 48000
    )
    assert (
        state.video_position_offset_sec == float(offset) and state.segment_index == 0 and len(state.video_frames) == 9
    )
    assert state.audio_latents.shape[2] == timing.audio_latents - shift
    assert ours["fps"] == [24, 1] and ours["global_start_sec"] == [start.numerator, start.denominator]
    assert ours["num_frames"] == ours["emitted_frames"] == 57 and (ours["width"], ours["height"]) == (12, 8)
    assert ours["audio_strength_is"] == "mask" and ours["segment_video_offset_sec"] == [0, 1] and ours["seed"] == 5


def test_float_frames_are_rounded():
    timing = first_segment(17, Fraction(24))
    values = torch.full((17, 4, 4, 3), 0.5)
    assert int(capture_state(values, None, timing).video_frames[0][0, 0, 0]) == 128
    assert int(capture_state(values.numpy(), None, timing).video_frames[0][0, 0, 0]) == 128


def test_a_consumer_with_other_overlaps_plans_anew():
    timing, pictures, latents, state = captured(frames=121, overlap=Overlap(17))
    following = condition_next(state, 97, handoff=Handoff(9, 30))
    expected = next_segment(timing, 97, video_overlap=9, audio_overlap=30)
    assert following.timing == expected
    assert np.array_equal(following.clip.frames, pictures[-9:])
    assert torch.equal(following.audio.latent, latents[:, :, expected.audio_shift :])
    with pytest.warns(Ltx2Warning, match="audio latents for an overlap of 90"):
        most = condition_next(state, 97, handoff=Handoff(9, 90))
    assert most.audio.latent.shape[2] == state.audio_latents.shape[2] and av_error(timing, most.timing) == 0
    silent = condition_next(state, 97, handoff=Handoff(audio_overlap=0))
    assert silent.audio is None and silent.video_offset_seconds == 0
    with pytest.raises(ContinuationError, match="carries 17 frames, a video overlap of 25"):
        condition_next(state, 97, handoff=Handoff(25))


def test_the_stated_offset_counts_when_it_lies_on_the_grid():
    timing, _, latents, state = captured(frames=121)
    moved = dataclasses.replace(state, video_position_offset_sec=state.video_position_offset_sec - 0.08)
    following = condition_next(moved, 121)
    assert (
        float(following.video_offset_seconds) == pytest.approx(moved.video_position_offset_sec)
        and av_error(timing, following.timing) == 0
    )
    assert torch.equal(following.audio.latent, latents[:, :, following.timing.audio_shift :])
    with pytest.warns(Ltx2Warning, match="does not fit"):
        odd = condition_next(dataclasses.replace(state, video_position_offset_sec=0.777), 121)
    assert odd.video_offset_seconds == clock_shift(timing, 9, 49)[1]


@pytest.mark.parametrize(
    "keywords, words",
    [
        (dict(fps=25), "24 fps, the next one is at 25"),
        (dict(size=(24, 8)), "12x8 px, the next segment is 24x8"),
        (dict(source=Source("LTX-2.0")), "LTX-2.3, the next segment is made with LTX-2.0: use the same release"),
    ],
)
def test_states_that_do_not_fit_are_refused_with_both_values(keywords, words):
    with pytest.raises(ContinuationError, match=words):
        condition_next(captured()[-1], 57, **keywords)


def test_states_of_other_programs_are_read_by_their_conventions():
    state = LTX2ContinuationState(
        segment_index=2,
        video_frames=[formula_frame(i, 8, 12) for i in range(11)],
        audio_latents=formula_latents(126),
        audio_conditioning_num_frames=49,
        video_position_offset_sec=40 / 24,
    )
    with pytest.warns(Ltx2Warning) as caught:
        following = condition_next(state, 121, audio_rule="round")
    words = " ".join(str(w.message) for w in caught)
    assert (
        "carries 11 frames; the last 9 were used" in words
        and "the carried sound is made anew" in words
        and "milliseconds" in words
    )
    assert len(following.notes) == 3
    assert following.index == 3 and following.audio_latents == 168 and following.audio.mask == 1.0
    assert torch.equal(following.audio.latent, state.audio_latents[:, :, -51:])
    assert np.array_equal(following.clip.frames[0], state.video_frames[2]) and following.seed is None


@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
def test_a_segment_has_more_than_it_repeats_of_a_state_of_another_program():
    state = LTX2ContinuationState(video_frames=[formula_frame(i, 8, 12) for i in range(9)])
    with pytest.raises(ContinuationError, match="repeats 9 frames and 0 audio latents, the next segment has 9"):
        condition_next(state, 9)
    assert condition_next(state, 17).timing.new_frames == 8


@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
def test_states_without_pictures_or_sound():
    bare = condition_next(LTX2ContinuationState(), 25)
    assert bare.clip is None and bare.audio is None and bare.video_offset_seconds == 0
    asks = condition_next(LTX2ContinuationState(audio_conditioning_num_frames=49), 25)
    assert asks.audio is None and any("no latents" in note for note in asks.notes)
    _, _, _, state = captured(frames=121)
    sound_only = condition_next(dataclasses.replace(state, video_frames=None), 121)
    assert sound_only.clip is None and sound_only.audio is not None
    noise = Handoff(noise=ContextNoise(video=0.02, audio=0.1))
    noisy = condition_next(dataclasses.replace(state, video_frames=None), 121, handoff=noise)
    assert noisy.clip is None and not torch.equal(noisy.audio.latent, sound_only.audio.latent)
    silent = condition_next(dataclasses.replace(state, audio_conditioning_num_frames=0), 121, handoff=noise)
    assert silent.audio is None and silent.clip is not None
    check_latents(torch.zeros(1, 8, 1, 16))
    for changes in (
        dict(video_frames=None, video_frames_blob_id="a"),
        dict(audio_latents=None, audio_latents_blob_id="a"),
        dict(video_frames=[formula_frame(0, 8, 12), formula_frame(0, 8, 16)]),
        dict(audio_latents=torch.zeros(1, 4, 16, 64)),
        dict(audio_latents=torch.zeros(1, 8, 1000, 16)),
        dict(metadata={"comfy_ltx2": {**state.metadata["comfy_ltx2"], "fps": [24, 0]}}),
        dict(metadata={"comfy_ltx2": {**state.metadata["comfy_ltx2"], "num_frames": -5}}),
        *(
            dict(metadata={"comfy_ltx2": {**state.metadata["comfy_ltx2"], "segment_video_offset_sec": pair}})
            for pair in ("x", [1], [1, 2, 3], [0.5, 1], [-1, 25], [10**8, 1])
        ),
    ):
        with pytest.raises(ContinuationError):
            condition_next(dataclasses.replace(state, **changes), 121)


def test_context_noise_is_seeded_and_absent_by_default():
    _, pictures, latents, state = captured(frames=121)
    plain = condition_next(state, 121, handoff=Handoff(seed=3))
    zero = condition_next(state, 121, handoff=Handoff(seed=3, noise=ContextNoise()))
    assert np.array_equal(plain.clip.frames, zero.clip.frames) and torch.equal(plain.audio.latent, zero.audio.latent)
    noisy = [
        condition_next(state, 121, handoff=Handoff(seed=seed, noise=ContextNoise(video=0.02, audio=0.1)))
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(noisy[0].clip.frames, noisy[1].clip.frames) and torch.equal(
        noisy[0].audio.latent, noisy[1].audio.latent
    )
    assert not np.array_equal(noisy[0].clip.frames, noisy[2].clip.frames)
    assert not np.array_equal(noisy[0].clip.frames, plain.clip.frames) and not torch.equal(
        noisy[0].audio.latent, plain.audio.latent
    )
    assert np.array_equal(state.video_frames[0], pictures[-9]) and noisy[0].clip.frames.dtype == np.uint8
