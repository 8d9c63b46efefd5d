"""How far a story is, told from outside."""

import multiprocessing
import os

import pytest

from ltx2.errors import StoryError
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.status import DONE, RUNNING, STOPPED, WAITING, film_of_script, segment_states, story_status
from ltx2.story.takes import Wishes

from .fake import Fake
from .test_scenes import script_of

SCRIPT = script_of("a", "b, takes: 2", "|c")


def told(work):
    return [(take.segment, take.take, take.scene, take.state) for take in story_status(work).takes]


def seen_from_a_process(work, results):
    results.put((told(work), story_status(work).at_work))


def test_while_it_runs_when_it_stops_and_when_it_is_done(tmp_path):
    work, places = tmp_path / "work", {"work": tmp_path / "work", "out": tmp_path / "film.mp4"}
    before = {}
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")

    class Stops(Fake):
        def __call__(self, task):
            if task.index == 2:
                results = context.Queue()
                process = context.Process(target=seen_from_a_process, args=(work, results))
                process.start()
                before["running"] = results.get(timeout=60)
                process.join()
                raise KeyboardInterrupt
            return super().__call__(task)

    with pytest.raises(KeyboardInterrupt):
        run_story(SCRIPT, Stops(), **places)
    half = [(1, 1, 1, DONE), (2, 1, 1, DONE), (2, 2, 1, DONE)]
    assert before["running"] == ([*half, (3, 1, 2, RUNNING)], True)
    status = story_status(work)
    assert told(work) == [*half, (3, 1, 2, STOPPED)] and not status.at_work and not status.film_done
    run_story(SCRIPT, Fake(), **places)
    status = story_status(work)
    assert told(work) == [*half, (3, 1, 2, DONE)] and status.film_done
    run_story(SCRIPT, Fake(), **places)
    assert told(work) == [*half, (3, 1, 2, DONE)] and story_status(work).film_done
    run_story(script_of("a", "b, takes: 2", "|c", "d"), Stops.__bases__[0](), **places)
    assert story_status(work).count(DONE) == 5
    lines = str(status).splitlines()
    assert lines[1] == "scene 1, segment 2: done, b" and lines[2].startswith("scene 1, segment 2 take 2: done")
    assert lines[-1] == f"4 done; film {tmp_path / 'film.mp4'} written; no run"


def test_what_comes_is_waiting_and_picks_are_named(tmp_path):
    def stops(task):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_story(SCRIPT, stops, work=tmp_path, out=tmp_path / "f.mp4", options=RunOptions(Wishes(picks={1: 2})))
    status = story_status(tmp_path)
    assert [take.state for take in status.takes] == [STOPPED, WAITING, WAITING, WAITING]
    assert [take.kept for take in status.takes] == [True, False, True, True]
    assert "segment 2 take 2 (kept): waiting" in str(status) and "1 stopped, 3 waiting" in str(status)


def test_a_look_leaves_nothing_behind(tmp_path):
    run_story(SCRIPT, Fake(), work=tmp_path / "work", out=tmp_path / "f.mp4")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    story_status(tmp_path / "work")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before
    for empty in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(StoryError, match="holds no story"):
            story_status(empty)
    assert not (tmp_path / "nothing").exists()


def test_what_of_a_script_stands_and_what_will_be_made_anew(tmp_path):
    """Of a script as it is now: nothing is made, or read but the journal."""
    places = {"work": tmp_path / "work", "out": tmp_path / "work/film.mp4", "options": RunOptions(numbered=True)}

    def states(script):
        return [one.state for one in segment_states(script, tmp_path / "work")]

    asked = ["a", "b", "c", "|d"]
    first = script_of(*asked)
    assert states(first) == ["waiting"] * 4 and film_of_script(first, tmp_path / "work") is None
    run_story(first, Fake(), **places)
    assert states(first) == ["made"] * 4 and film_of_script(first, tmp_path / "work") == "film.mp4"
    # what goes on from a changed segment changes with it, up to the next cut
    for change, expected in {
        "a, frames: 33": ["changed", "changed", "changed", "made"],
        "b, strength: 0.5": ["made", "changed", "changed", "made"],
        "|d, seed: 5": ["made", "made", "made", "waiting"],  # another segment, by its prompt and seed
    }.items():
        (at,) = (index for index, one in enumerate(asked) if one == change.partition(",")[0])
        other = script_of(*asked[:at], change, *asked[at + 1 :])
        assert states(other) == expected and film_of_script(other, tmp_path / "work") is None
    other = script_of("a", "b", "c, frames: 33", "|d")
    run_story(other, Fake(), **places)
    assert states(other) == ["kept", "kept", "made", "kept"]
    assert [film_of_script(one, tmp_path / "work") for one in (other, first)] == ["film_00002.mp4", "film.mp4"]
    assert states(first) == ["kept"] * 4 and states(script_of(*asked[1:])) == ["changed", "changed", "changed"]
    (tmp_path / "work/film.mp4").unlink()
    assert film_of_script(first, tmp_path / "work") is None
