"""``start:`` of a script: a film that was found, with a story behind it."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.errors import StoryError
from ltx2.film.found import state_of_found_film
from ltx2.media import read_found_film, read_video, write_video
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.script import parse_script
from ltx2.story.script.editing import set_entries
from ltx2.story.takes import Redo, Wishes, bridged
from ltx2.values import Waveform

from .fake import RATE, Fake, endless_sound, frame, number_of

HAVE = 54  # frames of the found film, of which the last ends where an audio latent of the generator does


class Start:
    """What a model would have read of the film: its frames show their numbers, its latents theirs."""

    def __init__(self, script):
        self.film = read_found_film(script.start.path, frames=script.start.context, fps=script.fps, size=(32, 32))
        first = int(self.film.end_seconds * 25 + Fraction(3, 4)) - self.film.audio_latents
        count = self.film.audio_latents
        latents = torch.arange(first, first + count).float().reshape(1, 1, -1, 1).repeat(1, 8, 1, 16)
        self.state = state_of_found_film(self.film, latents if self.film.sound is not None else None)


@pytest.fixture
def found(tmp_path):
    def make(name="found.mp4", frames=HAVE, sound=True, fps=24):
        track = Waveform(endless_sound(0, frames * RATE // fps), RATE) if sound else None
        write_video(tmp_path / name, np.stack([frame(n) for n in range(frames)]), fps=fps, sound=track)
        return tmp_path / name

    return make


@pytest.fixture
def tell(tmp_path):
    def run(script, *redo, **options):
        fake = Fake(script.fps)
        given = RunOptions(Wishes(redo), start=Start(script), **options)
        result = run_story(script, fake, work=tmp_path / "work", out=tmp_path / "film.mp4", options=given)
        return result, fake.tasks

    return run


def script_of(folder, *segments, head="start: {file: found.mp4, context: 17}\n"):
    text = f"{head}overlap: {{video: 9, audio: 15}}\ndefaults: {{frames: 49}}\nsegments:\n"
    return parse_script(text + "".join(f"  - {{{one}}}\n" for one in segments), folder / "script.yaml")


@pytest.mark.parametrize("sound", [True, False])
def test_the_film_stays_and_the_story_goes_on_from_its_end(found, tell, tmp_path, sound):
    source = found(sound=sound)
    script = script_of(tmp_path, "prompt: a", "prompt: b", "prompt: c, cut: true")
    assert script.fps == 24 and script.start.context == 17 and script.total_frames == 32 + 40 + 49
    result, tasks = tell(script)
    assert [number_of(one) for one in tasks[0].clip.frames] == [*range(HAVE - 17, HAVE)]
    film, own = read_video(result.film), read_video(source)
    assert np.array_equal(film.frames[:HAVE], own.frames)  # bit for bit
    assert [number_of(one) for one in film.frames] == [*range(HAVE + 32 + 40), *range(49)]
    assert [seam.segment for seam in result.seams] == [0, 1, 2]
    assert [seam.frame for seam in result.seams] == [HAVE, HAVE + 32, HAVE + 72]
    # picture and sound end together, to the sample
    assert film.sound.samples.shape[1] == round(len(film.frames) / 24 * RATE)
    if not sound:
        return
    begin, end = RATE, 3 * RATE  # the seam lies at 2.25 s
    assert (film.sound.samples[:, begin:end] - endless_sound(0, end)[:, begin:]).abs().max() < 0.02
    result, tasks = tell(script)
    assert tasks == [] and not result.written
    # another film begins another story, and one of its segments can be a bridge
    tasks = tell(script, *bridged([Redo(0, 5)]))[1]
    assert [task.index for task in tasks] == [0] and len(tasks[0].clip.frames) == 17 and tasks[0].end is not None
    found(sound=sound, frames=HAVE + 8)
    assert [task.index for task in tell(script)[1]] == [0, 1]


def test_rate_and_context_are_as_the_script_says(found, tell, tmp_path):
    found(fps=30)
    script = script_of(tmp_path, "prompt: a", head="start: {file: found.mp4, context: 9}\n")
    assert script.fps == 30 and script.start.context == 9 and tell(script)[1][0].fps == Fraction(30)
    slower = script_of(tmp_path, "prompt: a", head="start: found.mp4\nfps: 24\n")
    assert slower.fps == 24 and slower.start.frames_at(slower.fps) == HAVE * 24 // 30


def test_a_script_that_goes_on_from_a_film_is_edited_without_it():
    text = "start: {file: nowhere.mp4, context: 25}\nfps: 12\nsegments:\n  - a lake\n"
    assert "nowhere.mp4, context: 25" in set_entries(text, 0, {"prompt": "a hill"})


@pytest.mark.parametrize(
    ("head", "segment", "told"),
    [
        ("start: missing.mp4\n", "prompt: a", "the film 'missing.mp4' is not there"),
        ("start: short.mp4\n", "prompt: a", "short.mp4 has 8 frames, going on from it needs 9"),
        ("start: {file: found.mp4, context: 65}\n", "prompt: a", "found.mp4 has 54 frames, going on from it needs 65"),
        ("start: {file: found.mp4, context: 10}\n", "prompt: a", "context is 10, expected 8k"),
        ("start: heard.wav\n", "prompt: a", "line 1, column 8"),
        ("start: found.mp4\n", "prompt: a, cut: true", "leave cut out"),
        ("start: {file: found.mp4, context: 49}\n", "prompt: a", "49 frames, 49 of which repeat the film"),
        ("start: found.mp4\naudio: heard.wav\n", "prompt: a", "leave audio out"),
    ],
)
def test_what_cannot_be_gone_on_from_is_told_with_its_place(found, tmp_path, head, segment, told):
    from ltx2.media import write_wav

    found(), found("short.mp4", frames=8)
    write_wav(tmp_path / "heard.wav", Waveform(endless_sound(0, RATE), RATE))
    with pytest.raises(StoryError, match=told.replace("{", "\\{")) as refused:
        script_of(tmp_path, segment, head=head)
    assert "script.yaml, line" in str(refused.value) and len(str(refused.value)) <= 300
