"""A film that was saved with a state: named without telling where it lies, and gone on with as if never left."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from ltx2.continuation.attachments import attachment_bytes, load_attachment
from ltx2.errors import ContinuationError
from ltx2.film import FinishedSegment, Overlap, capture_state, condition_next, first_segment, join_segments, write_film
from ltx2.film.audio_format import AudioFormat
from ltx2.film.found import Writing
from ltx2.film.saved_film import (
    SavedFilm,
    check_goes_on,
    end_notes,
    film_beside,
    film_of,
    with_film,
    with_film_beside,
    write_after_film,
)
from ltx2.media import read_sound, read_video, video_info
from ltx2.values import Waveform

RATE, FPS, SIDE = 24000, Fraction(24), 64


def sound_of(timing, silent=False):
    """A tone of the film's clock, so that whatever is cut, shifted or repeated is heard."""
    if silent:
        return None
    count = round((timing.sound_end - timing.start) * RATE)
    time = torch.arange(count) / RATE + float(timing.start)
    return Waveform(0.4 * torch.sin(2 * torch.pi * (200 + 40 * time) * time)[None].repeat(2, 1), RATE)


def frames_of(timing):
    """Frame n of the film has a bar at place n."""
    first = timing.first_frame - timing.video_overlap
    frames = np.full((timing.frames, SIDE, SIDE, 3), 40, np.uint8)
    for i in range(timing.frames):
        at = (first + i) % SIDE
        frames[i, :, at : at + 6] = 220
    return frames


def segments(count, frames=49, silent=False):
    """Consecutive segments and the state after each."""
    timing, made = first_segment(frames, FPS), []
    for _ in range(count):
        pictures = frames_of(timing)
        latents = torch.zeros(1, 8, timing.audio_latents, 16)
        state = capture_state(pictures, latents, timing, overlap=Overlap(9, 33), sample_rate=RATE)
        made.append((FinishedSegment(timing, [pictures], sound_of(timing, silent)), state))
        timing = condition_next(state, frames, FPS).timing
    return made


def packets(path, kind):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(**{kind: 0}) if packet.size]


@pytest.mark.parametrize("days, silent", [(1, False), (3, False), (2, True)])
def test_a_film_goes_on_as_if_it_had_been_made_at_once(tmp_path, days, silent):
    made = segments(days + 2, silent=silent)
    audio = None if silent else AudioFormat(RATE, 2)
    before = write_film(tmp_path / "before.mp4", [one for one, _ in made[:days]], audio)
    whole = write_film(tmp_path / "whole.mp4", [one for one, _ in made], audio)
    state = with_film(made[days - 1][1], SavedFilm("film/before.mp4 [output]", video_info(before).frames))
    (tmp_path / "card.png").write_bytes(attachment_bytes(state, "card"))
    state = load_attachment(tmp_path / "card.png").state
    assert film_of(state) == SavedFilm("film/before.mp4 [output]", made[days - 1][0].timing.total_frames)
    seams, notes = [], []
    writing = Writing(notes.append, report=seams.append)
    path = write_after_film(before, state, [one for one, _ in made[days:]], tmp_path / "after.mp4", writing)
    # what was there is there, packet by packet
    assert packets(path, "video")[: video_info(before).frames] == packets(before, "video") and not notes
    got, expected = read_video(path).frames, read_video(whole).frames
    assert len(got) == len(expected) == made[-1][0].timing.total_frames
    assert np.abs(np.asarray(got, np.int16) - np.asarray(expected, np.int16)).mean(axis=(1, 2, 3)).max() < 4
    assert [(seam.segment, seam.frame_difference < 12) for seam in seams] == [(days, True), (days + 1, True)]
    if silent:
        assert video_info(path).sample_rate == 0
        return
    told, meant = read_sound(path).samples.mean(0), read_sound(whole).samples.mean(0)
    assert len(told) == len(meant)
    for place in range(1000, len(told) - 2000, 1000):  # an encoder's noise alone
        assert (told[place : place + 1000] - meant[place : place + 1000]).abs().max() < 0.08


@pytest.mark.parametrize(
    "film, state, name",
    [("a.mp4", "a.png", "a.mp4"), ("films/day 1/é [2].mp4", "a.png", "films/day 1/é [2].mp4"),
     ("a.mp4", "states/a.png", "a.mp4"),
     ("films/a.mp4", "states/a.png", "a.mp4"), ("x/../a.mp4", "a.png", "a.mp4"), ("c:a.mp4", "a.png", None)],
)  # fmt: skip
def test_a_film_is_named_from_where_its_state_lies_and_found_where_both_lie(tmp_path, monkeypatch, film, state, name):
    monkeypatch.chdir(tmp_path)
    (first, kept), (second, _) = segments(2)
    for folder in ("films/day 1", "states", "x", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    write_film(tmp_path / film, [first], None)
    known, told = with_film_beside(kept, film, state)
    if name is None:
        assert known is kept and "cannot stand in a state" in told[0]
        return
    assert film_of(known) == SavedFilm(name, 49) and not told and str(tmp_path) not in str(known.metadata)
    found = film_beside(film_of(known), state)
    assert found is None if "states" in state else found.samefile(film)
    # both in one folder, wherever that is
    moved = (tmp_path / film).rename(tmp_path / "elsewhere" / (tmp_path / film).name)
    assert film_beside(film_of(known), "elsewhere/state.png").samefile(moved)
    for other in (lambda: write_film(moved, [second], None), lambda: moved.write_bytes(b"no film"), moved.unlink):
        other()  # is not taken for it
        assert film_beside(film_of(known), "elsewhere/state.png") is None


def test_another_film_than_the_one_that_was_saved_is_refused(tmp_path):
    (first, state), (second, _) = segments(2)
    film = write_film(tmp_path / "a.mp4", [first], None)
    for frames, fps, says in ((50, 24, r"a.mp4 has 49 frames, it had 50"), (49, 25, "has 24 frames per second")):
        kept = with_film(state, SavedFilm("a.mp4", frames))
        ours = {**kept.metadata["comfy_ltx2"], "fps": [fps, 1]}
        kept.metadata["comfy_ltx2"] = ours
        with pytest.raises(ContinuationError, match=says):
            write_after_film(film, kept, [second], tmp_path / "b.mp4", Writing(print))
    assert not (tmp_path / "b.mp4").exists()
    other = segments(3)[2][0]  # goes on from elsewhere
    with pytest.raises(ContinuationError, match="segment 3 begins at .* s, the one before it ends at 2.042 s: put"):
        write_after_film(film, with_film(state, SavedFilm("a.mp4", 49)), [other], tmp_path / "b.mp4", Writing(print))


def test_a_film_that_ends_otherwise_than_its_state_is_told(tmp_path):
    (first, state), (second, other) = segments(2)
    film = write_film(tmp_path / "a.mp4", [first], None)
    assert end_notes(film, state) == ()
    assert end_notes(film, other)[0].startswith("a.mp4 ends with another picture than the state: save a state with")
    (told,) = end_notes(film, replace(state, metadata={}))
    assert told.startswith("the state was made by another program") and told.endswith("cannot write behind it")
    check_goes_on(state, second.timing)
    check_goes_on(other, first.timing)  # a new scene
    with pytest.raises(ContinuationError, match="segment 2 begins at 2.042 s, the state ends at"):
        check_goes_on(other, second.timing)
    notes: list[str] = []
    list(join_segments([first, replace(second, sound=None), first], note=notes.append))
    silent = "segment 2 has no sound: silence is heard there"
    assert notes == [silent, "segment 3 goes on from nothing: it begins with a cut"]


@pytest.mark.parametrize(
    "told", [None, "a.mp4", {}, {"file": "/home/me/a.mp4", "frames": 3}, {"file": "../a.mp4", "frames": 3},
             {"file": "C:\\a.mp4", "frames": 3}, {"file": "a.mp4", "frames": "3"}, {"file": "a.mp4", "frames": 0},
             {"file": "a\nb", "frames": 1}, {"file": "x" * 500, "frames": 1}],
)  # fmt: skip
def test_what_makes_no_sense_is_no_film(told):
    state = segments(1)[0][1]
    state.metadata["comfy_ltx2"] = {**state.metadata["comfy_ltx2"], "film": told}
    assert film_of(state) is None and condition_next(state, 49).index == 1
    if isinstance(told, dict) and isinstance(told.get("frames"), int) and told["frames"]:
        with pytest.raises(ContinuationError, match="stay below a folder"):
            with_film(state, SavedFilm(told["file"], 3))
