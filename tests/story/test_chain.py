"""Stories carried out with a generator of known content: exact films, resuming, changing, redoing, and real kills."""

import hashlib
import multiprocessing
import os
import signal
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.clock import parse_fps
from ltx2.continuation import load_attachment, save_attachment
from ltx2.errors import Ltx2Warning, StoryError
from ltx2.film import Handoff, Overlap, Source, capture_state, condition_next
from ltx2.media import read_video
from ltx2.story import tasks as story_tasks
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.film_file import film_of_stored_state
from ltx2.story.script import parse_script
from ltx2.story.segment_files import StoredFrames, read_sound
from ltx2.story.takes import Redo, Wishes
from ltx2.story.tasks import SegmentTask

from .fake import RATE, Fake, endless_sound, number_of

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


def story(count=3, frames=25, fps="24", lines=None, head=""):
    segments = [f"  - {{prompt: 'scene {i}'}}" for i in range(count)]
    for index, text in (lines or {}).items():
        segments[index] = f"  - {{prompt: 'scene {index}', {text}}}"
    overlap = "overlap: {video: 9, audio: 15}\n"
    return parse_script(f"fps: {fps}\n{overlap}{head}defaults: {{frames: {frames}}}\nsegments:\n" + "\n".join(segments))


def run(script, tmp_path, generate=None, redo=(), **keywords):
    generate = generate or Fake(script.fps)
    if redo:
        keywords["options"] = RunOptions(Wishes(redo=tuple(map(Redo, redo))))
    result = run_story(script, generate, work=tmp_path / "work", out=tmp_path / "film.mp4", **keywords)
    return result, generate


def folders(tmp_path):
    return sorted((tmp_path / "work" / "segments").iterdir())


def file_hashes(tmp_path):
    return {
        str(p.relative_to(tmp_path)): hashlib.sha256(p.read_bytes()).hexdigest()
        for folder in folders(tmp_path)
        for p in sorted(folder.iterdir())
    } | {"film": hashlib.sha256((tmp_path / "film.mp4").read_bytes()).hexdigest()}


def test_the_last_state_knows_the_film_that_ends_with_it_wherever_both_were_moved(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run_story(story(2), Fake(story(2).fps), work="work", out="film.mp4")
    monkeypatch.chdir(tmp_path)
    moved = (tmp_path / "here").rename(tmp_path / "there")
    first, last = (folder / "state.safetensors" for folder in sorted((moved / "work/segments").iterdir()))
    assert film_of_stored_state(last).samefile(moved / "film.mp4") and film_of_stored_state(first) is None
    kept = last.read_bytes()
    last.write_bytes(first.read_bytes())  # no longer the state that was recorded
    assert film_of_stored_state(last) is None
    last.write_bytes(kept)
    (moved / "film.mp4").write_bytes(b"cut by hand")
    assert film_of_stored_state(last) is None and film_of_stored_state(moved / "film.mp4") is None


def test_segments_that_reach_beyond_what_models_know_are_told_before_any_is_made(tmp_path, recwarn):
    class Begun(Exception):
        pass

    def begin(task):
        raise Begun

    script = parse_script("defaults: {frames: 465}\nsegments:\n  - one\n  - two\n  - {prompt: three, cut: true}\n")
    with pytest.raises(Begun):  # 19.4 s, and more with the sound before it
        run(script, tmp_path, begin)
    told = [str(one.message) for one in recwarn if issubclass(one.category, Ltx2Warning)]
    assert len(told) == 1 and told[0].startswith("segment 2 reaches 21.05 s with what it repeats")


@pytest.mark.slow
@pytest.mark.parametrize("fps", ("23.976", "24", "25", "30"))
def test_twenty_segments_are_exact(tmp_path, fps):
    script = story(20, fps=fps)
    result, generate = run(script, tmp_path)
    total = 25 + 19 * 16
    assert result.made == tuple(range(20)) and script.total_frames == total and result.written
    clip = read_video(tmp_path / "film.mp4")
    assert [number_of(frame) for frame in clip.frames] == list(range(total))
    samples = round(Fraction(total) / parse_fps(fps) * RATE)
    assert clip.sound.samples.shape == (2, samples)
    # the sound is lossy in the film, but its clock is not: it still is the endless one at the end
    expected = endless_sound(0, samples)
    last = slice(samples - RATE, samples - RATE // 20)
    assert torch.nn.functional.cosine_similarity(clip.sound.samples[:, last], expected[:, last]).min() > 0.99
    # before it is encoded it is exact, in every segment
    for task, folder in zip(generate.tasks, folders(tmp_path)):
        pictures = [number_of(chunk[0]) for chunk in StoredFrames(folder)]
        assert pictures == list(range(pictures[0], pictures[0] + 25)) and pictures[0] == 16 * task.index
    assert all(seam.correlation > 0.9999 for seam in result.seams) and len(result.seams) == 19


def test_running_again_makes_nothing(tmp_path):
    script = story()
    run(script, tmp_path)
    before = file_hashes(tmp_path)
    result, generate = run(script, tmp_path)
    assert generate.calls == [] and result.kept == (0, 1, 2) and not result.written and len(result.seams) == 2
    assert file_hashes(tmp_path) == before


def test_a_changed_segment_is_made_anew_with_what_follows(tmp_path):
    run(story(5), tmp_path)
    before = [p.name for p in folders(tmp_path)]
    changed = story(5, lines={2: "seed: 99"})
    result, generate = run(changed, tmp_path)
    assert generate.calls == [2, 3, 4] and result.kept == (0, 1) and result.written
    after = [p.name for p in folders(tmp_path)]
    assert set(before) < set(after) and len(after) == 8 and result.unused.segments == 3
    shorter, generate = run(story(3, lines={2: "seed: 99"}), tmp_path)
    assert generate.calls == [] and shorter.written
    # what is no longer asked for stays, and is there again when it is
    back, generate = run(story(5), tmp_path)
    assert generate.calls == [] and back.written and [p.name for p in folders(tmp_path)] == after


def test_what_is_not_asked_for_goes_when_told(tmp_path):
    run(story(4), tmp_path)
    result, _ = run(story(2), tmp_path)
    assert result.unused.segments == 2 and result.unused.bytes > 0 and len(folders(tmp_path)) == 4
    notes = tmp_path / "work/segments" / folders(tmp_path)[3].name / "notes.txt"
    notes.write_text("mine")
    lines = []
    result, generate = run(story(2), tmp_path, options=RunOptions(prune=True), log=lines.append)
    assert generate.calls == [] and not result.written and result.unused.segments == 0
    assert [p.name[:4] for p in folders(tmp_path)] == ["0001", "0002", "0004"] and notes.read_text() == "mine"
    assert [p.name for p in notes.parent.iterdir()] == ["notes.txt"]
    assert any("2 finished segments" in line and "removed" in line for line in lines)
    assert any("holds something else too" in line for line in lines)
    _, generate = run(story(4), tmp_path)
    assert generate.calls == [2, 3]


def test_drafts_are_told_as_drafts_and_take_no_finished_segment_away(tmp_path):
    draft = {"identity": "draft", "source": Source(draft=True)}
    run(story(2), tmp_path, **draft)
    finished, _ = run(story(2), tmp_path)
    assert str(finished.unused).startswith("2 segments of a draft take")
    changed, _ = run(story(2, lines={1: "seed: 9"}), tmp_path)
    words = "1 finished segment that the script no longer asks for and 2 segments of a draft take 1.4 MB"
    assert str(changed.unused) == words
    # a draft's run knows nothing of finished ones
    result, generate = run(story(1), tmp_path, options=RunOptions(prune=True), **draft)
    assert generate.calls == [] and result.unused.segments == 0 and len(folders(tmp_path)) == 4
    lines = []
    run(story(1), tmp_path, options=RunOptions(prune=True), log=lines.append)
    assert len(folders(tmp_path)) == 1 and any("1 segment of a draft are removed" in line for line in lines)


def test_other_models_make_all_anew_and_a_late_change_only_the_end(tmp_path):
    script = story()
    run(script, tmp_path, identity="a")
    _, generate = run(script, tmp_path, identity="b")
    assert generate.calls == [0, 1, 2]
    _, generate = run(story(lines={2: "strength: 0.5"}), tmp_path, identity="b")
    assert generate.calls == [2] and generate.tasks[0].clip.strength == 0.5


def test_redo_makes_one_again_and_keeps_what_is_the_same(tmp_path):
    script = story()
    run(script, tmp_path)
    before = file_hashes(tmp_path)
    result, generate = run(script, tmp_path, redo=[1])
    assert generate.calls == [1] and result.kept == (0, 2) and file_hashes(tmp_path) == before

    class Other(Fake):
        def __call__(self, task):
            made = super().__call__(task)
            return story_tasks.MadeSegment(
                [255 - chunk for chunk in made.frames], made.audio_latents + 1000, made.sound
            )

    result, generate = run(script, tmp_path, Other(), redo=[1])
    assert generate.calls == [1, 2] and result.kept == (0,)
    with pytest.raises(StoryError, match="segments 1 to 3"):
        run(script, tmp_path, redo=[3])


def test_damaged_or_missing_files_are_made_again(tmp_path):
    script = story()
    run(script, tmp_path)
    before = file_hashes(tmp_path)
    kept = set(folders(tmp_path))
    picture = folders(tmp_path)[1] / "picture.mov"
    data = bytearray(picture.read_bytes())
    data[len(data) // 2] ^= 1
    picture.write_bytes(data)
    _, generate = run(script, tmp_path)
    # beside what is damaged: what a story did not write it does not replace
    assert generate.calls == [1] and picture.read_bytes() == bytes(data)
    (again,) = set(folders(tmp_path)) - kept
    assert again.name == f"{picture.parent.name}-2"
    assert (again / "picture.mov").read_bytes() != bytes(data)
    (tmp_path / "film.mp4").unlink()
    result, generate = run(script, tmp_path)
    assert generate.calls == [] and result.written and file_hashes(tmp_path)["film"] == before["film"]


def test_a_chain_is_a_run_of_one_and_continuations(tmp_path):
    """Carried by hand, through another form of attachment each time, the same segments come out."""
    script = story(3)
    _, generate = run(script, tmp_path)
    run_story(story(1), Fake(), work=tmp_path / "one", out=tmp_path / "one.mp4")
    (first,) = (tmp_path / "one" / "segments").iterdir()
    state = load_attachment(first / "state.safetensors").state
    for index, form in ((1, "state.png"), (2, "state.json")):
        carried = load_attachment(save_attachment(state, tmp_path / form)).state
        following = condition_next(carried, 25, handoff=Handoff(seed=script.seed))
        task = SegmentTask(
            index,
            f"scene {index}",
            None,
            25,
            script.fps,
            None,
            None,
            following.seed,
            None,
            {},
            (),
            following.audio_latents,
            following.clip,
            following.audio,
            following.video_offset_seconds,
        )
        made = Fake()(task)
        frames = np.concatenate(list(made.frames))
        state = capture_state(
            frames, made.audio_latents, following.timing, overlap=Overlap(9, 15), sample_rate=RATE, seed=following.seed
        )
        stored = folders(tmp_path)[index]
        assert np.array_equal(frames, np.concatenate(list(StoredFrames(stored))))
        assert torch.equal(made.sound.samples, read_sound(stored).samples)
        save_attachment(state, tmp_path / "s.safetensors")
        assert (tmp_path / "s.safetensors").read_bytes() == (stored / "state.safetensors").read_bytes()


def test_new_scenes_start_from_nothing(tmp_path):
    script = story(3, lines={1: "cut: true, frames: 33"})
    result, generate = run(script, tmp_path)
    task = generate.tasks[1]
    assert task.clip is None and task.audio is None and task.video_offset_seconds == 0 and task.frames == 33
    assert len(read_video(tmp_path / "film.mp4").frames) == script.total_frames == 25 + 33 + 16
    assert result.seams[0].correlation is None and result.seams[1].correlation > 0.999


def test_what_does_not_fit_the_segment_before_is_told_before_anything_is_made(tmp_path):
    script = parse_script("fps: 1000\nsegments:\n  - {prompt: a, frames: 25}\n  - {prompt: b, frames: 17}")
    generate = Fake()
    with pytest.raises(StoryError, match="script.yaml, line 4.* audio latents would be those of the segment"):
        run(script, tmp_path, generate)
    assert not generate.calls and not list(tmp_path.iterdir())


def test_seeds_count_up_and_options_reach_the_generator(tmp_path):
    head = "seed: 100\nsize: 32x32\npreset: p\nnegative: n\noverride: {denoise.x: 2}\n"
    script = story(3, lines={1: "seed: 7"}, head=head)
    _, generate = run(script, tmp_path)
    assert [t.seed for t in generate.tasks] == [100, 7, 102]
    assert all(
        (t.width, t.height, t.preset, t.negative, t.overrides) == (32, 32, "p", "n", {"denoise.x": 2})
        for t in generate.tasks
    )


def test_silent_stories(tmp_path):
    class Silent(Fake):
        def __call__(self, task):
            return story_tasks.MadeSegment(super().__call__(task).frames, None, None)

    script = story(2)
    result, _ = run(script, tmp_path, Silent())
    clip = read_video(tmp_path / "film.mp4")
    assert len(clip.frames) == script.total_frames and clip.sound is None and result.seams[0].loudness_step_db is None


def test_a_generator_that_fails_loses_nothing(tmp_path):
    class Failing(Fake):
        def __call__(self, task):
            if task.index == 2:
                raise RuntimeError("out of memory")
            return super().__call__(task)

    with pytest.raises(RuntimeError):
        run(story(), tmp_path, Failing())
    _, generate = run(story(), tmp_path)
    assert generate.calls == [2]

    class Short(Fake):
        def __call__(self, task):
            made = super().__call__(task)
            return story_tasks.MadeSegment(list(made.frames)[:-1], made.audio_latents, made.sound)

    with pytest.raises(StoryError, match="came out with 20 frames, 25 were asked for"):
        run(story(), tmp_path / "short", Short())
    assert not [p for p in (tmp_path / "short" / "work" / "segments").iterdir()]


def test_holds_change_the_film_and_not_the_segments(tmp_path):
    run(story(), tmp_path)
    before = file_hashes(tmp_path)
    result, generate = run(story(head="hold: {colour: 1.0}\n"), tmp_path)
    after = file_hashes(tmp_path)
    assert generate.calls == [] and result.written and before.pop("film") != after.pop("film") and before == after


# --- kills
# -------------------------------------------------------------------------------------------------------------


def killed_run(script, tmp_path, step):
    """Run in a process that kills itself at the n-th durable step (write, sync or rename)."""
    state = {"left": step}

    def deadly(real):
        def call(*args, **keywords):
            state["left"] -= 1
            if state["left"] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **keywords)

        return call

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
    run(script, tmp_path)
    os._exit(0)


@pytest.mark.slow
@pytest.mark.skipif(FORK is None, reason="needs fork")
def test_a_kill_anywhere_costs_only_what_was_not_recorded(tmp_path):
    script = story(3)
    run(script, tmp_path / "whole")
    whole = file_hashes(tmp_path / "whole")
    finished, step = False, 0
    while not finished:
        where = tmp_path / f"k{step}"
        process = FORK.Process(target=killed_run, args=(script, where, step))
        process.start()
        process.join()
        finished = process.exitcode == 0
        journal = where / "work" / "journal.jsonl"
        recorded = journal.read_bytes().count(b'"event": "segment"') if journal.exists() else 0
        result, generate = run(script, where)
        # a record that was written but not yet synced may count or not
        assert len(generate.calls) in (3 - recorded, 3 - recorded + 1), step
        assert generate.calls == list(range(3 - len(generate.calls), 3))
        assert file_hashes(where) == whole, step
        assert not [p for p in where.rglob(".*") if p.name != ".lock"], step
        step += 4
    assert step > 16


@pytest.mark.skipif(FORK is None, reason="needs fork")
def test_kill_after_kill_still_ends(tmp_path):
    """Killed again and again, each time a little later, without ever starting over."""
    script, runs = story(3), 0
    while True:
        process = FORK.Process(target=killed_run, args=(script, tmp_path, 7))
        process.start()
        process.join()
        runs += 1
        if process.exitcode == 0:
            break
        assert runs < 20
    assert len(read_video(tmp_path / "film.mp4").frames) == script.total_frames


def test_memory_does_not_grow_with_the_story(tmp_path):
    def peak(count):
        tracemalloc.start()
        run(story(count), tmp_path / str(count))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(12) < peak(3) * 1.25 + 200_000


def test_segments_start_less_firmly_the_longer_a_scene_lasts_and_nothing_else_is_made_again(tmp_path):
    lines = {2: "strength: 0.5", 4: "cut: true"}
    plain = story(6, lines=lines)
    run(plain, tmp_path)
    relaxing = story(6, lines=lines, head="drift: {strength: 0.95, settles: 0.9}\n")
    _, made = run(relaxing, tmp_path)
    strengths = {task.index: task.clip.strength for task in made.tasks}
    # the first and the fifth segment begin scenes; the third says its own and goes on from the same as before
    assert strengths == pytest.approx({1: 0.95, 3: 0.9 + 0.05 * 0.5**0.4, 5: 0.95})
    for script in (relaxing, plain):
        assert run(script, tmp_path)[1].calls == []  # both are kept
    for text, sentence in (("{settles: 0.9}", "drift has no strength"), ("{strength: 2}", "expected 0 to 1")):
        with pytest.raises(StoryError, match=sentence):
            story(head=f"drift: {text}\n")
