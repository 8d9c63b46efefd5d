"""Scenes and takes made at the same time: the same film, whatever goes wrong meanwhile."""

import threading

import pytest

from ltx2.errors import RequestError
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.status import story_status
from ltx2.story.tasks import Elsewhere

from .fake import Fake
from .test_scenes import script_of

SEGMENTS = ("a", "b", "|c", "d", "|e, takes: 3", "f", "|a, seed: 10", "|c, seed: 12")


class Crowd(Fake):
    """Tells who works, and fails where it is told to; scenes have to be at work together."""

    def __init__(self, fps, together=1, broken=()):
        super().__init__(fps)
        self.tell, self.broken, self.meeting = lambda task, where: None, broken, threading.Barrier(together)
        self.lock = threading.Lock()

    def __call__(self, task):
        self.tell(task, f"worker of {task.index}")
        if task.prompt in self.broken:
            raise RequestError(f"{task.prompt} cannot be made")
        if task.clip is None and self.meeting.parties > 1 and task.prompt in ("a", "c", "e"):
            self.meeting.wait(timeout=30)
            self.meeting = threading.Barrier(1)
        with self.lock:
            return super().__call__(task)


def film_of(folder, script, fake=None, log=None, **options):
    run_story(
        script,
        fake or Crowd(script.fps),
        work=folder / "work",
        out=folder / "film.mp4",
        options=RunOptions(**options),
        log=log,
    )
    return (folder / "film.mp4").read_bytes()


def test_scenes_are_made_together_and_the_film_is_the_same(tmp_path):
    script = script_of(*SEGMENTS)
    (tmp_path / "one").mkdir(), (tmp_path / "many").mkdir()
    expected = film_of(tmp_path / "one", script)
    fake = Crowd(script.fps, together=3)
    assert isinstance(fake, Elsewhere)
    lines = []
    assert film_of(tmp_path / "many", script, fake, lines.append, jobs=3) == expected
    assert [line for line in lines if line.endswith("of 10 done")] == [f"{n} of 10 done" for n in range(1, 11)]
    # the last two scenes are the first segments again, which are made once
    assert sorted(fake.calls) == [0, 1, 2, 3, 4, 4, 4, 5]
    told = story_status(tmp_path / "many/work")
    assert told.count("done") == len(told.takes) == 10
    assert {take.where for take in told.takes if take.segment <= 6} >= {f"worker of {i}" for i in range(6)}


def test_a_scene_that_cannot_be_made_costs_no_other_one(tmp_path):
    script = script_of(*SEGMENTS)
    (tmp_path / "one").mkdir(), (tmp_path / "many").mkdir()
    expected = film_of(tmp_path / "one", script)
    broken = Crowd(script.fps, broken=("d",))
    with pytest.raises(RequestError, match="^d cannot be made$"):
        film_of(tmp_path / "many", script, broken, jobs=3)
    assert sorted(broken.calls) == [0, 1, 2, 4, 4, 4, 5] and not (tmp_path / "many/film.mp4").exists()
    mended = Crowd(script.fps)
    assert film_of(tmp_path / "many", script, mended, jobs=3) == expected and mended.calls == [3]
