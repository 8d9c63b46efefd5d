"""``--bridge``: a segment of a finished story made anew between its neighbours, which stay."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from ltx2.errors import StoryError
from ltx2.media import read_video
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.segment_files import StoredFrames, read_state
from ltx2.story.status import story_status
from ltx2.story.takes import Redo, Wishes, bridged, take_seed

from .fake import Fake, number_of
from .test_scenes import script_of

SCRIPT = script_of("a", "b", "c", "d")


@pytest.fixture
def tell(tmp_path):
    """Runs a script in one work folder; gives what was made, the result, the tasks, and what was told."""

    def run(script=SCRIPT, *redo, bridge=True, fail=None, **options):
        fake, lines = Fake(script.fps), []

        def make(task):
            if task.index == fail:
                raise RuntimeError("killed")
            return fake(task)

        wishes = Wishes(bridged(redo) if bridge and redo else redo, options.pop("picks", {}))
        result = run_story(
            script,
            make,
            work=tmp_path / "work",
            out=tmp_path / "film.mp4",
            options=RunOptions(wishes, **options),
            log=lines.append,
        )
        return [(task.index, task.seed) for task in fake.tasks], result, fake.tasks, lines

    return run


def segments(folder):
    """The bytes of all files of all finished segments."""
    return {path: path.read_bytes() for path in sorted((folder / "work/segments").rglob("*")) if path.is_file()}


def frames_of(folder, index):
    """Frames of the newest folder of a segment."""
    newest = max((folder / "work/segments").glob(f"{index + 1:04d}-*"), key=lambda path: path.stat().st_mtime_ns)
    return newest, np.concatenate(list(StoredFrames(newest)))


def test_a_segment_is_made_between_its_neighbours_and_they_stay(tell, tmp_path):
    tell()
    before = segments(tmp_path)
    made, result, (task,), lines = tell(SCRIPT, Redo(1, "new"))
    assert made == [(1, take_seed(11, 2))] and result.made == (1,) and result.kept == (0, 2, 3)
    assert any("segments 3 to 4 stay as they are" in line for line in lines)
    after = segments(tmp_path)
    assert before.items() <= after.items()  # not a byte of what was there is another
    # its end are the frames that segment 3 repeats of it, in place on its own grid, and their sound
    (_, third), (folder, own) = frames_of(tmp_path, 2), frames_of(tmp_path, 1)
    assert task.end.frame % 8 == 1 and len(task.end.frames) == 8 and np.array_equal(task.end.frames, third[1:9])
    assert np.array_equal(own[-8:], third[1:9]) and np.array_equal(own[:9], frames_of(tmp_path, 0)[1][-9:])
    left = read_state(min((tmp_path / "work/segments").glob("0002-*"), key=lambda path: path.stat().st_mtime_ns))
    kept = int((task.audio.mask.flip(0) != 0).int().argmax())
    assert 4 <= kept < 12 and np.array_equal(task.audio.latent[:, :, -kept:], left.audio_latents[:, :, -kept:])
    assert read_state(folder).segment_index == 1
    # the film has as many frames, in order, and another middle
    assert [number_of(frame) for frame in read_video(result.film).frames] == [*range(25 + 3 * 16)]
    assert result.written and len(result.seams) == 3
    # and stays so: a later run makes nothing, nor does one that removes what is not asked for
    for options in ({}, {"prune": True}):
        made, result, _, _ = tell(**options)
        assert made == [] and not result.written and result.unused.segments == 0
    assert story_status(tmp_path / "work").count("done") == 4


def test_the_same_bridge_comes_out_as_it_was_and_another_take_ends_it(tell, tmp_path):
    tell()
    assert tell(SCRIPT, Redo(1, 7))[0] == [(1, 7)]
    once = segments(tmp_path)
    made, _, _, lines = tell(SCRIPT, Redo(1))
    assert made == [(1, 7)] and segments(tmp_path) == once and any("came out as it was" in line for line in lines)
    made, result, _, _ = tell(SCRIPT, Redo(1), bridge=False)  # as it is, without a bridge
    assert made == [(1, 11)] and result.written and segments(tmp_path) == once
    assert tell()[0] == []
    # a bridge in front of a bridge: what is behind stays every time
    for index in (2, 1):
        assert [one for one, _ in tell(SCRIPT, Redo(index, "new"))[0]] == [index]
    assert tell(SCRIPT, Redo(0, 77), Redo(1, 78), Redo(2, 79))[0] == [(0, 77), (1, 78), (2, 79)] and tell()[0] == []


def test_a_first_segment_has_no_start(tell):
    tell()
    made, _, (task,), _ = tell(SCRIPT, Redo(0, 5))
    assert made == [(0, 5)] and task.clip is None and len(task.end.frames) == 8 and (task.audio.mask[:10] == 1).all()


def test_what_changes_behind_a_bridge_goes_on_from_it(tell, tmp_path):
    tell()
    tell(SCRIPT, Redo(1, 50))
    shown = frames_of(tmp_path, 1)[1]
    changed = script_of("a", "b", "C", "d")
    made, _, tasks, _ = tell(changed)
    assert [index for index, _ in made] == [2, 3] and np.array_equal(tasks[0].clip.frames, shown[-9:])
    assert tell(changed)[0] == [] and tell()[0] == []  # and back
    # what changes before it, or in it, is made as ever
    assert [index for index, _ in tell(script_of("A", "b", "c", "d"))[0]] == [0, 1, 2, 3]
    assert [index for index, _ in tell(script_of("a", "b, frames: 33", "c", "d"))[0]] == [1, 2, 3]
    assert tell()[0] == []


def test_another_text_is_bridged_into_the_film(tell, tmp_path):
    """The prompt of a finished segment is changed, and what is behind it stays."""
    tell()
    changed = script_of("a", "B", "c", "d")
    made, result, (task,), _ = tell(changed, Redo(1))
    assert made == [(1, 11)] and task.prompt == "B" and result.kept == (0, 2, 3)
    assert tell()[0] == [] and tell(changed)[0] == []
    # another length would move all that is behind
    with pytest.raises(StoryError, match="segment 3 is not finished"):
        tell(script_of("a", "B, frames: 33", "c", "d"), Redo(1))


def test_a_stopped_bridge_goes_on(tell, tmp_path):
    tell()
    with pytest.raises(RuntimeError, match="killed"):
        tell(SCRIPT, Redo(1, "new"), fail=1)
    assert tell()[0] == [(1, take_seed(11, 2))] and tell()[0] == []
    # of a damaged one another take is shown only where nothing is left to make it of
    folder, _ = frames_of(tmp_path, 1)
    (folder / "picture.mov").unlink()
    assert tell()[0] == [(1, take_seed(11, 2))] and tell()[0] == []


def test_a_bridge_of_which_nothing_is_left_ends(tell, tmp_path):
    """The run that finds it gone and all later ones make the same film."""
    tell()
    tell(SCRIPT, Redo(1, 7))
    shutil.rmtree(tmp_path / "work/segments")
    made, result, _, lines = tell()
    assert made == [(index, 10 + index) for index in range(4)] and any("is gone" in line for line in lines)
    for _ in range(2):
        made, again, _, lines = tell()
        assert made == [] and not again.written and not any("is gone" in line for line in lines)


@pytest.mark.parametrize(
    ("script", "redo", "told"),
    [
        (SCRIPT, Redo(3), "segment 4 is the last of the story: nothing goes on from it"),
        (script_of("a", "b", "|c"), Redo(1), "segment 2 is the last before the cut to segment 3"),
        (script_of("a", "b, frames: 17", "c"), Redo(1), "17 frames, 17 of which its neighbours know"),
        (script_of("a", "b, take: 1", "C"), Redo(1, 7), "segment 3 is not finished as the script has it"),
    ],
)
def test_what_cannot_be_bridged_is_refused_before_anything_is_made(tell, tmp_path, script, redo, told):
    tell(script_of("a", "b", "c", "d"))
    before = segments(tmp_path)
    with pytest.raises(StoryError, match=told) as refused:
        tell(script, redo)
    assert segments(tmp_path) == before and len(str(refused.value)) <= 300
    with pytest.raises(StoryError, match="name it with redo"):
        bridged([])


def test_a_bridge_of_a_story_at_twice_its_rate_is_made_at_its_own(tmp_path):
    script, fake = script_of("a", "b", "c", head="double_rate: 1\n"), Fake()

    def make(task):
        made = fake(task)
        own = np.concatenate(list(made.frames))
        return replace(made, frames=[np.repeat(own, 2, axis=0)[:-1]], before=[own], rounds=1)

    def run(*redo):
        options = RunOptions(Wishes(bridged(redo) if redo else ()))
        return run_story(script, make, work=tmp_path / "work", out=tmp_path / "film.mp4", options=options)

    run()
    assert run(Redo(1, 5)).made == (1,) and run().made == ()
    _, third = frames_of(tmp_path, 2)
    assert len(third) == 49 and np.array_equal(fake.tasks[-1].end.frames, third[2:18:2])
