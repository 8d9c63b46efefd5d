"""Every pairing of segments with and without sound, found and made here: sound that was given is heard, all of it."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.errors import Ltx2Warning, MediaError
from ltx2.film import (
    AudioFormat,
    FinishedSegment,
    Handoff,
    Overlap,
    capture_state,
    condition_next,
    file_format,
    first_segment,
    join_segments,
    next_segment,
    write_film,
)
from ltx2.media import read_video
from ltx2.values import Waveform

RATE, FRAMES, FPS = 24000, 33, Fraction(24)
FIRST, SECOND = 0.5, -0.25  # the level of each segment's sound


def level(seconds, value, rate=RATE, channels=2) -> Waveform:
    return Waveform(torch.full((channels, round(seconds * rate)), value), rate)


def frames_of(size=(32, 32), value=0):
    return [np.full((FRAMES, size[1], size[0], 3), value, np.uint8)]


def first_of(kind: str, carries: bool):
    """Timing and state of the first segment: found (a film's own sound, no latents unless it carries some), or made."""
    count = None if carries or kind == "made" else 0
    timing = first_segment(FRAMES, FPS, audio_latents=count)
    latents = torch.zeros(1, 8, timing.audio_latents, 16) if carries else None
    state = capture_state(frames_of()[0], latents, timing, overlap=Overlap(9, 17), sample_rate=RATE)
    return timing, state


def joined(*segments, **keywords):
    pieces = list(join_segments(segments, **keywords))
    sound = [piece.samples for piece in pieces if isinstance(piece, Waveform)]
    frames = np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)])
    return frames, torch.cat(sound, 1) if sound else None


def test_sound_may_begin_with_any_segment():
    timings = [first_of("made", True)[0]]
    for _ in range(3):
        timings.append(next_segment(timings[-1], FRAMES, video_overlap=9, audio_overlap=17))
    heard = [None, None, *(level(timing.sound_end - timing.start, SECOND) for timing in timings[2:])]
    frames, sound = joined(*(FinishedSegment(timing, frames_of(), one) for timing, one in zip(timings, heard)))
    seam = timings[1].total_frames * RATE // 24
    assert sound.shape == (2, len(frames) * RATE // 24)
    assert not sound[:, : seam - RATE // 10].any() and (sound[:, seam + RATE // 10 : -RATE // 20] == SECOND).all()


@pytest.mark.parametrize(
    "kind, carries, takes, first_sounds, second_sounds",
    list(itertools.product(("found", "made"), *[(True, False)] * 4)),
)
def test_sound_that_was_given_is_never_replaced(kind, carries, takes, first_sounds, second_sounds):
    timing, state = first_of(kind, carries)
    following = condition_next(state, FRAMES, handoff=Handoff(audio_overlap=None if takes else 0)).timing
    length = FRAMES / FPS if kind == "found" else timing.sound_end
    one = FinishedSegment(timing, frames_of(), level(length, FIRST) if first_sounds else None)
    two = FinishedSegment(
        following, frames_of(), level(following.sound_end - following.start, SECOND) if second_sounds else None
    )
    frames, sound = joined(one, two)
    assert len(frames) == 2 * FRAMES - 9
    if not (first_sounds or second_sounds):
        assert sound is None
        return
    assert sound.shape == (2, len(frames) * RATE // 24)
    seam = FRAMES * RATE // 24
    # around the seam both may fade
    before, after = sound[:, : seam - RATE // 10], sound[:, seam + RATE // 10 : -RATE // 20]
    assert (before == (FIRST if first_sounds else 0)).all() and (after == (SECOND if second_sounds else 0)).all()
    if not (carries and takes and first_sounds and second_sounds):
        # nothing is shared: each is heard to the seam, but for five milliseconds
        edge = RATE // 200 + (0 if kind == "found" else RATE // 30)
        assert (sound[:, seam - RATE // 10 : seam - edge] == (FIRST if first_sounds else 0)).all()
        assert (sound[:, seam + RATE // 200 : seam + RATE // 10] == (SECOND if second_sounds else 0)).all()


def test_silence_before_the_first_sound_is_made_up_for():
    timings = [first_segment(FRAMES, FPS)]
    for _ in range(2):
        pictures = np.zeros((9, 32, 32, 3), np.uint8)
        state = capture_state(pictures, None, timings[-1])
        timings.append(condition_next(state, FRAMES).timing)
    silent = [FinishedSegment(timing, frames_of(), None) for timing in timings]
    heard = dataclasses.replace(silent[2], sound=level(FRAMES / FPS, SECOND))
    frames, sound = joined(silent[0], silent[1], heard)
    seam = timings[1].total_samples(RATE)
    assert sound.shape[1] == timings[2].total_samples(RATE) and not sound[:, :seam].any()
    assert (sound[:, seam + RATE // 200 :] == SECOND).all()


def test_rate_channels_and_size_are_brought_to_those_of_the_film():
    timing, state = first_of("made", True)
    following = condition_next(state, FRAMES).timing
    one = FinishedSegment(timing, frames_of((32, 32), 10), level(timing.sound_end, FIRST))
    other = level(following.sound_end - following.start, SECOND, rate=16000, channels=1)
    two = FinishedSegment(following, frames_of((64, 32), 200), other)
    notes = []
    frames, sound = joined(one, two, note=notes.append)
    assert frames.shape == (2 * FRAMES - 9, 32, 32, 3) and frames[-1].min() > 190
    assert notes == [
        "the sound of segment 2 has 1 channels at 16000 Hz, it was brought to the film's 2 channels at 24000 Hz",
        "segment 2 is 64x32 px, it was brought to the film's 32x32",
    ]
    assert sound.shape[0] == 2 and torch.allclose(sound[:, 40000:50000], torch.tensor(SECOND), atol=1e-3)
    with pytest.warns(Ltx2Warning) as caught:
        joined(one, two)
    assert [str(warning.message) for warning in caught] == notes


@pytest.mark.parametrize(
    "rate, channels, expected",
    [
        (24000, 2, (24000, 2)),
        (37800, 1, (44100, 1)),
        (192000, 2, (96000, 2)),
        (48000, 6, (48000, 6)),
        (4000, 3, (8000, 2)),
        (11025, 7, (11025, 2)),
    ],
)
def test_a_film_file_takes_any_sound(tmp_path, rate, channels, expected):
    sound = level(FRAMES / FPS, FIRST, rate, channels)
    wanted = file_format([None, sound])
    assert wanted == AudioFormat(*expected)
    notes = []
    segment = FinishedSegment(first_segment(FRAMES, FPS), frames_of(), sound)
    write_film(tmp_path / "x.mp4", [segment], wanted, note=notes.append)
    clip = read_video(tmp_path / "x.mp4")
    assert clip.sound.sample_rate == expected[0] and clip.sound.samples.shape[0] == expected[1]
    assert bool(notes) == ((rate, channels) != expected)
    middle = clip.sound.samples[: min(expected[1], 2), expected[0] // 2 : expected[0]]
    assert torch.allclose(middle, torch.tensor(FIRST), atol=0.1)


def test_silent_and_empty_films(tmp_path):
    segment = FinishedSegment(first_segment(FRAMES, FPS), frames_of(), None)
    write_film(tmp_path / "x.mp4", [segment], file_format([None]))
    assert read_video(tmp_path / "x.mp4").sound is None
    with pytest.raises(ValueError, match="no segments"):
        write_film(tmp_path / "y.mp4", [], None)
    short = dataclasses.replace(segment, frames=[frames_of()[0][:5]])
    with pytest.raises(ValueError, match="gave 5 frames"):
        write_film(tmp_path / "y.mp4", [short], None)
    with pytest.raises(MediaError, match="even sides"):
        write_film(tmp_path / "y.mp4", [dataclasses.replace(segment, frames=frames_of((33, 32)))], None)
    assert not (tmp_path / "y.mp4").exists()


def test_sound_beyond_the_picture_is_told(tmp_path):
    segment = FinishedSegment(first_segment(FRAMES, FPS), frames_of(), level(3, FIRST))
    with pytest.warns(Ltx2Warning, match="s of sound after the last frame are left out"):
        write_film(tmp_path / "x.mp4", [segment], AudioFormat(RATE, 2))


def test_sound_comes_before_the_pictures_it_belongs_to():
    """So that a film file gets both side by side; only what a join may still change waits for the next segment."""
    segment = FinishedSegment(first_segment(FRAMES, FPS), frames_of(), level(FRAMES / FPS, FIRST))
    first, *others = join_segments([segment])
    assert isinstance(first, Waveform) and (first.samples == FIRST).all()
    assert 0 < FRAMES / FPS - first.seconds < Fraction(1, 10)
    assert isinstance(others[0], np.ndarray)
