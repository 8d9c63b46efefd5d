"""Nothing is removed or replaced that a story did not write."""

import dataclasses
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltx2.errors import StoryError
from ltx2.film import SeamReport
from ltx2.media import read_video
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.journal import JOURNAL_FILE, open_journal
from ltx2.story.records import Keys, read_record

from .fake import Fake
from .test_chain import file_hashes, folders, run, story


class Quiet(Fake):
    """A generator that must not be asked."""

    def __call__(self, task):
        raise AssertionError("made")


def test_a_film_that_no_story_wrote_stays(tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"somebody's")
    with pytest.raises(StoryError, match="is not the film that the story"):
        run(story(), tmp_path, Quiet())  # told before anything is made
    assert film.read_bytes() == b"somebody's"
    film.unlink()
    run(story(), tmp_path)
    run(story(2), tmp_path)  # its own film is replaced
    assert len(read_video(film).frames) == story(2).total_frames
    film.write_bytes(film.read_bytes() + b"edited")
    with pytest.raises(StoryError, match="choose another name"):
        run(story(), tmp_path, Quiet())
    assert film.read_bytes().endswith(b"edited")
    film.unlink()
    film.mkdir()
    with pytest.raises(StoryError):
        run(story(), tmp_path, Quiet())


def test_the_figures_of_the_seams_are_those_of_the_last_film(tmp_path):
    """Also where another run wrote the file before, and where it was written by an older version."""
    report = tmp_path / "work/seams.json"
    run(story(), tmp_path)
    first, told = json.loads(report.read_text()), []
    names = [field.name for field in dataclasses.fields(SeamReport)]
    report.write_text(json.dumps([{name: seam[name] for name in names} for seam in first], indent=1))
    for count in (2, 3):
        run(story(count), tmp_path, log=told.append)
        assert len(json.loads(report.read_text())) == count - 1
    assert not any("is not this story's" in line for line in told)


def test_a_film_that_comes_meanwhile_stays(tmp_path):
    class Slow(Fake):
        def __call__(self, task):
            (tmp_path / "film.mp4").write_bytes(b"quicker")
            return super().__call__(task)

    with pytest.raises(StoryError, match="while the story|is not the film"):
        run(story(), tmp_path, Slow())
    assert (tmp_path / "film.mp4").read_bytes() == b"quicker" and len(folders(tmp_path)) == 3
    result = run_story(story(), Quiet(), work=tmp_path / "work", out=tmp_path / "other.mp4")
    assert result.written and (tmp_path / "film.mp4").read_bytes() == b"quicker"


def test_two_stories_with_one_film_leave_each_other_alone(tmp_path):
    """One runs while the other is half-way through its film, and neither loses anything."""
    film = tmp_path / "film.mp4"

    class Between(Fake):
        def __call__(self, task):
            if task.index == 1:
                before = {p.name for p in tmp_path.iterdir()}
                with open_journal(tmp_path / "third") as journal:
                    pass
                run_story(story(2), Fake(), work=tmp_path / "second", out=film)
                assert before <= {p.name for p in tmp_path.iterdir()} and journal.entries == []
            return super().__call__(task)

    unfinished = tmp_path / ".film.mp4.part-1"
    unfinished.write_bytes(b"another's half film")
    with pytest.raises(StoryError):
        run_story(story(3), Between(), work=tmp_path / "first", out=film)
    assert len(read_video(film).frames) == story(2).total_frames and unfinished.exists()


@pytest.mark.parametrize("name", ("f[1].mp4", "f*.mp4", "f?.mp4", "é🎬.mp4", "x" * 240 + ".mp4", "-f.mp4"))
def test_names_are_names(tmp_path, name):
    bystanders = [tmp_path / n for n in (".f1.mp4.part-9", ".fx.mp4.part-9", ".story-x", ".ltx2-0.tmp", "f1.mp4")]
    for path in bystanders:
        path.write_bytes(b"not yours")
    for count in (2, 3):
        run_story(story(count), Fake(), work=tmp_path / "work", out=tmp_path / name)
    assert len(read_video(tmp_path / name).frames) == story(3).total_frames
    assert all(path.read_bytes() == b"not yours" for path in bystanders)


def test_foreign_folders_named_like_segments_stay(tmp_path):
    run(story(), tmp_path)
    names = [path.name for path in folders(tmp_path)]
    shutil.rmtree(tmp_path / "work")
    (tmp_path / "film.mp4").unlink()
    for name in [*names, "0009-0123456789ab", ".ltx2-1.tmp", ".story-" + "0" * 32]:
        (tmp_path / "work/segments" / name).mkdir(parents=True)
        (tmp_path / "work/segments" / name / "picture.mov").write_text("a holiday")
    (tmp_path / "work/seams.json").write_text("figures of mine")
    result, generate = run(story(), tmp_path)
    assert generate.calls == [0, 1, 2]
    result, generate = run(story(2), tmp_path, options=RunOptions(prune=True))
    assert generate.calls == []
    for name in [*names, "0009-0123456789ab", ".ltx2-1.tmp", ".story-" + "0" * 32]:
        assert (tmp_path / "work/segments" / name / "picture.mov").read_text() == "a holiday"
    assert (tmp_path / "work/seams.json").read_text() == "figures of mine"
    assert sorted(p.name for p in folders(tmp_path) if p.name.endswith("-2")) == [f"{name}-2" for name in names[:2]]


def test_numbered_films_are_kept(tmp_path):
    """As the node asks: a film that is there stays, the same story finds its own again."""
    options = RunOptions(numbered=True)
    (tmp_path / "film_00002.mp4").write_bytes(b"somebody's")
    first, _ = run(story(), tmp_path, options=options)
    assert first.film.name == "film.mp4" and first.written
    second, _ = run(story(2), tmp_path, options=options)
    assert second.film.name == "film_00003.mp4" and second.written
    again, generate = run(story(), tmp_path, options=options)
    assert again.film == first.film and not again.written and generate.calls == []
    second.film.unlink()
    assert run(story(2), tmp_path, options=options)[0].film.name == "film_00003.mp4"
    assert (tmp_path / "film_00002.mp4").read_bytes() == b"somebody's"


@pytest.mark.parametrize("text", (b"notes\n", b"{}\n", b'{"a": 1}\n', b"x", b"one\ntwo\n", b"\n", b'{"event": 5}\n'))
def test_a_file_that_is_no_journal_stays(tmp_path, text):
    (tmp_path / JOURNAL_FILE).write_bytes(text)
    with pytest.raises(StoryError), open_journal(tmp_path):
        pass
    assert (tmp_path / JOURNAL_FILE).read_bytes() == text


def snapshot(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.exists()
    }


NAMES = st.sampled_from(
    [
        *("film.mp4", ".film.mp4.part-1", "work/journal.old", "work/seams.json", "work/notes", "work/.ltx2-a.tmp"),
        *("work/segments/0001-aaaaaaaaaaaa/picture.mov", "work/segments/.story-x/y", "work/segments/readme"),
        *("work/segments/0002-c53bbe9df552/picture.mov", ".story-" + "a" * 32 + "/film.mp4", "film_00002.mp4"),
    ]
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(NAMES), st.lists(st.sampled_from([2, 3]), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_whatever_lies_there_is_there_afterwards(tmp_path_factory, names, counts, prune, numbered):
    where = tmp_path_factory.mktemp("mine")
    for name in names:
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(name.encode())
    before = snapshot(where)
    for count in counts:
        try:
            run(story(count), where, options=RunOptions(prune=prune, numbered=numbered))
        except StoryError:
            assert "film.mp4" in names and not numbered
    after = snapshot(where)
    assert {name: after.get(name) for name in before} == before


def test_a_work_folder_of_version_0_1_0_is_gone_on_with(tmp_path):
    script = story(3)
    run(script, tmp_path, identity="weights")
    journal = tmp_path / "work" / JOURNAL_FILE
    with open_journal(tmp_path / "work") as opened:
        entries = opened.entries
    keys, before, lines = Keys(script, "weights"), None, []
    for entry in entries:
        if entry["event"] == "segment":
            new = read_record(entry)
            old = {k: v for k, v in entry.items() if k not in ("temp", "take", "entry", "event", "v")}
            old["inputs"] = keys.older_key(entry["index"], before)
            lines.append(("segment", old))
            before = new
        elif entry["event"] == "film":
            lines.append(("film", {k: v for k, v in entry.items() if k not in ("event", "v")}))
    journal.unlink()
    with open_journal(tmp_path / "work") as opened:
        for event, fields in lines:
            opened.append(event, **fields)
    hashes = file_hashes(tmp_path)
    result, generate = run(script, tmp_path, identity="weights")
    assert generate.calls == [] and not result.written and file_hashes(tmp_path) == hashes
    _, generate = run(story(3, lines={1: "seed: 5"}), tmp_path, identity="weights")
    assert generate.calls == [1, 2]


def test_work_folders_can_be_links_and_relative(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    run_story(story(2), Fake(), work="link/work", out="link/film.mp4")
    result = run_story(story(2), Quiet(), work="link/work", out="link/film.mp4")
    assert not result.written and str(result.film) == "link/film.mp4" and (tmp_path / "real/film.mp4").is_file()
    assert json.loads((tmp_path / "real/work/seams.json").read_text())


def test_films_are_called_what_they_were_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    run_story(story(1), Fake(), work="work", out="film.mp4", log=said.append)
    assert any(line.startswith("writing film.mp4: ") for line in said)
    (tmp_path / "other.mp4").write_bytes(b"mine")
    with pytest.raises(StoryError, match="^other.mp4 is there already .* the story in work wrote"):
        run_story(story(1), Fake(), work="work", out="other.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "film.mp4")
    run_story(story(2), Fake(), work="work", out="link.mp4")
    assert (tmp_path / "link.mp4").is_symlink() and len(read_video(tmp_path / "film.mp4").frames) == 41


@pytest.mark.parametrize("work, out", [
    ("work", "file/film.mp4"), ("work", "a\0b.mp4"), ("work", "x" * 300 + ".mp4"), ("work", ""),
    ("file/work", "film.mp4"), ("a\0b", "film.mp4"), ("x" * 300, "film.mp4"), ("", "film.mp4"), ("file", "film.mp4"),
])  # fmt: skip
def test_places_that_take_nothing_are_told_before_anything_is_made(tmp_path, monkeypatch, work, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"mine")
    generate = Fake()
    with pytest.raises(StoryError) as caught:
        run_story(story(2), generate, work=work, out=out)
    assert not generate.calls and len(str(caught.value)) <= 300 and str(caught.value).isprintable()
    assert not list(tmp_path.rglob(".story-*")) and (tmp_path / "file").read_bytes() == b"mine"


def test_a_work_folder_without_room_for_segments_is_told_before_the_first_is_made(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/segments").write_bytes(b"mine")
    generate = Fake()
    with pytest.raises(StoryError, match="segment 1 cannot be written to .*work/segments"):
        run(story(2), tmp_path, generate)
    assert not generate.calls and (tmp_path / "work/segments").read_bytes() == b"mine"
