"""One track over a film of several segments, through the road of command line and nodes."""

from dataclasses import replace

import pytest
import torch

from ltx2.stages.pipeline import generate
from ltx2.stages.request import Request
from ltx2.story.segment_job import segment_job, state_after
from ltx2.values import Waveform

pytestmark = pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
ONE_STEP = {"denoise": {"num_inference_steps": 1}}


def test_each_segment_hears_its_piece_on_the_films_clock(models):
    loaded = models("2.3")
    track = Waveform(torch.rand(2, 48000 * 3, generator=torch.Generator().manual_seed(1)) - 0.5, 48000)
    request = Request(
        prompt="a lake",
        preset="ltx2_distilled",
        width=64,
        height=64,
        frames=17,
        seed=1,
        audio=track,
        overrides=ONE_STEP,
    )
    state, start = None, 0
    for _ in range(3):
        made = segment_job(loaded, request if state is None else replace(request, seed=None), state)
        segment = generate(loaded, made.job)
        first = round(start / 24 * 48000)
        assert torch.equal(segment.sound.samples, track.samples[:, first : first + round(17 / 24 * 48000)])
        frames = torch.cat([torch.from_numpy(piece) for piece in segment.frames()])
        state = state_after(made, segment, frames.numpy())
        start += 17 - 9  # nine frames are repeated
    notes = segment_job(loaded, request).job.notes
    assert any("2.29 s of sound after the last frame are left out" in note for note in notes)
    # a track that ends before the film does is told in each segment that has silence
    short = replace(request, audio=replace(track, samples=track.samples[:, :30000]))
    assert any("ends 0.08 s before the last frame" in note for note in segment_job(loaded, short).job.notes)
    assert any("ends 1.08 s before the last frame" in note for note in segment_job(loaded, short, state).job.notes)
