"""The end of a film that was found: the right pictures, and sound that ends with them."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.clock import decoded_audio_seconds, samples_of_seconds
from ltx2.errors import MediaError, RequestError
from ltx2.media import read_found_film
from ltx2.media.found.film_extension import restored
from ltx2.media.found.found_film import fitted, model_rate, model_size
from ltx2.values import Waveform

from .films import grey, make_film, number_of, sound_of, turn


def click_at(seconds, length, rate=48000, channels=2):
    """Silence with a click at a time."""
    samples = torch.zeros(channels, round(length * rate))
    at = round(seconds * rate)
    samples[:, at : at + 48] = 0.9
    return Waveform(samples, rate)


def loudest(sound, start=0):
    """Seconds at which the loudest sample lies."""
    return (int(sound.samples.abs().amax(dim=0).argmax()) + start) / sound.sample_rate


@pytest.mark.parametrize("fps", ["24000/1001", 24, 25, "30000/1001", 30, 50, 60])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_last_frames_and_sound_of_the_same_end(tmp_path, fps, rate):
    fps = Fraction(fps)
    length = Fraction(50) / fps
    click = length - Fraction(10) / fps  # ten frames before the end
    path = make_film(tmp_path / "a.mp4", grey(50, 32, 64), fps=fps, sound=click_at(click, length, rate))
    found = read_found_film(path, frames=17)
    assert found.fps == fps and [number_of(f) for f in found.frames] == list(range(33, 50)) and not found.notes
    assert found.end_seconds == length
    seconds = decoded_audio_seconds(found.audio_latents)
    assert found.sound.samples.shape == (
        2,
        samples_of_seconds(length, rate) - samples_of_seconds(length - seconds, rate),
    )
    needed = ceil((100 * Fraction(25) / fps + 3) / 4) + 4
    assert found.audio_latents == max(needed, min(64, int((100 * length + 3) / 4)))
    # the sound's end is the picture's end: the click lies ten frames before it
    before = found.sound.samples.shape[1] / rate - loudest(found.sound)
    assert abs(before - float(10 / fps)) < 0.002
    assert found.sound_before_frames == seconds - Fraction(17) / fps


@pytest.mark.parametrize("fps, made, step", [(120, 60, 2), (100, 50, 2), (5, 10, 0.5), (90, 45, 2)])
def test_other_rates_are_counted_back_from_the_last_frame(tmp_path, fps, made, step):
    path = make_film(tmp_path / "a.mp4", grey(50, 32, 32), fps=fps)
    found = read_found_film(path, frames=9)
    assert found.fps == made and f"gone on from at {made}" in found.notes[-1]
    assert [number_of(f) for f in found.frames] == [49 - int(step * place) for place in reversed(range(9))]


@settings(max_examples=20, deadline=None)
@given(intervals=st.lists(st.sampled_from([1, 2, 3, 6]), min_size=24, max_size=40))
def test_a_varying_rate_ends_with_its_last_frame(tmp_path_factory, intervals):
    times = [t / 60 for t in np.cumsum([0, *intervals])]
    path = make_film(tmp_path_factory.mktemp("vfr") / "a.mp4", grey(len(times), 32, 32), times=times)
    found = read_found_film(path, frames=9)
    seen = [number_of(f) for f in found.frames]
    assert seen[-1] == len(times) - 1 and seen == sorted(seen)
    for place, number in enumerate(seen):  # what the film shows there, within half a frame
        at = float(found.end_seconds - (9 - place) / found.fps)
        near = {
            max((i for i, t in enumerate(times) if t <= at + shift / float(found.fps) + 1e-6), default=0)
            for shift in np.linspace(0, 1, 9)
        }
        assert number in near


def test_any_film_as_a_model_sees_it(tmp_path):
    path = make_film(
        tmp_path / "a.mp4",
        grey(30, 36, 64),
        pix_fmt="yuv420p10le",
        options={"crf": "0"},
        sound=sound_of(Fraction(30, 24), 22050, 1),
        layout="mono",
    )
    found = read_found_film(path)
    assert found.frames.shape == (25, 32, 64, 3) and found.sound.samples.shape[0] == 1
    assert "64x36: the model sees it at 64x32, 11.1 % are cut off above and below" in found.notes[0]
    assert [number_of(f) for f in found.frames] == list(range(5, 30))

    path = turn(make_film(tmp_path / "b.mp4", grey(30, 32, 64)), 1)
    found = read_found_film(path)
    assert found.frames.shape == (25, 64, 32, 3) and found.sound is None and found.audio_latents == 0

    six = Waveform(torch.zeros(6, 60000), 48000)
    six.samples[2] = 0.4 * torch.sin(torch.arange(60000) / 20)
    found = read_found_film(make_film(tmp_path / "c.mp4", grey(30, 32, 32), sound=six, layout="5.1"))
    assert found.sound.samples.shape[0] == 2 and found.sound.samples.abs().amax(dim=1).min() > 0.2
    assert any("6 channels" in note for note in found.notes)


def test_sound_that_ends_early_or_late_is_told(tmp_path):
    early = make_film(tmp_path / "a.mp4", grey(48, 32, 32), sound=sound_of(1))
    found = read_found_film(early, frames=9)
    assert "ends 1.00 s before its picture" in found.notes[0] and not found.sound.samples[:, -40000:].any()
    late = make_film(tmp_path / "b.mp4", grey(24, 32, 32), sound=sound_of(2))
    found = read_found_film(late, frames=9)
    assert "1.00 s of sound after the last picture" in found.notes[0] and found.end_seconds == 1


def test_films_that_are_too_short_and_wrong_questions(tmp_path):
    short = make_film(tmp_path / "a.mp4", grey(12, 32, 32))
    assert len(read_found_film(short).frames) == 9 and "has 12 frames" in read_found_film(short).notes[0]
    for wanted, error, message in (
        (17, MediaError, "has 12 frames, going on from it needs 17"),
        (10, RequestError, "8k\\+1"),
        (1, RequestError, "8k\\+1"),
    ):
        with pytest.raises(error, match=message):
            read_found_film(short, frames=wanted)
    with pytest.raises(MediaError, match="needs 9"):
        read_found_film(make_film(tmp_path / "b.mp4", grey(5, 32, 32)))
    from .films import make_sound

    with pytest.raises(MediaError, match="no picture track"):
        read_found_film(make_sound(tmp_path / "c.wav", sound_of(2)))


def test_only_the_end_is_decoded(tmp_path, monkeypatch):
    import ltx2.media.video_reader as reader

    path = make_film(tmp_path / "a.mp4", grey(58, 32, 32), options={"g": "12"})
    decoded = []
    real = reader.decoded_picture
    monkeypatch.setattr(reader, "decoded_picture", lambda *given: decoded.append(1) or real(*given))
    assert len(read_found_film(path, frames=9).frames) == 9
    assert len(decoded) <= 10  # the first for its size, and those that are wanted


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(40, 4096),
    height=st.integers(40, 4096),
    multiple=st.sampled_from([32, 64]),
    most=st.sampled_from([None, 768 * 512]),
)
def test_sizes_fit_the_grid_and_keep_the_shape(width, height, multiple, most):
    wide, high = model_size(width, height, multiple, most)
    assert wide % multiple == 0 == high % multiple and wide > 0 < high
    if most is not None:
        assert wide * high <= most
    if min(width, height) > 6 * multiple and max(width, height) < 4 * min(width, height) and most is None:
        assert 0.85 < wide / high / (width / height) < 1.18 and 0.7 < wide * high / (width * height) < 1.4


@given(fps=st.fractions(Fraction(1, 2), 1000, max_denominator=1001))
def test_rates_are_possible_ones(fps):
    made = model_rate(fps)
    assert 8 <= made <= 60 and ((made / fps).denominator == 1 or (fps / made).denominator == 1)
    if 8 <= fps <= 60:
        assert made == fps


@pytest.mark.parametrize("size", [(480, 854), (1080, 1920), (200, 300), (96, 96)])
def test_the_way_back_restores_the_size(size):
    height, width = size
    y, x = np.mgrid[:height, :width]
    picture = np.stack([y * 200 // height, x * 200 // width, (x + y) * 0], axis=-1).astype(np.uint8)
    wide, high = model_size(width, height, 32)
    back = restored(fitted(picture, high, wide), height, width)
    assert back.shape == picture.shape and back.dtype == np.uint8
    assert np.abs(back.astype(int) - picture)[16:-16, 16:-16].max() <= 4
    assert restored(picture, height, width) is picture
