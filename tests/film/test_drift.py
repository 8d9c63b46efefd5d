"""Drift from segment to segment: a drifted end is pulled back, and what it is held to travels in the state."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.continuation import load_attachment, save_attachment
from ltx2.errors import ContinuationError, RequestError
from ltx2.film import Handoff, Overlap, capture_state, condition_next, first_segment
from ltx2.film.drift import DriftControl, DriftReference, control_of, handed_on, read_reference, take_up, with_reference
from ltx2.film.drift.look import look_of
from ltx2.film.drift.reference import latent_drift
from ltx2.sampling.channel_statistics import moved, statistics_of, toward
from ltx2.values import ChannelStatistics

SHARES = st.floats(0.1, 1)
EVERYTHING = DriftControl(colour=0.5, contrast=0.5, loudness=1, latent=0.4, anchor=0.3)


def scene(seed, level=110.0, size=(32, 48)):
    return np.random.default_rng(seed).normal(level, 25, (9, *size, 3)).clip(40, 200).round().astype(np.uint8)


def state_of(frames, reference=None):
    timing = first_segment(17, 24)
    latents = torch.randn(1, 8, timing.audio_latents, 16, generator=torch.Generator().manual_seed(3))
    state = capture_state(frames, latents, timing, overlap=Overlap(9, 9), sample_rate=24000, seed=4)
    return with_reference(state, reference)


@given(st.integers(0, 99), SHARES, st.floats(0.85, 1.18), st.lists(st.floats(-20, 20), min_size=3, max_size=3))
@settings(max_examples=30, deadline=None)
def test_a_drifted_picture_is_pulled_back_by_its_share(seed, amount, gain, shift):
    first = scene(seed)
    drifted = ((first - first.mean((0, 1, 2))) * gain + first.mean((0, 1, 2)) + shift).clip(0, 255).round()
    drifted = drifted.astype(np.uint8)
    control = DriftControl(colour=amount, contrast=amount)
    begun = take_up(control, None, first, sound=False)
    assert begun.frames is first  # the first state of a scene is what the others are held to
    held = take_up(control, begun.reference, drifted, sound=False)
    before, after, wanted = look_of([drifted]), look_of([held.frames]), look_of([first])
    for name in ("mean", "deviation"):
        distance = np.abs(getattr(before, name) - getattr(wanted, name))
        left = np.abs(getattr(after, name) - getattr(wanted, name))
        assert (left <= distance * (1 - amount) + 1.0).all()  # frames are whole levels
    assert held.reference.look is begun.reference.look


@given(st.integers(0, 99), SHARES, st.floats(0.9, 1.3), st.floats(-0.5, 0.5))
@settings(max_examples=30, deadline=None)
def test_drifted_latents_are_pulled_back_by_their_share(seed, amount, gain, shift):
    latent = torch.randn(1, 128, 3, 2, 4, generator=torch.Generator().manual_seed(seed))
    reference = statistics_of(latent)
    drifted = latent * gain + shift
    found, left = statistics_of(drifted), statistics_of(toward(drifted, reference, amount))
    assert torch.allclose((left.mean - reference.mean), (1 - amount) * (found.mean - reference.mean), atol=1e-4)
    wanted = torch.lerp(found.deviation, reference.deviation, amount)
    assert torch.allclose(left.deviation, wanted, rtol=1e-4)
    after = moved(reference, found)
    assert torch.allclose(after.mean, torch.lerp(reference.mean, found.mean, 0.1))
    assert (after.deviation <= 1.05 * reference.deviation + 1e-6).all()
    for _ in range(50):  # a reference that follows a film does not follow it to any contrast
        after = moved(after, statistics_of(latent * 3))
    assert torch.allclose(after.deviation, 1.05 * reference.deviation)


def test_grain_is_not_made_large_with_a_channel():
    flat = torch.randn(1, 128, 2, 2, 2) * 0.01
    reference = statistics_of(torch.randn(1, 128, 2, 2, 2))
    assert statistics_of(toward(flat, reference, 1.0)).deviation.max() <= 1.21 * statistics_of(flat).deviation.max()


@given(st.floats(0.05, 0.5), st.floats(0.5, 2), SHARES)
@settings(max_examples=30, deadline=None)
def test_loudness_is_pulled_back_from_the_second_segment_on(loudness, drift, amount):
    control = DriftControl(loudness=amount)
    reference = handed_on(control, None, loudness, None)
    frames = scene(1)
    assert take_up(control, reference, frames, sound=True).gain == 1  # the first segment is what it is held to
    reference = handed_on(control, reference, loudness * drift, None)
    taken = take_up(control, reference, frames, sound=True)
    assert taken.gain == pytest.approx(drift**-amount) and taken.frames is frames
    # nobody measures it while it is off, and nothing is corrected by what is not known
    assert take_up(control, handed_on(None, reference, 1.0, None), frames, sound=True).gain == 1


def test_off_changes_nothing():
    frames = scene(2)
    assert take_up(None, None, frames, sound=True).frames is frames
    state = state_of(frames)
    plain, off = (condition_next(state, 17, handoff=Handoff(drift=drift)) for drift in (None, DriftControl()))
    for following in (plain, off):
        assert np.array_equal(following.clip.frames, frames) and following.audio.gain == 1
        assert following.anchor is following.latent_drift is following.drift_reference is None
    assert handed_on(None, None, 0.5, None) is handed_on(DriftControl(), None, 0.5, None) is None
    assert with_reference(state, None) is state and "drift" not in state.metadata["comfy_ltx2"]


@pytest.mark.parametrize("form", ("png", "safetensors", "json", ""))
def test_a_state_keeps_what_its_scene_is_held_to(form, tmp_path):
    latent = statistics_of(torch.randn(1, 128, 3, 2, 2))
    first = condition_next(state_of(scene(1, size=(160, 224))), 17, handoff=Handoff(drift=EVERYTHING))
    assert first.anchor is None and first.latent_drift.reference is None  # it starts from this very frame
    held = handed_on(EVERYTHING, first.drift_reference, 0.25, latent)
    again = scene(7, 150, size=(160, 224))
    path = save_attachment(state_of(again, held), tmp_path / (f"state.{form}" if form else "state"))
    loaded = load_attachment(path).state
    found = read_reference(loaded.metadata)
    for name in ChannelStatistics.NAMES:
        assert torch.equal(getattr(found.latent, name), getattr(latent, name))
    assert (found.loudness, found.loudness_now, found.anchor) == (0.25, 0.25, held.anchor)
    assert np.array_equal(found.look.mean, held.look.mean)
    following = condition_next(loaded, 17, handoff=Handoff(drift=EVERYTHING))
    assert (following.anchor.guide, following.anchor.strength, following.anchor.frame) == (True, 0.3, 0)
    assert np.abs(following.anchor.image.astype(int) - scene(1, size=(160, 224))[-1]).mean() < 8
    assert following.clip.frames.mean() < again.mean() - 10  # back to the first look
    assert torch.equal(following.latent_drift.reference.mean, latent.mean)
    # a segment that is made without any of it hands it on
    plain = condition_next(loaded, 17)
    assert np.array_equal(plain.clip.frames, again) and plain.drift_reference.anchor == held.anchor


def test_latents_are_held_only_where_that_is_asked_for():
    assert latent_drift(None) is None and latent_drift(DriftControl(colour=0.5)) is None
    assert latent_drift(EVERYTHING).reference is None
    flat = {"look": {"mean": [1, 2, 3], "deviation": [0, 0, 0]}}  # a picture of one colour
    assert not read_reference({"comfy_ltx2": {"drift": flat}}).look.deviation.any()


@pytest.mark.parametrize(
    "damaged",
    [
        5,
        {"look": {"mean": [1, 2], "deviation": [1, 2, 3]}},
        {"look": {"mean": [1, 2, 3]}},
        {"look": {"mean": [1, 2, 3], "deviation": [1, -2, 3]}},
        {"latent": {"mean": [1.0], "deviation": [-1.0], "first_deviation": [1.0]}},
        {"loudness": -1},
        {"loudness": "loud"},
        {"latent": {"mean": [1.0], "deviation": [1.0, 2.0], "first_deviation": [1.0]}},
        {"latent": {"mean": [1e300], "deviation": [1.0], "first_deviation": [1.0]}},
        {"anchor_jpeg": ["%%"]},
        {"anchor_jpeg": "abcd"},
        {"anchor_jpeg": []},
        {"anchor_jpeg": ["QUJD"]},
    ],
)
def test_a_damaged_reference_is_told_in_one_sentence(damaged):
    state = state_of(scene(1))
    state.metadata["comfy_ltx2"]["drift"] = damaged
    with pytest.raises(ContinuationError) as told:
        condition_next(state, 17, handoff=Handoff(drift=EVERYTHING))
    assert "\n" not in str(told.value) and len(str(told.value)) <= 300


@pytest.mark.parametrize(
    "said, words",
    [
        ({"colour": 1.5}, "colour is 1.5, expected 0 to 1"),
        ({"latent": float("nan")}, "latent is nan, expected 0 to 1"),
        ({"strength": -1}, "strength is -1, expected 0 to 1"),
        ({"settles": 0.5}, "no strength to settle"),
    ],
)
def test_what_cannot_be_is_refused(said, words):
    with pytest.raises(RequestError, match=words):
        control_of(said)


def test_what_a_state_lacks_is_told():
    frames = take_up(EVERYTHING, DriftReference(), None, sound=False)
    assert any("no frames" in note for note in frames.notes) and any("no sound" in note for note in frames.notes)
    assert control_of(EVERYTHING.said) == EVERYTHING and control_of({}) is None
