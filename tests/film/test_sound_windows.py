"""Windows of a long sound: together they cover it, each within what models were trained on."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.errors import RequestError
from ltx2.film.sound_windows import OVERLAP_SECONDS, sound_windows

RATES = st.sampled_from([Fraction(8), Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30), Fraction(60)])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 20_000), RATES, st.booleans())
def test_windows_cover_a_sound_without_gaps(frames, fps, picture):
    windows = sound_windows(frames, fps, picture=picture)
    new = sum(one.new_frames for one in windows)
    assert frames <= new < frames + 8
    for one in windows:
        assert one.frames % 8 == 1 and one.seconds < 16
    for before, after in zip(windows, windows[1:]):
        assert after.picture_start == before.picture_end
        assert after.video_overlap == (9 if picture else 0)
        # what the next window hears of the one before, as far as that is so long
        assert after.audio_overlap_latents >= min(25 * OVERLAP_SECONDS - 3, before.audio_latents)


def test_no_sound_at_all_is_refused():
    with pytest.raises(RequestError, match="expected 1 or more"):
        sound_windows(0, Fraction(24), picture=False)
