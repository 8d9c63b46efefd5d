"""A part of a film made anew: what the model sees, what it may change, and that nothing else does."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.clock import audio_latent_span, is_valid_frame_count
from ltx2.errors import RequestError
from ltx2.film.retake import FilmShape, Part, blended, retaken_frames, retaken_sound, window_of
from ltx2.story.found import FilmInMemory
from ltx2.values import Waveform

RATES = [Fraction(12), Fraction(24000, 1001), Fraction(25), Fraction(60)]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(RATES), st.integers(1, 3000), st.data())
def test_the_window_holds_the_part_and_what_is_around(fps, frames, data):
    film = FilmShape("a.mp4", 64, 64, fps, frames, 48000)
    first = data.draw(st.integers(0, frames - 1))
    last = data.draw(st.integers(first + 1, min(frames, first + int(10 * fps))))
    start, end = first / fps, last / fps
    window = window_of(film, Part(start, end))
    assert is_valid_frame_count(window.frames) and window.frames / fps <= 20
    assert 0 <= window.first <= first and last <= window.first + window.frames
    assert window.first + window.frames <= frames + 7  # the last picture stands for what is missing
    assert window.changed[0] <= first and last <= window.changed[1] <= frames
    assert first - window.changed[0] < 8 and window.changed[1] - last < 8
    begin, stop = window.heard
    assert begin <= start and stop >= min(end, film.seconds) - Fraction(1, 10**9)
    assert start - begin < Fraction(1, 25) and stop - end <= Fraction(1, 25)
    # what is around it is seen on both sides where there is anything
    if frames > 20 * fps:
        assert first - window.first >= min(first, int(3 * fps))
    mask = window.latent_mask()
    known = [k for k in range(window.audio_latents) if not mask[k]]
    assert all(
        audio_latent_span(k)[1] + window.start <= start or audio_latent_span(k)[0] + window.start >= end for k in known
    )


@pytest.mark.parametrize(
    "part, words",
    [
        (
            Part(Fraction(2), Fraction(9)),
            "2 to 9 s are to be made anew, a.mp4 lasts 5.00 s: end at 5.00 s at the latest",
        ),
        (Part(Fraction(3), Fraction(3)), "3 to 3 s are .*: end after 3 s, at 5.00 s at the latest"),
        (Part(Fraction(3), Fraction(1)), "3 to 1 s are .*: end after 3 s, at 5.00 s at the latest"),
        (Part(Fraction(-1), Fraction(3)), "-1 to 3 s are .*: begin at 0 or later, before 5.00 s"),
        (Part(Fraction(5)), "5 to 5 s are .*: begin at 0 or later, before 5.00 s"),
        (Part(picture=False), "no sound that could be made anew"),
        (Part(picture=False, sound=False), "neither picture nor sound"),
    ],
)
def test_what_is_no_part_is_said(part, words):
    with pytest.raises(RequestError, match=words):
        window_of(FilmShape("a.mp4", 64, 64, Fraction(24), 120), part)
    with pytest.raises(RequestError, match="do it in parts"):
        window_of(FilmShape("a.mp4", 64, 64, Fraction(24), 2400), Part(Fraction(1), Fraction(30)))


def test_everything_else_stays_as_it_is():
    frames = torch.randint(0, 256, (100, 32, 48, 3), dtype=torch.uint8)
    sound = Waveform(torch.rand(2, 4 * 48000) - 0.5, 48000)
    mask = torch.zeros(1, 32, 48)
    mask[:, :16, :24] = 1
    film = FilmInMemory(frames.float() / 255, Fraction(25), sound, mask)
    window = window_of(film.shape, Part(Fraction(1), Fraction(2)))
    new = np.zeros((window.frames, 64, 96, 3), np.uint8)
    made = np.stack(list(retaken_frames(film, window, [new[:50], new[50:]])))
    first, last = window.changed
    old = frames.numpy()
    assert np.array_equal(made[:first], old[:first]) and np.array_equal(made[last:], old[last:])
    assert np.array_equal(made[:, 16:], old[:, 16:]) and np.array_equal(made[:, :, 24:], old[:, :, 24:])
    assert not made[first:last, :8, :16].any()
    begin, end = window.heard
    pieces = list(retaken_sound(film, window, Waveform(torch.zeros(2, 48000 * 5), 48000)))
    heard = torch.cat([piece.samples for piece in pieces], dim=1)
    at, stop = round(begin * 48000), round(end * 48000)
    assert heard.shape[1] == 4 * 48000 - at and torch.equal(heard[:, stop - at :], sound.samples[:, stop:])
    assert not heard[:, 1920 : stop - at - 1920].any()  # but for 40 ms at both ends


def test_a_blend_is_exact_outside_and_new_inside():
    old, new = np.full((80, 80, 3), 10, np.uint8), np.full((80, 80, 3), 200, np.uint8)
    mask = np.zeros((80, 80), np.float32)
    mask[10:70, 10:70] = 1
    mixed = blended(old, new, mask)
    assert np.array_equal(mixed[mask == 0], old[mask == 0]) and (mixed[30:50, 30:50] == 200).all()
    edge = mixed[40, 10:30, 0].astype(int)
    assert (np.diff(edge) >= 0).all() and np.diff(edge).max() < 60
