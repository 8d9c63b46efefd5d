from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from ltx2.errors import Ltx2Error, RequestError
from ltx2.film.reference_film import reference_frames_of, reference_mask_of, wanted_frames
from ltx2.media import write_video


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Frame n is grey of 8 · n, 24 frames at 12 fps."""
    path = tmp_path_factory.mktemp("film") / "control.mp4"
    frames = np.stack([np.full((32, 32, 3), 8 * n, np.uint8) for n in range(24)])
    write_video(path, frames, fps=12)
    return path


def greys(frames):
    return [round(float(frame.mean()) / 8) for frame in frames]


def test_a_film_of_the_same_rate(film):
    assert greys(reference_frames_of(film, 9, Fraction(12))) == list(range(9))
    assert greys(reference_frames_of(film, 9, Fraction(12), 1.25)) == list(range(15, 24))


def test_a_film_of_another_rate_shows_what_it_shows_at_each_time(film):
    assert greys(reference_frames_of(film, 9, Fraction(24))) == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert greys(reference_frames_of(film, 9, Fraction(6))) == list(range(0, 18, 2))
    assert wanted_frames(film, 47, Fraction(24000, 1001))[-1] == 23


def test_a_picture_stands_for_all_frames(tmp_path):
    path = tmp_path / "sheet.png"
    Image.new("RGB", (8, 6), (255, 255, 255)).save(path)
    assert reference_frames_of(path, 9, Fraction(24)).shape == (1, 6, 8, 3)
    assert reference_mask_of(path, 9, Fraction(24)).eq(1).all()


def test_what_does_not_reach_is_refused(film):
    with pytest.raises(RequestError, match=r"lasts 2.00 s, the clip needs it from 1.50 s to 2.25 s: give a longer"):
        reference_frames_of(film, 9, Fraction(12), 1.5)
    with pytest.raises(RequestError, match="begins at -1 s, expected 0 or more"):
        reference_frames_of(film, 9, Fraction(12), -1)
    with pytest.raises(Ltx2Error):
        reference_frames_of(film.with_name("none.mp4"), 9, Fraction(12))
