"""A found film as a state: its clocks, for any rate and length, and what is carried."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.clock import decoded_audio_seconds, decoded_samples, seconds_of_frames
from ltx2.film import condition_next, next_segment
from ltx2.film.found import evened, state_of_found_film, timing_of_found_film
from ltx2.film.handoff import open_request, overlap_of, source_of_state
from ltx2.film.timeline import Overlap, sound_join
from ltx2.media import FoundFilm, VideoInfo
from ltx2.stages.request import Request
from ltx2.values import Waveform

RATES = [Fraction(8), Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60)]


def found(frames=17, fps=Fraction(24), latents=64, silent=False):
    sound = None if silent else Waveform(torch.zeros(2, decoded_samples(latents, 16000)), 16000)
    pictures = np.arange(frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    return FoundFilm(pictures, fps, sound, 0 if silent else latents, Fraction(30), VideoInfo(32, 32, fps, 900))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(RATES), st.integers(1, 4), st.integers(0, 60), st.integers(3, 15))
def test_picture_and_sound_keep_their_distance(fps, blocks, more, new):
    frames = 8 * blocks + 1
    least = ceil((100 * seconds_of_frames(frames + 8, fps) + 3) / 4) + 4
    film = found(frames, fps, least + more)
    timing = timing_of_found_film(film)
    assert timing.picture_end == timing.sound_end + Fraction(2, 25) == decoded_audio_seconds(least + more - 4)
    state = state_of_found_film(film, torch.randn(1, 8, least + more, 16))
    following = condition_next(state, frames + 8 * new, fps)
    assert following.timing.picture_start == timing.picture_end  # not a thousandth of a second between them
    assert following.timing == next_segment(
        timing, frames + 8 * new, video_overlap=frames, audio_overlap=max(frames, round(Fraction(49, 24) * fps))
    )
    # the known latents end two before the known frames do
    known = following.timing.start + decoded_audio_seconds(following.timing.audio_overlap_latents)
    assert following.audio.latent.shape[2] == following.timing.audio_overlap_latents
    assert known == timing.sound_end and following.clip.strength == 1.0


def test_the_encoders_ends_are_left_out():
    """Its run-up, and the latents in which the sound breaks off."""
    latents = torch.arange(64.0).view(1, 1, 64, 1).expand(1, 8, 64, 16)
    carried = condition_next(state_of_found_film(found(), latents), 49).audio.latent
    assert carried[0, 0, -1, 0] == 61 and carried[0, 0, 0, 0] >= 4


def test_a_state_that_no_model_made_fits_any_and_says_what_it_is():
    state = state_of_found_film(found(25, silent=True), None, about={"name": "a.mp4"})
    assert source_of_state(state).found == {"name": "a.mp4"} and source_of_state(state).release == ""
    assert state.audio_latents is None and condition_next(state, 49).audio is None
    # the length of the next segment is not that of what was read, nor is what its own state carries
    asked = open_request(Request(prompt="x"), state)
    assert (asked.fps, asked.frames, asked.width) == (24, None, 32) and overlap_of(state) == Overlap()


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_sounds_that_differ_keep_their_level_where_they_change_over(share):
    """As two waves of one sound do that a model made anew."""
    film = found()
    before = timing_of_found_film(film)
    after = next_segment(before, 49, video_overlap=17)
    rate = 16000
    waves = torch.randn(3, rate * 6, generator=torch.Generator().manual_seed(1)) * 0.1
    own = Waveform(waves[:1], rate)
    start = round(after.start * rate)
    new = Waveform((share * waves[:1] + (1 - share**2) ** 0.5 * waves[1:2])[:, start:], rate)
    evened_own, evened_new = evened(own, new, before, after)
    join = sound_join(before, after)
    first, last = round(join.fade_start * rate), round(join.fade_end * rate)
    rise = torch.linspace(0, 1, last - first)
    mixed = (1 - rise) * evened_own.samples[0, first:last] + rise * evened_new.samples[0, first - start : last - start]
    middle = mixed[len(mixed) // 3 : -len(mixed) // 3]
    assert abs(20 * torch.log10(middle.std() / 0.1)) < 1.2
    changed = [(a.samples - b.samples).abs().max() for a, b in ((own, evened_own), (new, evened_new))]
    assert (max(changed) < 1e-6) == (share == 1.0)
