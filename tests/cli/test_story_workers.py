"""``ltx2 story --workers``: the same film as one process makes, whoever dies meanwhile; what a scene is held
to goes with its tasks."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ltx2.cli import main
from ltx2.story.status import story_status

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
  - It rests.
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


def test_workers_make_the_same_film_though_they_and_their_driver_are_killed(story, one_process):
    arguments, folder = story("many", "--workers", "2")
    command = [sys.executable, "-m", "ltx2", *arguments]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
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
    driver.stderr.close()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (folder / "film.mp4").read_bytes() == one_process
    assert not [name for name in os.listdir(folder / "work") if name.startswith(".ltx2")]
    deadline = time.monotonic() + 60
    while workers_of(folder) and time.monotonic() < deadline:  # those of the killed driver end when they look for work
        time.sleep(0.1)
    assert not workers_of(folder)


def workers_of(folder):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")) if os.path.isdir("/proc") else ():
        try:
            with open(f"/proc/{pid}/cmdline") as file, open(f"/proc/{pid}/environ") as environment:
                if "story_workers" in file.read() and str(folder) in environment.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_what_cannot_be_is_said_before_anything_is_loaded(story, capsys):
    for more, said in (
        (("--workers", "0"), "0 workers, expected 1 to"),
        (("--workers", "2", "--gpus", "2"), "give one of them"),
    ):
        assert main(story("none", *more)[0]) != 0 and said in capsys.readouterr().err
