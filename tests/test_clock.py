"""Exact time: numbers worked out by hand, and what holds for every clip, rate and length."""

from fractions import Fraction

import pytest

from ltx2 import clock
from ltx2.errors import RequestError

RATES = [clock.parse_fps(rate) for rate in ("23.976", 24, 25, "29.97", 30, 50, "59.94")]


@pytest.mark.parametrize(
    "written, exact",
    [
        (23.976, "24000/1001"),
        ("29.97", "30000/1001"),
        (47.952, "48000/1001"),
        ("59.94", "60000/1001"),
        (119.88, "120000/1001"),
        (23.978, "24000/1001"),  # off by 0.00198
        (23.979, "23979/1000"),  # off by 0.00298
        (23.98, "2398/100"),
        ((30000, 1001), "30000/1001"),
        (12.5, "25/2"),
        ("1000", "1000"),
    ],
)
def test_rates_are_what_people_mean(written, exact):
    assert clock.parse_fps(written) == Fraction(exact)


@pytest.mark.parametrize("written", [0, -24, 1001, "1000.5", float("nan"), float("inf"), "fast", None, (24, 0), (24,)])
def test_other_rates_are_refused(written):
    with pytest.raises(RequestError, match="fps is .*, expected a"):
        clock.parse_fps(written)


def test_latent_frames_share_a_clip_among_them():
    for latents in range(1, 40):
        frames = 8 * latents - 7
        assert clock.is_valid_frame_count(frames) and clock.latent_frames(frames) == latents
        assert clock.frames_of_latents(latents) == frames
        spans = [clock.latent_frame_span(index) for index in range(latents)]
        assert spans[0] == (0, 1) and spans[-1][1] == frames
        assert all(before[1] == after[0] and after[1] - after[0] == 8 for before, after in zip(spans, spans[1:]))
        assert all(clock.latent_frame_of(frame) == i for i, span in enumerate(spans) for frame in range(*span))
    for frames, near in ((0, "use 1 or 9"), (10, "use 9 or 17"), (-8, "use 1 or 9")):
        with pytest.raises(RequestError, match=near):
            clock.latent_frames(frames)


def test_counts_snap_to_whole_latent_frames():
    for frames in range(-3, 60):
        fitting = [count for count in range(1, 80) if count % 8 == 1]
        assert clock.snap_frames(frames, "down") == max([1, *(count for count in fitting if count <= frames)])
        assert clock.snap_frames(frames, "up") == min(count for count in fitting if count >= frames)
        # halfway between two, the larger one
        assert clock.snap_frames(frames) == min(fitting, key=lambda count: (abs(count - frames), -count))


def test_sides_snap_to_the_grid():
    assert [clock.snap_size(side) for side in (-50, 0, 1, 47, 48, 80, 1080)] == [32, 32, 32, 32, 64, 96, 1088]
    assert clock.snap_size(700, 64) == 704 and clock.snap_size(5, 64) == 64
    assert clock.latent_size(32) == 1 and clock.latent_size(1088) == 34
    for side, near in ((0, 32), (-64, 32), (720, 736)):
        with pytest.raises(RequestError, match=f"is {side} px, expected a multiple of 32: use {near}"):
            clock.latent_size(side)


def test_lengths_become_frames():
    assert [clock.frames_for_seconds(seconds, Fraction(25)) for seconds in (0.001, 0.5, "1/3", 2)] == [1, 13, 8, 50]
    assert clock.exact_seconds(0.1) == Fraction(1, 10) and clock.exact_seconds("4/3") == Fraction(4, 3)
    for length in ("long", None, "1/0"):
        with pytest.raises(RequestError, match="expected a number of seconds"):
            clock.exact_seconds(length)


def test_audio_latents_share_the_sound_among_them():
    for latents in range(1, 60):
        spans = [clock.audio_latent_span(index) for index in range(latents)]
        assert spans[0] == (0, Fraction(1, 100))
        assert all(
            before[1] == after[0] and after[1] - after[0] == Fraction(1, 25) for before, after in zip(spans, spans[1:])
        )
        assert (
            spans[-1][1] == clock.decoded_audio_seconds(latents) == Fraction(clock.mel_frames_of_latents(latents), 100)
        )
        assert clock.decoded_samples(latents, 16_000) == 160 * (4 * latents - 3)
    assert clock.mel_frames_of_latents(0) == 1


@pytest.mark.parametrize("fps", RATES, ids=str)
def test_rules_of_the_sounds_length(fps):
    for frames in range(1, 300, 8):
        exact = 25 * Fraction(frames) / fps
        assert abs(clock.audio_latents(frames, fps) - exact) <= Fraction(1, 2) or frames == 1
        assert 0 <= clock.audio_latents(frames, fps, "ceil") - exact < 1
        covering, length = clock.audio_latents(frames, fps, "cover"), clock.seconds_of_frames(frames, fps)
        assert clock.decoded_audio_seconds(covering) >= length
        assert covering == 1 or clock.decoded_audio_seconds(covering - 1) < length
        assert abs(clock.samples_of_frames(frames, fps, 48_000) - length * 48_000) <= Fraction(1, 2)


def test_halves_go_to_the_even_count_and_none_is_too_few():
    assert [clock.audio_latents_for(Fraction(n, 50)) for n in (1, 3, 5)] == [1, 2, 2]
    assert [clock.audio_latents_for(Fraction(0), rule) for rule in clock.AUDIO_LENGTH_RULES] == [1, 1, 1]
    with pytest.raises(RequestError, match="'floor', expected one of round, ceil, cover"):
        clock.audio_latents_for(Fraction(1), "floor")
