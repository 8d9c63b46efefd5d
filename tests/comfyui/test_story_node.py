"""The story node: made, resumed, changed, stopped half-way, refused."""

import asyncio
import hashlib

import numpy as np
import pytest
import torch

from ltx2.film.saved_film import SavedFilm, film_of
from ltx2.media import read_sound, read_video, write_video
from ltx2.values import Waveform

from .shelf import loaded, shelf  # noqa: F401

SCRIPT = (
    "size: 64x64\npreset: ltx2_3_distilled\n"
    "override: {denoise.num_inference_steps: 1}\ndefaults: {frames: 17}\nsegments:\n  - one\n  - two\n"
)


@pytest.fixture
def story(run, loaded, folders):  # noqa: F811
    parts = loaded("2.3")
    return lambda script=SCRIPT, folder="film", **options: run(
        "Story", script=script, folder=folder, **{"redo": "", **parts, **options}
    )


@pytest.mark.slow
def test_made_once_then_kept_then_changed(story, folders):
    first = story()
    video, state, report, file = first.args
    assert file == "film/film.mp4 [output]" and (folders / "output/film/film.mp4").is_file()
    assert "2 segments made, 0 kept" in report and "seam" in report.lower() and state.segment_index == 1
    (shown,) = first.ui["states"]
    assert (
        shown["segment_index"] == 1
        and shown["file"].startswith("film/segments/0002-")
        and shown["file"].endswith(" [output]")
    )
    assert first.ui["images"] == [{"filename": "film.mp4", "subfolder": "film", "type": "output"}]
    again = story(SCRIPT.replace("64x64", "70x60"))
    assert "0 segments made, 2 kept" in again.args[2] and again.args[3] == file
    assert any("size 70x60 became 64x64" in text for text in again.ui["text"])
    changed = story(SCRIPT.replace("two", "three"))
    assert "1 segment made, 1 kept" in changed.args[2] and changed.args[3] == "film/film_00002.mp4 [output]"
    assert changed.ui["images"][0]["filename"] == "film_00002.mp4" and "1 finished segment that" in changed.args[2]
    redone = story(SCRIPT.replace("two", "three"), redo="1")
    assert "1 segment made, 1 kept" in redone.args[2] and redone.args[3] == changed.args[3]
    other = story(SCRIPT.replace("two", "three"), redo="2:new")
    assert "1 segment made, 1 kept" in other.args[2] and other.args[3] == "film/film_00003.mp4 [output]"


@pytest.mark.slow
def test_workflows_that_share_a_folder_lose_nothing(story, folders):
    """The default folder is the same for every workflow: each finds its own film again, whatever ran in between."""
    scripts = [SCRIPT, SCRIPT.replace("one", "a street"), SCRIPT.replace("segments:", "seed: 40\nsegments:")]
    films = [story(script).args[3].removesuffix(" [output]") for script in scripts]
    kept = {path: hashlib.sha256(path.read_bytes()).digest() for path in (folders / "output").rglob("*.mp4")}
    assert len(set(films)) == 3 == len(kept)
    for script, film in zip(scripts * 2, films * 2):
        again = story(script)
        assert again.args[3] == f"{film} [output]" and "0 segments made, 2 kept" in again.args[2]
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in kept} == kept
    (folders / "output/film/film.mp4").write_bytes(b"cut by hand")
    assert story().args[3] == "film/film_00004.mp4 [output]"
    assert (folders / "output/film/film.mp4").read_bytes() == b"cut by hand"


def test_a_stopped_story_goes_on_where_it_was(story, pack, monkeypatch):
    class Stopped(BaseException):
        pass

    reporting, seen = pack.nodes.reporting, []
    reporter = reporting.reporter

    def stopping(*stages, part=0, parts=1, **more):
        seen.append((part, parts))
        if part == 1 and len(seen) == 2:
            raise Stopped
        return reporter(*stages, part=part, parts=parts, **more)

    monkeypatch.setattr(reporting, "reporter", stopping)
    with pytest.raises(Stopped):
        story(folder="stopped")
    assert "1 segment made, 1 kept" in story(folder="stopped").args[2]
    assert seen == [(0, 2), (1, 2), (1, 2)]


def test_its_state_goes_on_in_other_nodes_and_knows_the_film(story, run, folders):
    made = story()
    shown, name = made.ui["states"][0], made.args[3]
    found = run("LoadState", file=shown["file"])
    state = found.args[0]
    assert state.segment_index == 1 and found.ui["states"][0]["notes"] == [
        f"its film: {name.removesuffix(' [output]')}"
    ]
    # and it is the film that the node gave, for what is joined behind it
    assert film_of(state) == film_of(made.args[1]) == SavedFilm(name, 25)
    assert state.metadata == made.args[1].metadata
    film = folders / "output" / name.removesuffix(" [output]")
    film.write_bytes(film.read_bytes() + b"cut by hand")
    assert film_of(run("LoadState", file=shown["file"]).args[0]) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"folder": "../outside"}, "leaves the output folder"),
        ({"folder": "."}, "leaves the output folder"),
        ({"folder": "film\ud800"}, "is no name for a folder"),
        ({"folder": "x" * 300}, "is no name for a folder"),
        ({"folder": "é" * 100}, "is no name for a folder"),
        ({"folder": "a\0b"}, "is no name for a folder"),
        ({"folder": ". ."}, "is no name for a folder"),
        ({"folder": "C:film"}, "leaves the output folder"),
        ({"folder": ""}, "leaves the output folder"),
        ({"redo": "last"}, "expected a segment number"),
        ({"redo": "²"}, "expected a segment number"),
        ({"redo": "3"}, "segments 1 to 2"),
        (
            {"script": f"{SCRIPT}  - prompt: three\n    cut: true\n    image: ../photo.png\n"},
            "is not in ComfyUI's input",
        ),
        ({"script": f"{SCRIPT}  - prompt: three\n    image: ../no.png\n"}, "is not in ComfyUI's input folder"),
        ({"script": f"{SCRIPT}  - prompt: three\n    image: {'n' * 400}.png\n"}, "is not in ComfyUI's input folder"),
        ({"script": f"{SCRIPT}  - prompt: three\n    image: /etc/passwd\n"}, "is not in ComfyUI's input folder"),
        ({"script": "segments: 3"}, "script, line 1, column 11"),
        ({"script": "A harbour \udfff"}, "script, line 1, column 11"),
    ],
)
def test_what_it_refuses(story, nodes, folders, options, expected):
    (folders / "photo.png").write_bytes(b"a picture outside the input folder")
    with pytest.raises(ValueError, match=expected) as caught:
        story(**options)
    # a host shows the kind of an error with its module, which must not be a place on disk
    assert caught.type.__module__ == "ltx2.errors"
    told = asyncio.run(nodes["Story"].validate_inputs(**{"script": SCRIPT, "folder": "film", "redo": "", **options}))
    assert expected in str(told) or options == {"redo": "3"}
    assert str(folders) not in str(told) and len(str(told)) <= 300
    assert not [path for path in folders.rglob("*") if path.name == "journal.jsonl"]


def test_a_deleted_film_is_noticed(story, nodes, folders):
    given = {"script": SCRIPT, "folder": "film", "redo": ""}
    before = nodes["Story"].fingerprint_inputs(**given)
    story()
    after = nodes["Story"].fingerprint_inputs(**given)
    assert before != after == nodes["Story"].fingerprint_inputs(**given)
    (folders / "output/film/film.mp4").unlink()
    assert nodes["Story"].fingerprint_inputs(**given) == before


def test_a_sound_that_is_connected_is_that_of_the_film(run, made, folders):
    track = {"waveform": made.sound["waveform"].repeat(1, 1, 4), "sample_rate": made.sound["sample_rate"]}
    head = "size: 64x64\npreset: ltx2_fast\noverride: {denoise.num_inference_steps: 1}\n"
    script = f"{head}defaults: {{frames: 17}}\nsegments:\n  - one\n  - two\n"
    film, *_ = run("Story", **made.parts, script=script, folder="sung", audio=track, audio_start=0.25).args
    heard = read_sound(film.get_stream_source())
    rate = track["sample_rate"]
    wanted = track["waveform"][0, :, rate // 4 : rate // 4 + round(25 / 24 * rate)]
    assert heard.sample_rate == rate and abs(heard.samples.shape[1] - wanted.shape[1]) <= 1
    count = min(heard.samples.shape[1], wanted.shape[1])
    assert torch.nn.functional.mse_loss(heard.samples[:, :count], wanted[:, :count]) < 0.1 * wanted.square().mean()
    with pytest.raises(ValueError, match="keep one of them"):
        (folders / "input" / "song.wav").write_bytes(b"x")
        run("Story", **made.parts, script=f"audio: song.wav\n{script}", folder="sung", audio=track)


def test_a_story_goes_on_from_a_film_in_the_input_folder(story, pack, folders):
    source = folders / "input" / "found.mp4"
    shown = np.random.default_rng(1).integers(0, 255, (17, 48, 80, 3), np.uint8)
    write_video(source, shown, fps=24, sound=Waveform(torch.rand(1, 34000) - 0.5, 48000))
    script = "start: found.mp4\n" + SCRIPT.replace("17}", "25}")
    film, _, report, _ = story(script, "behind").args
    longer, found = read_video(film.get_stream_source()), read_video(source)
    assert longer.frames.shape == (17 + 16 + 16, 48, 80, 3) and np.array_equal(longer.frames[:17], found.frames)
    assert "the model sees it at 64x64" in report and "seam before segment 1" in report
    board = pack.nodes.storyboard.storyboard({"script": script, "folder": "behind"})
    assert [(one["start"], one["end"]) for one in board["segments"]] == [(17 / 24, 33 / 24), (33 / 24, 49 / 24)]
    with pytest.raises(ValueError, match="film 'gone.mp4' is not in ComfyUI's input folder"):
        story(script.replace("found", "gone"), "behind")


def test_the_board_of_a_story_tells_what_there_is_of_each_segment(story, pack):
    board = pack.nodes.storyboard.storyboard
    asked = {"script": SCRIPT, "folder": "boards"}
    before = board(asked)
    assert [one["state"] for one in before["segments"]] == ["waiting"] * 2 and before["script"] == SCRIPT
    assert [(one["start"], one["end"]) for one in before["segments"]] == [(0, 17 / 24), (17 / 24, 25 / 24)]
    story(folder="boards")
    shown = board(asked)["segments"]
    assert [one["state"] for one in shown] == ["made"] * 2 and [one["seed"] for one in shown] == [10, 11]
    assert shown[0]["seam"] is None and "frames differ" in shown[1]["seam"] and shown[0]["later"] == 1
    assert pack.nodes.routes.state_card({"file": shown[1]["file"]})["segment_index"] == 1
    # another script's segments are not taken for these
    changed = board({**asked, "edit": {"op": "set", "index": 1, "values": {"prompt": "three", "cut": True}}})
    assert [one["state"] for one in changed["segments"]] == ["made", "waiting"] and changed["segments"][0]["later"] == 0
    story(changed["script"], folder="boards")
    assert [one["state"] for one in board({**asked, "script": changed["script"]})["segments"]] == ["kept", "made"]


@pytest.mark.parametrize(
    "given",
    [None, [], {}, {"script": 3}, {"script": SCRIPT, "folder": "../x"}, {"script": "segments: 3", "folder": "x"}]
    + [
        {"script": SCRIPT, "folder": "x", "edit": edit}
        for edit in ("set", {"op": "set"}, {"op": "burn", "index": 0}, {"op": "move", "index": True, "to": 1})
    ]
    + [
        {"script": SCRIPT, "folder": "x", "edit": {"op": "set", "index": 0, "values": values}}
        for values in ("x", {"seed": float("nan")}, {"image": "../no.png"}, {"prompt": "\ud800"})
    ],
)
def test_what_the_board_refuses(pack, folders, given):
    with pytest.raises(ValueError, match=r"expected|is not in|leaves the output|is empty|cannot be read") as caught:
        pack.nodes.storyboard.storyboard(given)
    assert len(str(caught.value)) <= 300 and isinstance(caught.value, pack.ltx2.errors.Ltx2Error)


def test_errors_name_the_folder_as_it_was_given(story, folders):
    (folders / "output/film").mkdir(parents=True)
    (folders / "output/film/journal.jsonl").write_text("notes of mine\n")
    with pytest.raises(ValueError, match="^film/journal.jsonl is no story's journal") as caught:
        story()
    assert str(folders) not in str(caught.value)
    assert (folders / "output/film/journal.jsonl").read_text() == "notes of mine\n"


def test_notes_of_segments_stand_once_with_their_numbers(pack):
    lines = [
        "segment 1 of 2: a",
        "segment 1: sound",
        "segment 2: sound",
        "segment 2: size",
        "writing x.mp4: 2",
        "other",
    ]
    assert pack.nodes.story.notes_of(lines) == ["segments 1, 2: sound", "segment 2: size", "other"]
