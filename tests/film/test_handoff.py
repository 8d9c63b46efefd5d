"""States made and taken up in one place: what fits, what is refused, what is brought to fit and told."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.errors import ContinuationError, Ltx2Warning, RequestError
from ltx2.film import (
    Handoff,
    LastFrames,
    Overlap,
    Source,
    capture_state,
    condition_next,
    continue_request,
    first_segment,
    next_segment,
)
from ltx2.film.handoff import fps_after, open_request, overlap_of, source_of_state
from ltx2.film.provenance import read_provenance
from ltx2.film.sizes import size_after
from ltx2.film.timeline import check_carried
from ltx2.stages.request import Request
from ltx2.values import ClipCondition, ImageCondition, Waveform


def state_of(frames=33, fps=24, size=(96, 64), overlap=Overlap(9, 17), **keywords):  # noqa: B008 (frozen)
    timing = first_segment(frames, Fraction(fps))
    pictures = np.zeros((frames, size[1], size[0], 3), np.uint8)
    return capture_state(pictures, torch.zeros(1, 8, timing.audio_latents, 16), timing, overlap=overlap, **keywords)


def written_by_0_1_0(model: str):
    """A state as version 0.1.0 wrote it: the command line named the release, the nodes the file."""
    state = state_of()
    ours = {key: value for key, value in state.metadata["comfy_ltx2"].items() if key != "file"}
    return dataclasses.replace(state, metadata={"comfy_ltx2": {**ours, "model": model}})


def test_a_state_says_release_and_file():
    state = state_of(source=Source("LTX-2.3", "ltx-2.3-22b-dev"))
    ours = state.metadata["comfy_ltx2"]
    assert (ours["model"], ours["file"]) == ("LTX-2.3", "ltx-2.3-22b-dev")
    assert source_of_state(state) == Source("LTX-2.3", "ltx-2.3-22b-dev")
    assert {"model", "file"}.isdisjoint(state_of().metadata["comfy_ltx2"])


def test_the_clocks_of_a_segment_come_back_from_its_state():
    first = first_segment(41, Fraction(24))
    timing = next_segment(first, 33, end_offset=8)
    pictures = np.zeros((33, 64, 96, 3), np.uint8)
    state = capture_state(pictures, torch.zeros(1, 8, timing.audio_latents, 16), timing, overlap=Overlap(9, 17))
    read = read_provenance(state.metadata, 1)
    kept = ("index", "frames", "fps", "audio_latents", "video_offset_seconds", "start", "end_offset", "total_frames")
    assert [getattr(read.timing, name) for name in kept] == [getattr(timing, name) for name in kept]
    assert (read.width, read.height, read.overlap) == (96, 64, Overlap(9, 17))
    least = {"fps", "num_frames", "audio_latent_frames", "segment_video_offset_sec"}
    ours = {name: value for name, value in state.metadata["comfy_ltx2"].items() if name in least}
    assert read_provenance({"comfy_ltx2": ours}, 1).timing.frames == 33
    for name in least:
        assert read_provenance({"comfy_ltx2": {key: ours[key] for key in least - {name}}}, 1) is None


@pytest.mark.parametrize(
    "model, source",
    [
        ("LTX-2.3", Source("LTX-2.3", "")),
        ("ltx-2.3-22b-dev", Source("", "ltx-2.3-22b-dev")),
        ("LTX-2.3-dev", Source("", "LTX-2.3-dev")),
        ("", Source()),
    ],
)
def test_states_of_0_1_0_are_read_in_either_way(model, source):
    state = written_by_0_1_0(model)
    assert read_provenance(state.metadata, 0).source == source
    condition_next(state, 33, source=Source("LTX-2.3", source.file))
    if source.release:
        with pytest.raises(ContinuationError, match="comes from LTX-2.3, the next segment is made with LTX-2.0"):
            condition_next(state, 33, source=Source("LTX-2.0"))


def test_another_file_of_the_same_release_is_told_and_fits():
    state = state_of(source=Source("LTX-2.3", "dev"))
    with pytest.warns(Ltx2Warning, match="made with dev, this segment is made with distilled"):
        following = condition_next(state, 33, source=Source("LTX-2.3", "distilled"))
    assert len(following.notes) == 1
    assert not condition_next(state, 33, source=Source("LTX-2.3", "dev")).notes
    assert not condition_next(state, 33).notes and not condition_next(state_of(), 33, source=Source("LTX-2.0")).notes


def test_what_a_request_leaves_open_is_as_the_state_says():
    state = state_of(33, 25)
    opened = open_request(Request(prompt="a"), state)
    assert (opened.frames, opened.fps, opened.width, opened.height) == (33, 25, 96, 64)
    said = open_request(Request(seconds=2, fps=24, width=64, height=64), state)
    assert (said.frames, said.seconds, said.fps, said.width) == (None, 2, 24, 64)
    assert fps_after(state) == fps_after(state, 0) == 25 and fps_after(None) == 24 and fps_after(state, 30) == 30
    assert overlap_of(state) == Overlap(9, 17) and overlap_of(None) == Overlap()


@pytest.mark.parametrize("size, grid", [((1280, 720), (1280, 704)), ((1920, 1080), (1920, 1088)), ((96, 64), (96, 64))])
def test_sizes_off_the_grid_are_brought_to_it_and_told(size, grid):
    state = state_of(17, size=size)
    assert size_after(state) == grid
    if size == grid:
        assert not condition_next(state, 17, size=grid).notes
    else:
        with pytest.warns(Ltx2Warning, match=f"{size[0]}x{size[1]} px were brought to {grid[0]}x{grid[1]}"):
            condition_next(state, 17, size=grid)
    with pytest.raises(ContinuationError, match="use the same size"):
        condition_next(state, 17, size=(grid[0] + 64, grid[1]))


def request(**fields):
    return Request(**{"prompt": "a", "width": 96, "height": 64, "frames": 33, "fps": 24, **fields})


def test_a_request_goes_on_from_a_state():
    state = state_of(seed=5)
    continued, following = continue_request(request(), state)
    assert continued.clips == (following.clip,) and continued.audio is following.audio and continued.seed == 6
    assert continued.audio_latents == following.timing.audio_latents
    assert continued.video_offset_seconds == following.timing.video_offset_seconds > 0
    own = ClipCondition(np.zeros((9, 64, 96, 3), np.uint8), frame=17)
    continued, _ = continue_request(request(seed=3, clips=(own,)), state, Handoff(seed=100))
    assert continued.seed == 3 and continued.clips[1] is own


def test_a_track_of_ones_own_begins_with_the_picture():
    own = Waveform(torch.ones(2, 100), 24000)
    continued, following = continue_request(request(audio=own), state_of())
    assert continued.audio is own and following.audio is None and continued.video_offset_seconds == 0
    silent, following = continue_request(request(audio_latents=0), state_of())
    assert silent.audio is None and silent.audio_latents == following.timing.audio_latents == 0


@pytest.mark.parametrize(
    "conditions", [{"images": (ImageCondition(None, 8),)}, {"clips": (ClipCondition(np.zeros((9, 8, 8, 3)), 0),)}]
)
def test_what_the_state_would_cover_is_refused(conditions):
    with pytest.raises(RequestError, match="frames 0 to 8 come from the state: give the (image|clip) a later frame"):
        continue_request(request(**conditions), state_of())


def test_the_last_frames_are_kept_while_all_go_by():
    chunks = [np.full((3, 2, 2, 3), i, np.uint8) for i in range(3)]
    last = LastFrames(4)
    assert np.array_equal(np.concatenate(list(last.watch(chunks))), np.concatenate(chunks))
    assert last.frames[:, 0, 0, 0].tolist() == [1, 2, 2, 2]
    decoded = [torch.zeros(1, 3, 5, 2, 2)]  # as the video decoders give it
    assert [len(chunk) for chunk in LastFrames(9).watch(decoded)] == [5]
    assert len(list(LastFrames(0).watch(chunks))) == 3


@pytest.mark.parametrize(
    "overlap, words",
    [
        (Overlap(10), r"10 frames, expected 8k\+1: use 9 or 17"),
        (Overlap(41), "41 frames but the segment has 33"),
        (Overlap(9, -1), "audio overlap is -1"),
    ],
)
def test_what_a_segment_cannot_leave_is_known_before_it_is_made(overlap, words):
    with pytest.raises(RequestError, match=words):
        check_carried(first_segment(33, Fraction(24)), overlap)
    with pytest.raises(RequestError, match=words):
        state_of(overlap=overlap)
    check_carried(first_segment(33, Fraction(24)), Overlap(33, 0))
