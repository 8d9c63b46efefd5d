"""What holds for every verb: nothing given is left out in silence, streams and exit statuses."""

import io
import itertools
import json
import os
import sys

import pytest
import torch
from PIL import Image

from ltx2.cli import main
from ltx2.media import write_wav
from ltx2.tiny.write import TinyFile
from ltx2.values import Waveform

pytestmark = pytest.mark.usefixtures("loaded_once")

MINI = ("--checkpoint", "mini", "--device", "cpu")
CLIP = ("generate", *MINI, "--prompt", "a red ball", "--size", "32x32", "--frames", "9", "--steps", "1")


def run(*argv: object) -> int:
    """Exit status of a command line."""
    try:
        return main([str(one) for one in argv])
    except SystemExit as end:
        return int(end.code or 0)


def test_an_empty_text_is_no_name(tmp_path, capsys):
    """As a shell gives it for a variable that is not set; a prompt says itself what is missing."""
    for option in ("--audio", "--voice", "--device", "--image", "--out", "--save-state", "--checkpoint", "--cache"):
        assert run(*CLIP, "--out", tmp_path / "x.mp4", option, "") == 2
        assert f"argument {option}: expected a value, got an empty text" in capsys.readouterr().err
    assert run("retake", "", "--from", "0", *CLIP[1:], "--out", tmp_path / "x.mp4") == 2
    assert "argument FILM: expected a value" in capsys.readouterr().err
    assert run(*CLIP, "--out", tmp_path / "x.mp4", "--prompt", "", "--negative", "") == 1
    assert "the prompt is empty" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given, told",
    [
        (("--image-strength", "0.5"), "--image-strength says how firmly --image is kept"),
        (
            ("--override", "denoise.num_inference_steps=2"),
            "--steps has denoise.num_inference_steps as 1 and --override",
        ),
        (("--override", "denoise.eta=1", "--override", "denoise.eta=0"), "--override has denoise.eta as 1 and"),
        (("--samples", "2", "--seed", 2**64 - 1), "2 clips from seed 18446744073709551615 on"),
        (("--device", "meta"), "device is 'meta', which this machine does not have"),
        (("--audio-start", "-1", "--audio", "{sound}"), "begin at 0 s or more, before its end"),
        (("--checkpoint", "{none}"), "cannot be opened"),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_what_cannot_be_meant_is_refused(given, told, tmp_path, capsys):

    write_wav(tmp_path / "a.wav", Waveform(torch.rand(1, 16000) - 0.5, 16000))
    given = [str(one).format(sound=tmp_path / "a.wav", none=tmp_path / "none.safetensors") for one in given]
    assert run(*CLIP, "--json", "--out", tmp_path / "x.mp4", *given) == 1
    shown = capsys.readouterr()
    assert told in shown.err and told in json.loads(shown.out)["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_settings_that_nothing_reads_are_told(tmp_path, capsys):
    given = ("--nag-alpha", "0.5", "--override", "refine.eta=0.5", "--override", "denoise.stg_scale=1", "--eta", "0.5")
    assert run(*CLIP, "--out", tmp_path / "x.mp4", *given) == 0
    told = capsys.readouterr().err
    for note in ("nag_alpha has no effect", "eta has no effect with euler", "stg_scale has no effect: the transformer"):
        assert note in told
    assert run(*CLIP, "--out", tmp_path / "x.mp4", "--override", "refine.eta=0.5", "--nag", "0", "--nag-tau", "3") == 0
    told = capsys.readouterr().err
    assert "refine.eta has no effect: preset ltx2_mini has no second stage" in told and "nag_tau" not in told


def test_an_upsampler_and_a_second_look_without_a_second_stage_are_told(tiny, tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "map.png")
    files = tiny("2.3")
    models = ("--checkpoint", files["transformer"], "--text-encoder", files["text_encoder"], "--device", "cpu")
    clip = ("--size", "64x64", "--frames", "9", "--steps", "1", "--upsampler", files["spatial_upsampler"])
    shown = ("--reference", tmp_path / "map.png", "--reference-stages", "both", "--preset", "ltx2_3_distilled")
    assert run("generate", *models, *clip, *shown, "--prompt", "a lake", "--out", tmp_path / "x.mp4") == 0
    told = capsys.readouterr().err
    assert f"the upsampler {files['spatial_upsampler'].name} has no effect: preset ltx2_3_distilled" in told
    assert "a reference for both stages is seen by one" in told


def test_results_replace_nothing_that_is_read(tmp_path, capsys, monkeypatch):
    """Nor each other: whatever the option that names it, and by whatever way to it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.mp4", "l.safetensors"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "way").symlink_to(tmp_path)
    image, film, lora = ("--image", "a.png@last:0.5"), tmp_path / "b.mp4", ("--lora", "l.safetensors:0.5@1")
    refused = [
        (*CLIP, *image, "--out", "x.mp4", "--save-state", "way/a.png"),
        (*CLIP, *lora, "--out", "x.mp4", "--save-state", "./l.safetensors"),
        *((*CLIP, option, film, "--out", "b.mp4") for option in ("--audio", "--reference", "--voice")),
        (*CLIP, "--out", "both", "--save-state", "way/both"),
        ("retake", "c.mp4", "--mask", film, *CLIP[1:-6], "--out", "b.mp4"),
        ("continue", film, *CLIP[1:-6], "--out", "way/b.mp4"),
        ("sound", film, *CLIP[1:-6], "--out", "b.mp4"),
    ]
    for argv in refused:
        assert run(*argv) == 1
        assert capsys.readouterr().err.startswith("ltx2: cannot write ")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.mp4", "l.safetensors", "way"}
    assert film.read_bytes() == (tmp_path / "a.png").read_bytes() == b"mine"


def test_what_the_demonstrations_write_replaces_nothing_else(tmp_path, capsys, monkeypatch):
    """Tiny files bear the names of released ones; a demonstration has a folder of its own."""
    released = tmp_path / "models/text_encoders/gemma_3_12B_it.safetensors"
    released.parent.mkdir(parents=True)
    released.write_bytes(b"forty gigabytes")
    files = [TinyFile(f"text_encoders/{name}", (), {}) for name in ("another.safetensors", released.name)]
    monkeypatch.setattr("ltx2.tiny.write.monolith_files", lambda version, seed: files)
    assert run("tiny", tmp_path / "models") == 1
    assert "is there already and is no tiny file" in capsys.readouterr().err
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [released]
    (tmp_path / "work").mkdir()
    for name, told in ((".", "holds other files"), ("story.yaml", "is a file, expected a folder")):
        assert run("demo", "--out", tmp_path / name) == 1
        assert told in capsys.readouterr().err
        (tmp_path / "story.yaml").write_text("segments: [mine]")
    assert run("demo", "--out", tmp_path / "film.mp4") == 1 and not (tmp_path / "film.mp4").exists()
    assert "film.mp4, expected a folder" in capsys.readouterr().err
    assert run("demo", "--out", tmp_path) == 1 and "holds another story" in capsys.readouterr().err
    assert (tmp_path / "work").is_dir() and (tmp_path / "story.yaml").read_text() == "segments: [mine]"


def test_a_story_is_asked_for_one_thing_of_a_segment(tmp_path, capsys):
    (tmp_path / "s.yaml").write_text("segments: [a, b]")
    story = ("story", tmp_path / "s.yaml", *MINI, "--work", tmp_path / "work", "--out", tmp_path / "x.mp4")
    for given, told in (
        (("--redo", "2", "--redo", "2:new"), "segment 2 is to be made again in two ways: keep one"),
        (("--pick", "2=1", "--pick", "2=2"), "--pick names takes 1 and 2 of segment 2: keep one"),
        (("--status", tmp_path, "--prune"), "--status tells how far a story is and changes nothing: leave --prune out"),
    ):
        assert run(*story, *given) == 1
        assert told in capsys.readouterr().err and not (tmp_path / "work").exists()


def test_a_working_folder_that_is_gone_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    assert run("inspect", "mini") == 1
    assert "the folder that this was started in is gone" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_error(monkeypatch, capfd):
    """Whether the pipe is found broken while a verb writes, or only when what is left is written at its end."""
    verbs = (("inspect", "mini"), ("inspect", "mini", "--json"), ("--version",), ("generate", "--help"))
    for verb, room in itertools.product(verbs, (-1, 64)):
        reader, writer = os.pipe()
        os.close(reader)
        with monkeypatch.context() as patch, open(writer, "w", room, encoding="utf-8") as pipe:
            patch.setattr(sys, "stdout", pipe)
            # the parser itself lets a failed write go
            assert run(*verb) in ((141, 0) if verb[0] == "generate" else (141,))
        assert capfd.readouterr().err == ""


def test_streams_that_lack_letters_or_are_not_there(monkeypatch, tmp_path):
    """Letters that an encoding lacks are escaped; what is told goes nowhere, not to the result, without an error
    stream."""
    shown = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
        patch.setattr(sys, "stderr", None)
        patch.setattr(sys, "stdin", None)
        assert run("generate", "--help") == 0 and b"NAME=SHARE,\\u2026" in shown.getvalue()
        shown.seek(0), shown.truncate()
        assert run("inspect", tmp_path / "none", "--json") == 1
        assert "none" in json.loads(shown.getvalue())["error"] and sys.stderr is not None
        sys.stderr.close(), sys.stdin.close()
