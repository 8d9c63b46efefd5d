"""A film with a new part in front of it: its own part bit for bit, the new one where it belongs."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.media import iterate_frames, read_sound
from ltx2.media.found.film_opening import NewHead, write_in_front
from ltx2.values import Waveform

from .films import grey, make_film, number_of, sound_of
from .test_film_extension import decoded, packets, shown_times
from .test_found_film import click_at, loudest

SOURCES = {
    "b_frames.mp4": {"options": {"bf": "3", "g": "12"}},
    "plain.mov": {"options": {"bf": "0"}},
    "matroska.mkv": {"options": {"bf": "2"}},
    "film.mp4": {"fps": "24000/1001"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_found_pictures_stay_and_come_behind_the_new_ones(tmp_path, name):
    fps = Fraction(SOURCES[name].get("fps", 24))
    source = make_film(tmp_path / name, grey(42)[12:], sound=sound_of(30 / fps), **SOURCES[name])
    head = NewHead([grey(12)], 12, fps, sound_of(12 / fps))
    assert write_in_front(source, tmp_path / "out.mp4", head) == ()
    before, after = packets(source, "video"), packets(tmp_path / "out.mp4", "video")
    assert after[12:] == before
    frames = list(decoded(tmp_path / "out.mp4"))
    assert [number_of(frame) for frame in frames] == list(range(42))
    assert all(np.array_equal(one, kept) for one, kept in zip(iterate_frames(source), frames[12:], strict=True))
    times = shown_times(tmp_path / "out.mp4")
    assert np.abs(np.array(times) - [float(i / fps) for i in range(42)]).max() < 2e-3


@pytest.mark.parametrize("rate, layout, new_rate", [(48000, "stereo", 24000), (44100, "mono", 48000)])
def test_found_sound_stays_and_is_in_time(tmp_path, rate, layout, new_rate):
    """A click half a second into the film, and one half a second before it, stand where they belong."""
    channels = 1 if layout == "mono" else 2
    click = click_at(Fraction(1, 2), Fraction(2), rate)
    own = Waveform(click.samples[:1].repeat(channels, 1), rate)
    source = make_film(tmp_path / "a.mp4", grey(48), sound=own, layout=layout)
    head = NewHead(
        [grey(25)], 25, Fraction(24), click_at(Fraction(25, 24) - Fraction(1, 2), Fraction(25, 24), new_rate)
    )
    assert write_in_front(source, tmp_path / "out.mp4", head) == ()
    sound = read_sound(tmp_path / "out.mp4")
    assert sound.sample_rate == rate and abs(sound.samples.shape[1] - 73 * rate / 24) < 1
    middle = round(25 * rate / 24)
    assert abs(loudest(Waveform(sound.samples[:, :middle], rate)) - (middle / rate - 0.5)) < 0.002
    assert abs(loudest(Waveform(sound.samples[:, middle:], rate)) - 0.5) < 0.002
    kept, found = packets(tmp_path / "out.mp4", "audio"), packets(source, "audio")
    assert kept[-len(found) + 4 :] == found[4:]
    again = read_sound(source).samples
    count = min(again.shape[1], sound.samples.shape[1] - middle)
    apart = (sound.samples[:, middle : middle + count] - again[:, :count]).abs()
    assert apart[:, 6 * 1024 :].max() < 1e-3 and apart.max() < 0.1


def test_what_cannot_be_kept_is_encoded_and_told(tmp_path):
    source = make_film(tmp_path / "a.mkv", grey(20), video="mpeg4", sound=sound_of(Fraction(20, 24)))
    (told,) = write_in_front(source, tmp_path / "out.mp4", NewHead([grey(9)], 9, Fraction(24)))
    assert "encoded anew" in told and len(list(decoded(tmp_path / "out.mp4"))) == 29
    sound = read_sound(tmp_path / "out.mp4").samples
    assert sound.shape[1] == round(29 / 24 * 48000) and sound[:, : 9 * 2000 - 2000].abs().max() < 0.01
    assert torch.sqrt(sound[:, 20000:].square().mean()) > 0.1
