"""A film with another sound: its picture packet by packet as it was, the sound exactly as long."""

from fractions import Fraction

import av
import pytest
import torch

from ltx2 import media
from ltx2.errors import MediaError
from ltx2.media.found.film_picture import film_picture
from ltx2.media.found.new_sound import write_with_sound
from ltx2.values import Waveform

from .films import grey, make_film, number_of, sound_of


def packets_of(path):
    """Data, and seconds from the first frame on, of each packet of the picture as stored."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        zero = stream.start_time or 0
        return [(bytes(p), (p.pts - zero) * stream.time_base) for p in file.demux(stream) if p.size]


HEVC = {"video": "libx265", "options": {"x265-params": "log-level=none"}}


@pytest.mark.parametrize("kind, suffix", [({}, ".mp4"), (HEVC, ".mp4"), ({}, ".mkv")])
@pytest.mark.parametrize("own", [True, False])
def test_the_picture_stays_as_it_is(tmp_path, kind, suffix, own):
    source = tmp_path / f"film{suffix}"
    make_film(source, grey(30), sound=sound_of(Fraction(30, 24)) if own else None, **kind)
    new = sound_of(0.7, rate=48000, hertz=880)
    notes = write_with_sound(source, tmp_path / "new.mp4", [new], metadata={"ltx2": {"prompt": "x"}})
    assert [data for data, _ in packets_of(tmp_path / "new.mp4")] == [data for data, _ in packets_of(source)]
    times = [[float(at) for _, at in packets_of(path)] for path in (tmp_path / "new.mp4", source)]
    assert times[0] == pytest.approx(times[1], abs=1e-3)
    info = media.video_info(tmp_path / "new.mp4")
    assert (info.frames, info.fps, info.samples, info.sample_rate) == (30, 24, 60000, 48000)
    assert "prompt" in info.metadata["ltx2"] and bool(notes) == own
    heard = media.read_sound(tmp_path / "new.mp4").samples
    assert (heard[0, 9600:28800] - new.samples[0, 9600:28800]).abs().max() < 0.1 and heard[0, 36000:].abs().max() < 0.05


def test_what_cannot_stay_is_refused_by_its_name(tmp_path):
    make_film(tmp_path / "film.mkv", grey(5), video="ffv1", options={})
    with pytest.raises(MediaError, match="is ffv1, which an MP4 cannot hold as it is: convert the film to H.264"):
        write_with_sound(tmp_path / "film.mkv", tmp_path / "new.mp4", [sound_of(1)])
    make_film(tmp_path / "film.mp4", grey(5))
    with pytest.raises(MediaError, match="no AAC"):
        write_with_sound(tmp_path / "film.mp4", tmp_path / "new.mp4", [Waveform(torch.zeros(2, 9), 1234)])
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize("places", [[(0, 9)], [(0, 17), (8, 17)], [(0, 9), (0, 25)], [(0, 1), (24, 9)]])
def test_windows_of_a_films_picture(tmp_path, places):
    make_film(tmp_path / "film.mp4", grey(26))
    film = film_picture(tmp_path / "film.mp4", most_pixels=32 * 32)
    assert (film.width, film.height, film.frames) == (32, 32, 26)
    for (first, count), frames in zip(places, film.windows(places)):
        assert frames.shape == (count, 32, 32, 3)
        assert [number_of(frame) for frame in frames] == [min(first + i, 25) for i in range(count)]
