"""A disk that refuses, records that are not what they should be: one sentence, nothing lost, no path made up."""

import errno
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltx2.errors import Ltx2Error, StoryError
from ltx2.story import segment_files
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.journal import JOURNAL_FILE, open_journal, read_journal
from ltx2.story.records import read_record
from ltx2.story.script import parse_script
from ltx2.story.status import story_status
from ltx2.story.takes import Wishes

from ..fuzz.faults import CODES, PLACE, STEPS, failing
from .fake import Fake
from .test_chain import folders, run, story


def is_a_sentence(error) -> bool:
    text = str(error)
    return text.isprintable() and len(text) <= 300 and ".story-" not in text and text[:1] != text[:1].upper() + "?"


SMALL = "fps: 24\noverlap: {video: 1, audio: 5}\ndefaults: {frames: 9}\nsegments: [a, b]\n"


def told(folder) -> list[int]:
    """A small story: which segments were made."""
    script = parse_script(SMALL)
    generate = Fake(script.fps, rate=8000, channels=1)
    run_story(script, generate, work=folder / "work", out=folder / "film.mp4")
    return generate.calls


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The film of a disk that takes everything, and what was asked of the disk."""
    first, second = (tmp_path_factory.mktemp("undisturbed") / name for name in "ab")
    told(first)  # imports what is imported late
    with failing(STEPS, 0) as disk:
        told(second)
    return (second / "film.mp4").read_bytes(), disk.done


@pytest.mark.slow
@pytest.mark.parametrize("quarter", range(len(CODES)), ids=[errno.errorcode[code] for code in CODES])
def test_a_disk_that_refuses(tmp_path, undisturbed, quarter):
    """At any step, once or from then on: one sentence, and the same command afterwards goes on to the same film."""
    film, steps = undisturbed
    # of what FFmpeg writes by itself, a part: it is much, and all alike
    calls = [call for call, step in enumerate(steps, 1) if step != "mux" or not call % 9]
    for number, call in enumerate(calls):
        step, lasting = steps[call - 1], number % len(CODES) == quarter
        if not lasting and (number + 1) % len(CODES) != quarter:
            continue
        folder = tmp_path / str(call)
        refused = None
        with failing(STEPS, call, CODES[quarter], lasting):
            try:
                told(folder)
            except Ltx2Error as error:
                refused = str(error)
        assert refused or not lasting or step in ("unlink", "rmdir"), (call, step)
        for hidden in (PLACE, ".story-", ".ltx2-"):
            assert refused is None or (is_a_sentence(refused) and hidden not in refused), (call, step, refused)
        journal, _ = read_journal(folder / "work" / JOURNAL_FILE)
        finished = len({entry["index"] for entry in journal if entry["event"] == "segment"})
        assert len(told(folder)) <= 2 - finished, (call, step, "finished segments were made again")
        assert (folder / "film.mp4").read_bytes() == film, (call, step, "another film")
        assert sorted(p.name for p in folder.rglob(".*")) == [".lock"], (call, step)


def test_the_generators_own_errors_stay_what_they_are(tmp_path):
    class Reads(Fake):
        def __call__(self, task):
            made = super().__call__(task)

            def frames():
                yield next(iter(made.frames))
                raise FileNotFoundError(errno.ENOENT, "no such file", "weights.safetensors")

            return type(made)(frames(), made.audio_latents, made.sound)

    with pytest.raises(FileNotFoundError) as caught:
        run(story(), tmp_path, Reads())
    assert caught.value.filename == "weights.safetensors" and not folders(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoryError, match="cannot be"):
        run(story(), tmp_path)


def rewritten(folder, change):
    """The journal with changed entries, each with a right checksum."""
    path = folder / JOURNAL_FILE
    with open_journal(folder) as journal:
        entries = journal.entries
    path.unlink()
    with open_journal(folder) as journal:
        for entry in entries:
            entry = change(dict(entry))
            journal.append(entry.pop("event"), **{key: value for key, value in entry.items() if key != "v"})


TAKES = SMALL.replace("[a, b]", "[a, {prompt: b, takes: 2}]")


def with_takes(folder, **picks):
    places = {"work": folder / "work", "out": folder / "film.mp4"}
    return run_story(parse_script(TAKES), Fake(rate=8000, channels=1), **places, options=RunOptions(Wishes(**picks)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished story of two segments, the second of which has two takes."""
    folder = tmp_path_factory.mktemp("finished")
    with_takes(folder, picks={1: 2})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("event, fields", [
    ("segment", ("index", "inputs", "folder", "files", "plan", "seed")),
    ("film", ("seams", "inputs", "sha256", "path")),
    ("plan", ("segments",)),
    ("run", ("out",)),
    ("pick", ("entry", "seed")),
    ("writing", ("temp",)),
])  # fmt: skip
@pytest.mark.parametrize("value", ("missing", None, -1, "x", [], {}, "../../../etc", 1e99, True))
def test_entries_that_are_not_whole(tmp_path, finished, event, fields, value):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    kept = (tmp_path / "work" / JOURNAL_FILE).read_bytes()
    for field in fields:
        (tmp_path / "work" / JOURNAL_FILE).write_bytes(kept)

        def change(entry, field=field):
            if entry["event"] == event:
                entry.pop(field)
                if value != "missing":
                    entry[field] = value
            return entry

        rewritten(tmp_path / "work", change)
        (tmp_path / "film.mp4").unlink(missing_ok=True)
        for look in (lambda: with_takes(tmp_path), lambda: story_status(tmp_path / "work")):
            try:
                look()
            except StoryError as error:
                assert is_a_sentence(error), (field, error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(["index", "inputs", "folder", "files", "plan", "seed", "temp"]), JSON))
def test_any_record_is_read_or_refused(entry):
    whole = {
        "index": 0,
        "inputs": "a" * 64,
        "folder": "0001-aaaaaaaaaaaa",
        "files": {"state.safetensors": {"bytes": 3, "sha256": "b" * 64}},
        "plan": {"index": 0, "frames": 9, "fps": [24, 1], "audio_latents": 1, "offset": [0, 1]},
        "seed": 1,
    }
    assert read_record(whole).timing.frames == 9
    try:
        read_record(whole | entry)
    except StoryError as error:
        assert is_a_sentence(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"\t", b"{}", b'{"event": "']), max_size=8))
def test_any_journal_is_read_or_refused_and_never_lost(tmp_path, pieces):
    data = b"".join(pieces)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(data)
    try:
        with open_journal(tmp_path) as journal:
            assert journal.entries == []
    except StoryError as error:
        assert is_a_sentence(error) and path.read_bytes() == data
    else:
        assert not data.strip(b"\0") or b'{"event": "'.startswith(data[:11].rstrip(b"\0")) or b"\0" in data[:11]


def test_half_a_line_does_not_damage_the_next(tmp_path, monkeypatch):
    with open_journal(tmp_path) as journal:
        journal.append("one")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
            with pytest.raises(StoryError, match="cannot be written: full"):
                journal.append("two")
        journal.append("three")
    with open_journal(tmp_path) as journal:
        assert [entry["event"] for entry in journal.entries] == ["one", "three"]


def test_states_that_were_changed_are_told(tmp_path):
    """Between the check and the reading, or by a record that says so."""
    run(story(2), tmp_path)
    state = next(folders(tmp_path)[0].glob("state.*"))
    state.write_bytes(b"x")

    def change(entry):
        if entry["event"] == "segment" and entry["index"] == 0:
            entry["files"]["state.safetensors"] = {"bytes": 1, "sha256": segment_files.file_sha256(state)}
        return entry

    rewritten(tmp_path / "work", change)
    with pytest.raises(Ltx2Error) as caught:
        run_story(story(2), Fake(), work=tmp_path / "work", out=tmp_path / "film.mp4")
    assert is_a_sentence(caught.value)


def test_the_report_is_json(tmp_path):
    run(story(2), tmp_path)
    assert len(json.loads((tmp_path / "work/seams.json").read_text())) == 1
