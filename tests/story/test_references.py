"""``reference:`` and ``voice:`` of a script: a control film runs along with the film, a voice is heard all along,
and what they hold decides a segment."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.errors import StoryError
from ltx2.media import write_video, write_wav
from ltx2.story.chain import run_story
from ltx2.story.from_pipeline import request_of
from ltx2.story.script import parse_script
from ltx2.values import Waveform

from .fake import Fake, frame, number_of


@pytest.fixture
def control(tmp_path):
    """Frame n shows n."""
    path = tmp_path / "control.mp4"
    write_video(path, np.stack([frame(n) for n in range(80)]), fps=24)
    return path


def script_of(folder, *segments, head="reference: control.mp4\n"):
    text = head + "overlap: {video: 9, audio: 15}\ndefaults: {frames: 25}\nsegments:\n"
    return parse_script(text + "".join(f"  - {{{one}}}\n" for one in segments), folder / "script.yaml")


def told(script, folder):
    fake = Fake(script.fps)
    run_story(script, fake, work=folder / "work", out=folder / "film.mp4")
    return fake.tasks


def test_a_control_film_runs_along(control, tmp_path):
    tasks = told(script_of(tmp_path, "prompt: a", "prompt: b", "prompt: c, cut: true"), tmp_path)
    assert [task.reference_start for task in tasks] == [0, Fraction(16, 24), Fraction(41, 24)]
    for task in tasks:
        (shown,) = request_of(task).references
        numbers = [number_of(picture) for picture in shown.frames]
        first = int(task.reference_start * 24)
        assert numbers == list(range(first, first + 25))
        if task.clip is not None:  # the very frames that the film shows there
            assert [number_of(picture) for picture in task.clip.frames] == numbers[:9]


def test_what_changes_in_a_reference_is_made_again(control, tmp_path):
    segments = ("prompt: a", "prompt: b, reference: {file: control.mp4, strength: 0.5, attention: 0.7}", "prompt: c")
    assert [task.index for task in told(script_of(tmp_path, *segments, head=""), tmp_path)] == [0, 1, 2]
    assert not told(script_of(tmp_path, *segments, head=""), tmp_path)
    weaker = (segments[0], segments[1].replace("0.5", "0.4"), segments[2])
    assert [task.index for task in told(script_of(tmp_path, *weaker, head=""), tmp_path)] == [1]
    write_video(control, np.stack([frame(n + 1) for n in range(80)]), fps=24)
    assert [task.index for task in told(script_of(tmp_path, *weaker, head=""), tmp_path)] == [1]
    tasks = told(script_of(tmp_path, "prompt: a, reference: no", "prompt: z"), tmp_path)
    assert [(task.index, len(task.references)) for task in tasks] == [(1, 1)]


def test_what_is_wrong_names_its_line(control, tmp_path):
    for entry, said in (
        ("reference: none.mp4", "line 4.*the reference 'none.mp4' is not there: check its name"),
        ("reference: {file: control.mp4, mask: m.png}", "the mask 'm.png' is not there"),
        ("reference: {file: control.mp4, stages: second}", "stages is 'second', expected first or both"),
        ("reference: {file: control.mp4, strength: 2}", "line 4"),
        ("reference: [[control.mp4]]", "a list in a list"),
        ("reference: {strength: 1}", "no file"),
        ("voice: none.wav", "the voice 'none.wav' is not there"),
        ("voice: {identity: 2}", "the voice has no file"),
        ("voice: {file: control.mp4, identity: 30}", "expected 0 .off. to 20"),
    ):
        with pytest.raises(StoryError, match=said):
            script_of(tmp_path, f"prompt: a, {entry}", head="")


def test_a_voice_is_heard_by_every_segment(control, tmp_path):
    write_wav(tmp_path / "maria.wav", Waveform(torch.full((1, 32_000), 0.25), 16_000))
    segments = ("prompt: a", "prompt: b, voice: {file: maria.wav, identity: 1.5}", "prompt: c, voice: no")
    tasks = told(script_of(tmp_path, *segments, head="voice: maria.wav\n"), tmp_path)
    voices = [request_of(task).voice for task in tasks]
    assert [None if one is None else one.identity for one in voices] == [3.0, 1.5, None]
    assert voices[0].sound.seconds == 2
    assert not told(script_of(tmp_path, *segments, head="voice: maria.wav\n"), tmp_path)
    other = (segments[0], segments[1].replace("1.5", "2"), segments[2])
    assert [task.index for task in told(script_of(tmp_path, *other, head="voice: maria.wav\n"), tmp_path)] == [1]
    write_wav(tmp_path / "maria.wav", Waveform(torch.full((1, 48_000), 0.25), 16_000))
    assert [task.index for task in told(script_of(tmp_path, *other, head="voice: maria.wav\n"), tmp_path)] == [0, 1]
