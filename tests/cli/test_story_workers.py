"""``ltx2 story --workers``: the same film as one process makes, whoever dies meanwhile; what a scene is held
to goes with its tasks."""

import argparse
import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import Future

import numpy as np
import pytest

from ltx2.cli import main, story_workers
from ltx2.cli import story as story_verb
from ltx2.errors import StoryError
from ltx2.parallel import pool
from ltx2.parallel.pool import TaskFailed
from ltx2.story.script import parse_script
from ltx2.story.status import story_status
from ltx2.story.tasks import task_of

from ..parallel.processes import Forked, forking

pytestmark = pytest.mark.slow
SCRIPT = """size: 64x64
defaults: {frames: 17}
overlap: {video: 9, audio: 15}
drift: {colour: 0.5, contrast: 0.5, loudness: 0.5, latent: 0.4, anchor: 0.5}
segments:
  - A red ball jumps up and down over the sea.
  - {prompt: It circles around., takes: 2}
  - {prompt: A blue star rolls from side to side at night., cut: true}
  - It jumps up and down.
"""


@pytest.fixture
def story(tmp_path):
    (tmp_path / "story.yaml").write_text(SCRIPT)

    def arguments(name, *more):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        fixed = ("--checkpoint", "mini", "--device", "cpu", "--work", folder / "work", "--out", folder / "film.mp4")
        return ["story", *map(str, (tmp_path / "story.yaml", *fixed, *more))], folder

    return arguments


@pytest.fixture
def one_process(story):
    arguments, folder = story("one")
    assert main(arguments) == 0
    return (folder / "film.mp4").read_bytes()


def test_workers_make_the_same_film_though_they_and_their_driver_are_killed(story, one_process, monkeypatch):
    monkeypatch.setattr(pool, "subprocess", forking())
    arguments, folder = story("many", "--workers", "2")
    driver = Forked([sys.executable, "-m", "ltx2", *arguments], stderr=subprocess.PIPE, text=True)
    begun = []
    for line in driver.stderr:  # a worker is killed as soon as it begins, the driver when the next one begins
        if ": on worker" in line:
            begun.append(line)
            if len(begun) == 2:
                break
            os.kill(int(line.rsplit("process ", 1)[1]), signal.SIGKILL)
    told = story_status(folder / "work")
    assert told.at_work and any("worker" in take.where for take in told.takes if take.state == "running")
    driver.kill()
    driver.wait()
    assert main(arguments) == 0
    assert (folder / "film.mp4").read_bytes() == one_process
    assert not [name for name in os.listdir(folder / "work") if name.startswith(".ltx2")]
    # the workers of the killed driver have its standard error too: they end by themselves, which closes it
    driver.communicate(timeout=60)


def test_a_disk_that_takes_no_frames_is_told_and_given_its_room_back(tmp_path):
    def frames():
        yield np.zeros((2, 4, 4, 3), np.uint8)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoryError, match="^frames cannot be left in .*: No space left on device$"):
        story_workers._left(frames(), tmp_path)
    assert not os.listdir(tmp_path)


class InThisProcess:
    """A pool with one worker, here."""

    def __init__(self, setup):
        self.make = story_workers.set_up(setup)

    def submit(self, task, begun):
        begun("here")
        done = Future()
        done.set_result(self.make(task))
        return done


def parsed(*more):
    parser = argparse.ArgumentParser()
    story_verb.add_parser(parser.add_subparsers())
    return parser.parse_args(["story", "s", "--device", "cpu", "--work", "w", "--out", "f.mp4", *more])


def test_a_worker_that_is_a_program_of_its_own_says_what_it_cannot_load(tmp_path):
    """Started as it is for users; the workers that are killed here are forked."""
    workers = story_workers.local_pool(parsed("--checkpoint", "nowhere.safetensors", "--workers", "1"), tmp_path)
    with pytest.raises(TaskFailed, match="nowhere.safetensors"):
        workers.submit(b"0" * 64).result(120)
    workers.close()


def test_with_a_folder_and_without_the_same_comes_back(tmp_path):
    """What a worker makes is what one process makes, whether its files go through a folder or with the rest."""
    script, args, made = parse_script(SCRIPT), parsed("--checkpoint", "mini"), []
    for exchange in (None, tmp_path):
        worker = InThisProcess(story_workers._setup(args, exchange))
        segment = story_workers.WorkerGenerator(worker, exchange)(task_of(script, 0))
        made.append(np.concatenate(list(segment.frames)))
        assert segment.sound is not None and not list(tmp_path.iterdir())
    assert made[0].shape == (17, 64, 64, 3) and np.array_equal(*made)
    with pytest.raises(StoryError, match="does not see the requests in"):
        worker.make(b"0" * 64)
    (tmp_path / ("0" * 64)).write_bytes(b"changed")
    with pytest.raises(StoryError, match="a request came damaged"):
        worker.make(b"0" * 64)


def test_what_cannot_be_is_said_before_anything_is_loaded(story, capsys):
    for more, said in (
        (("--shared", "."), "--shared is the folder of a Ray cluster"),
        (("--ray", "--shared", "nowhere"), "the shared folder nowhere is not there"),
        (("--workers", "0"), "0 workers, expected 1 to"),
        (("--workers", "2", "--gpus", "2"), "give one of them"),
    ):
        assert main(story("none", *more)[0]) != 0 and said in capsys.readouterr().err
