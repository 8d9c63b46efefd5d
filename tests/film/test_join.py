"""Joining segments: windows of one endless signal come out as that signal again, to the frame and the sample."""

import dataclasses
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.clock import parse_fps, samples_of_seconds
from ltx2.errors import ContinuationError, RequestError
from ltx2.film import DriftCorrection, FinishedSegment, cut_segment, first_segment, join_segments, next_segment
from ltx2.values import Waveform

RATE = 48000


def endless_frame(number, height=8, width=12):
    """A picture that tells its number."""
    frame = np.full((height, width, 3), number % 251, np.uint8)
    frame[0, 0] = number // 251
    return frame


def endless_sound(first, last, rate=RATE):
    t = torch.arange(first, last, dtype=torch.float64) / rate
    return torch.stack([0.4 * torch.sin(2 * torch.pi * 220 * t), 0.3 * torch.sin(2 * torch.pi * 331 * t + 0.5)]).float()


def segment(timing, rate=RATE, chunk=7, gain=1.0, extra=0):
    """The window of the endless film that a timing stands for."""
    first = timing.picture_start * timing.fps - timing.video_overlap
    assert first.denominator == 1
    numbers = range(int(first), int(first) + timing.frames)
    frames = [np.stack([endless_frame(n) for n in numbers[i : i + chunk]]) for i in range(0, len(numbers), chunk)]
    start = samples_of_seconds(timing.start, rate)
    length = samples_of_seconds(timing.sound_end - timing.start, rate) + extra
    return FinishedSegment(timing, frames, Waveform(endless_sound(start, start + length, rate) * gain, rate))


def joined(segments, **keywords):
    pieces = list(join_segments(segments, **keywords))
    frames = [p for p in pieces if isinstance(p, np.ndarray)]
    sound = [p.samples for p in pieces if isinstance(p, Waveform)]
    return np.concatenate(frames), torch.cat(sound, 1) if sound else None


def plans(fps, count, frames=121, **keywords):
    found = [first_segment(frames, parse_fps(fps))]
    while len(found) < count:
        found.append(next_segment(found[-1], frames, **keywords))
    return found


@pytest.mark.parametrize("rate", (24000, 48000, 44100))
@pytest.mark.parametrize("fps", ("23.976", "24", "25", "30"))
def test_twenty_segments_are_one_film(fps, rate):
    film = plans(fps, 20, frames=65, audio_overlap=30)
    frames, sound = joined(segment(timing, rate) for timing in film)
    total = 65 + 19 * 56
    assert len(frames) == total == film[-1].total_frames
    assert np.array_equal(frames, np.stack([endless_frame(n) for n in range(total)]))
    samples = round(Fraction(total) / parse_fps(fps) * rate)
    assert sound.shape == (2, samples)
    # only the last few samples may be silence: decoded sound is up to 32 ms shorter than the picture
    kept = samples - rate // 25
    assert (sound - endless_sound(0, samples, rate))[:, :kept].abs().max() < 1e-5


@pytest.mark.parametrize("overlaps", ((1, 1), (9, 1), (17, 60), (9, 49)))
def test_every_overlap_is_gap_free(overlaps):
    film = plans("24", 5, video_overlap=overlaps[0], audio_overlap=overlaps[1])
    frames, sound = joined(segment(timing, extra=-300) for timing in film)  # and with sound shorter than planned
    assert np.array_equal(frames, np.stack([endless_frame(n) for n in range(len(frames))]))
    kept = sound.shape[1] - RATE // 20
    assert (sound - endless_sound(0, sound.shape[1]))[:, :kept].abs().max() < 1e-5


def test_the_crossfade_is_linear_and_where_the_plan_says():
    film = plans("24", 2)
    loud = segment(film[0])
    silent = segment(film[1], gain=0.0)
    _, sound = joined([loud, silent])
    first, last = 239120, 241040
    whole = endless_sound(0, sound.shape[1])
    assert torch.equal(sound[:, :first], whole[:, :first]) and not sound[:, last:].any()
    weight = 1 - (torch.arange(last - first) + 0.5) / (last - first)
    assert torch.allclose(sound[:, first:last], whole[:, first:last] * weight, atol=1e-6)


def test_a_cut_fades_for_five_milliseconds_on_both_sides():
    first = first_segment(49, Fraction(24))
    cut = cut_segment(first, 49)
    _, sound = joined([segment(first), segment(cut)])
    at, fade = samples_of_seconds(first.picture_end, RATE), RATE // 200
    whole = endless_sound(0, sound.shape[1])
    end = samples_of_seconds(first.sound_end, RATE)
    assert torch.equal(sound[:, : min(at, end) - fade], whole[:, : min(at, end) - fade])
    assert torch.equal(sound[:, at + fade : at + RATE], whole[:, at + fade : at + RATE])
    assert sound[:, at - 1 : at + 1].abs().max() < 0.01
    assert sound.shape[1] == round(98 / 24 * RATE)


def test_a_continuation_alone_starts_with_its_first_new_frame():
    film = plans("25", 2)
    frames, sound = joined([segment(film[1])])
    start = samples_of_seconds(film[1].picture_start, RATE)
    assert len(frames) == 112 and np.array_equal(frames[0], endless_frame(121))
    assert sound.shape[1] == round(112 / 25 * RATE)
    assert torch.equal(sound[:, :RATE], endless_sound(start, start + RATE))


def test_left_out_frames_at_the_end():
    first = first_segment(121, Fraction(24), end_offset=8)
    following = next_segment(first, 121)
    frames, sound = joined([segment(first), segment(following)])
    assert np.array_equal(frames, np.stack([endless_frame(n) for n in range(113 + 112)]))
    kept = sound.shape[1] - RATE // 20
    assert (sound - endless_sound(0, sound.shape[1]))[:, :kept].abs().max() < 1e-5


def test_segments_of_different_lengths():
    film = [first_segment(25, Fraction(24))]
    for frames in (97, 33, 241, 25):
        film.append(next_segment(film[-1], frames, audio_overlap=20))
    frames, sound = joined(segment(timing) for timing in film)
    assert len(frames) == 25 + 88 + 24 + 232 + 16 and np.array_equal(frames[-1], endless_frame(len(frames) - 1))
    kept = sound.shape[1] - RATE // 20
    assert (sound - endless_sound(0, sound.shape[1]))[:, :kept].abs().max() < 1e-5


def test_silent_films_have_no_sound():
    frames, sound = joined(dataclasses.replace(segment(timing), sound=None) for timing in plans("24", 3))
    assert sound is None and len(frames) == 121 + 2 * 112


def test_segments_that_do_not_follow_each_other_are_refused():
    film = plans("24", 3)
    ones = [segment(timing) for timing in film]
    for wrong, words in (
        ([ones[0], ones[2]], "segment 3 begins at .* the one before it ends at .*: put together what goes on"),
        ([dataclasses.replace(ones[0], frames=ones[0].frames[:-1])], "gave 119 frames, its timing says 121"),
    ):
        with pytest.raises(ContinuationError, match=words):
            list(join_segments(wrong))


def test_memory_does_not_grow_with_the_film():
    def peak(count):
        film = plans("24", count, frames=41, audio_overlap=30)
        tracemalloc.start()
        for _ in join_segments(segment(timing) for timing in film):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(40) < peak(6) * 1.2


# --- reports and corrections
# ---------------------------------------------------------------------------------------------------


def test_reports_tell_good_seams_from_bad_ones():
    film = plans("24", 3)
    reports = []
    list(join_segments((segment(timing) for timing in film), report=reports.append))
    assert [r.segment for r in reports] == [1, 2] and [r.frame for r in reports] == [121, 233]
    for report in reports:
        assert report.correlation > 0.9999 and abs(report.loudness_step_db) < 0.1
        assert abs(report.frame_difference - report.median_difference) < 0.1 and abs(report.luma_step) < 2
    reports.clear()
    bad = segment(film[1], gain=0.5)
    bad = dataclasses.replace(bad, frames=[np.clip(f.astype(int) + 60, 0, 255).astype(np.uint8) for f in bad.frames])
    bad = dataclasses.replace(bad, sound=Waveform(bad.sound.samples.roll(40, 1), RATE))
    list(join_segments([segment(film[0]), bad], report=reports.append))
    (report,) = reports
    assert report.loudness_step_db == pytest.approx(-6, abs=0.2) and report.correlation < 0.95
    assert report.luma_step > 50 and report.frame_difference > 20 * report.median_difference
    assert report.as_json()["segment"] == 1 and "dB" in str(report)


def test_reports_without_sound():
    reports = []
    list(join_segments((dataclasses.replace(segment(p), sound=None) for p in plans("24", 2)), report=reports.append))
    assert reports[0].loudness_step_db is None and reports[0].correlation is None
    reports.clear()
    first = first_segment(49, Fraction(24))
    list(join_segments([segment(first), segment(cut_segment(first, 49))], report=reports.append))
    assert reports[0].correlation is None and reports[0].loudness_step_db is not None


def steady(timing, level, spread):
    dice = np.random.default_rng(timing.index)
    picture = dice.normal(level, spread, (16, 16, 3)).clip(0, 255).astype(np.uint8)
    frames = [np.stack([picture] * timing.frames)]
    return FinishedSegment(timing, frames, segment(timing, gain=0.5 if timing.index else 1.0).sound)


def test_corrections_take_drift_back_and_are_off_by_default():
    film = plans("24", 2)
    ones = [steady(film[0], 100, 20), steady(film[1], 115, 26)]
    plain, plain_sound = joined(ones)
    nothing, nothing_sound = joined(ones, drift_correction=DriftCorrection())
    assert np.array_equal(plain, nothing) and torch.equal(plain_sound, nothing_sound)
    assert np.array_equal(plain, np.concatenate([ones[0].frames[0], ones[1].frames[0][9:]]))
    held, held_sound = joined(ones, drift_correction=DriftCorrection(colour=1, contrast=1, loudness=1))
    assert np.array_equal(held[:121], plain[:121])
    assert abs(held[-1].mean() - held[0].mean()) < 1 and abs(held[-1].std() - held[0].std()) < 1
    steps = np.abs(np.diff(held.mean((1, 2, 3))))
    assert steps[121:].max() < 1.5  # the correction sets in slowly
    before, after = (held_sound[:, at : at + RATE].square().mean().sqrt() for at in (RATE, 8 * RATE))
    assert after / before == pytest.approx(1, abs=0.02)
    with pytest.raises(RequestError, match="drift correction of colour is 2"):
        DriftCorrection(colour=2)


@pytest.mark.parametrize("by", ("colour", "contrast", "loudness"))
def test_a_drift_correction_begins_anew_at_a_cut(by):
    """A dark and quiet scene after a bright and loud one stays what it is, and drift within it is taken back to it."""
    rng = np.random.default_rng(0)

    def segment(timing, level, spread, loudness):
        shape = (timing.frames, 8, 8, 3)
        frames = np.clip(level + spread * rng.standard_normal(shape), 0, 255).astype(np.uint8)
        samples = int(timing.audio_latents * RATE / 25)
        return FinishedSegment(timing, [frames], Waveform(loudness * torch.randn(2, samples).clamp(-3, 3), RATE))

    first = first_segment(25, Fraction(24))
    cut = cut_segment(first, 25)
    after = next_segment(cut, 33, video_overlap=9, audio_overlap=9)
    told = [(first, 200, 30, 0.2), (cut, 40, 10, 0.02), (after, 52, 14, 0.04)]
    pieces = list(join_segments([segment(*one) for one in told], drift_correction=DriftCorrection(**{by: 1.0})))
    frames = np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)]).astype(float)
    sound = torch.cat([piece.samples for piece in pieces if isinstance(piece, Waveform)], dim=1)
    dark, quiet = frames[25:50], sound[:, RATE * 26 // 24 : RATE * 48 // 24]
    assert abs(dark.mean() - 40) < 1 and abs(dark.std() - 10) < 1 and abs(float(quiet.std()) - 0.02) < 0.002
    end, last = frames[-4:], sound[:, -RATE // 6 :]
    drifted = {"colour": end.mean(), "contrast": end.std(), "loudness": float(last.std())}[by]
    expected = {"colour": 40, "contrast": 14 / 1.25, "loudness": 0.02}[by]
    assert abs(drifted - expected) < 0.1 * expected


def test_a_segment_with_nothing_before_it_begins_a_scene():
    """Films that were made apart: each keeps its own clock, and what goes on from it moves with it."""
    first, second = plans("24", 2, frames=33), plans("24", 3, frames=25)
    reports, notes = [], []
    asked = [segment(t) for t in [*first, *second, second[0]]]
    pieces = list(join_segments(asked, report=reports.append, note=notes.append))
    assert notes == [f"segment {number} goes on from nothing: it begins with a cut" for number in (3, 6)]
    frames = np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)])
    lengths = [33 + 24, 25 + 16 + 16, 25]
    expected = [endless_frame(number) for count in lengths for number in range(count)]
    assert np.array_equal(frames, np.stack(expected))
    sound = torch.cat([piece.samples for piece in pieces if isinstance(piece, Waveform)], dim=1)
    assert sound.shape[1] == round(Fraction(sum(lengths), 24) * RATE)
    assert [seam.correlation is None for seam in reports] == [False, True, False, False, True]
    with pytest.raises(ContinuationError, match="segment 4 begins at 3.083 s, the one before it ends at 2.417 s"):
        list(join_segments([segment(first[0]), segment(second[0]), segment(second[2])], note=notes.append))
