"""The story node: made, resumed, changed, stopped half-way, refused."""

import pytest

from .shelf import loaded, shelf  # noqa: F401

SCRIPT = (
    "size: 64x64\npreset: ltx2_fast\n"
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
        and shown["file"].startswith("film/segments/0001-")
        and shown["file"].endswith(" [output]")
    )
    assert first.ui["images"] == [{"filename": "film.mp4", "subfolder": "film", "type": "output"}]
    again = story()
    assert "0 segments made, 2 kept" in again.args[2]
    assert "1 segments made, 1 kept" in story(SCRIPT.replace("two", "three")).args[2]
    assert "1 segments made, 1 kept" in story(SCRIPT.replace("two", "three"), redo="1").args[2]


def test_a_stopped_story_goes_on_where_it_was(story, pack, monkeypatch):
    class Stopped(BaseException):
        pass

    host, seen = pack.nodes.host, []
    reporter = host.progress_reporter

    def stopping(*stages, part=0, parts=1):
        seen.append((part, parts))
        if part == 1 and len(seen) == 2:
            raise Stopped
        return reporter(*stages, part=part, parts=parts)

    monkeypatch.setattr(host, "progress_reporter", stopping)
    with pytest.raises(Stopped):
        story(folder="stopped")
    assert "1 segments made, 1 kept" in story(folder="stopped").args[2]
    assert seen == [(0, 2), (1, 2), (1, 2)]


def test_its_state_goes_on_in_other_nodes(story, run):
    shown = story().ui["states"][0]
    assert run("LoadState", file=shown["file"]).args[0].segment_index == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"folder": "../outside"}, "leaves the output folder"),
        ({"folder": "."}, "leaves the output folder"),
        ({"redo": "last"}, "expected segment numbers"),
        ({"redo": "3"}, "segments 1 to 2"),
        ({"script": SCRIPT + "  - prompt: three\n    cut: true\n    image: ../photo.png\n"}, "photo.png"),
        ({"script": "segments: 3"}, "line 1"),
    ],
)
def test_what_it_refuses(story, nodes, folders, options, expected):
    (folders / "photo.png").write_bytes(b"a picture outside the input folder")
    with pytest.raises(ValueError, match=expected):
        story(**options)
    told = nodes["Story"].validate_inputs(**{"script": SCRIPT, "folder": "film", "redo": "", **options})
    assert expected in str(told) or options == {"redo": "3"}


def test_a_deleted_film_is_noticed(story, nodes, folders):
    given = {"script": SCRIPT, "folder": "film", "redo": ""}
    before = nodes["Story"].fingerprint_inputs(**given)
    story()
    after = nodes["Story"].fingerprint_inputs(**given)
    assert before != after == nodes["Story"].fingerprint_inputs(**given)
    (folders / "output/film/film.mp4").unlink()
    assert nodes["Story"].fingerprint_inputs(**given) == before
