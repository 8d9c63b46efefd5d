"""Stories and continuations on tiny checkpoints, through the command line."""

import argparse
import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ltx2 import media, mini
from ltx2.checkpoint.stage_loras import lora_choice
from ltx2.cli import continue_, generate, main, options, story
from ltx2.cli.arguments.speed import byte_size
from ltx2.continuation import load_attachment, save_attachment
from ltx2.errors import CheckpointError, ContinuationError, Ltx2Warning, RequestError, StoryError
from ltx2.film import capture_state, first_segment
from ltx2.film.saved_film import SavedFilm, film_of
from ltx2.stages.given import enhanced
from ltx2.story import from_pipeline
from ltx2.story.script import parse_script
from ltx2.text.writer import TextSampling

from ..parallel.processes import Forked

pytestmark = pytest.mark.usefixtures("loaded_once")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
size: 64x64
seed: 10
preset: ltx2_fast
override: {{denoise.num_inference_steps: 1, refine.num_inference_steps: 2}}
defaults: {{frames: 17}}
segments:
  - a lake
  - {{prompt: wind rises{more}}}
  - birds
"""


def models_of(files):
    return [
        "--checkpoint",
        files["transformer"],
        "--text-encoder",
        files["text_encoder"],
        "--upsampler",
        files["spatial_upsampler"],
        "--device",
        "cpu",
        "--dtype",
        "fp32",
    ]


@pytest.fixture
def call(tiny):
    def run(verb, *more):
        parser = argparse.ArgumentParser()
        verbs = parser.add_subparsers()
        verb.add_parser(verbs)
        name = {continue_: "continue"}.get(verb, verb.__name__.rpartition(".")[2])
        args = parser.parse_args([name, *map(str, more), *map(str, models_of(tiny("2.0")))])
        return args.run(args)

    return run


@pytest.fixture
def tell(call, tmp_path):
    """Runs a story in ``tmp_path``; ``more`` goes into its second segment."""

    def run(*arguments, more="", size="64x64", name="s.yaml"):
        (tmp_path / name).write_text(SCRIPT.format(more=more).replace("64x64", size))
        call(story, tmp_path / name, "--work", tmp_path / "work", "--out", tmp_path / "film.mp4", *arguments)
        return sorted((tmp_path / "work" / "segments").iterdir())

    return run


def films_shown(files, folder, capsys):
    """What ``ltx2 state show`` says of the films of those states that know one."""
    capsys.readouterr()
    for file in files:
        assert main(["state", "show", str(folder / file)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("film: ")]
    return [json.loads(line.removeprefix("film: ")) for line in lines]


@pytest.mark.slow
def test_a_chain_of_three_is_a_run_of_one_and_two_continuations(call, tell, tmp_path, capsys):
    segments = tell()
    assert "3 segments made, 0 kept" in capsys.readouterr().err
    request = ["--preset", "ltx2_fast", "--steps", "1", "--override", "refine.num_inference_steps=2"]
    first = ["--size", "64x64", "--frames", "17", "--seed", "10", "--save-state", tmp_path / "0.png"]
    call(generate, "--prompt", "a lake", *request, *first, "--out", tmp_path / "0.mp4")
    call(continue_, tmp_path / "0.png", "--prompt", "wind rises", *request, "--out", tmp_path / "1.mp4")
    last = ["--out", tmp_path / "2.mp4", "--save-state", tmp_path / "2.json"]
    call(continue_, tmp_path / "1.state.png", "--prompt", "birds", *request, *last)
    for index, path in enumerate(("0.png", "1.state.png", "2.json")):
        state = load_attachment(tmp_path / path).state
        # each knows the film that was written with it, which a story's are told by their journal
        assert film_of(state) == SavedFilm(f"{index}.mp4", (17, 8, 8)[index])
        del state.metadata["comfy_ltx2"]["film"]
        again = save_attachment(state, tmp_path / "again.safetensors")
        assert again.read_bytes() == (segments[index] / "state.safetensors").read_bytes(), index
    shown = films_shown(["1.state.png", *(folder / "state.safetensors" for folder in segments)], tmp_path, capsys)
    one, film = ({"file": f"{name}.mp4", "path": str(tmp_path / f"{name}.mp4")} for name in ("1", "film"))
    assert shown == [one | {"frames": 8}, film | {"frames": 33}]
    parts = [media.video_info(tmp_path / f"{i}.mp4") for i in range(3)]
    film = media.video_info(tmp_path / "film.mp4")
    assert (
        [p.frames for p in parts] == [17, 8, 8]
        and film.frames == 33
        and film.samples == round(33 / 24 * film.sample_rate)
    )
    assert parts[1].samples == round(8 / 24 * film.sample_rate)


@pytest.mark.slow
def test_resume_change_and_redo(tell, capsys):
    first = tell()
    capsys.readouterr()
    with pytest.warns(Ltx2Warning, match="size 70x60 became 64x64"):
        assert tell(size="70x60") == first and "0 segments made, 3 kept" in capsys.readouterr().err
    changed = tell(more=", seed: 5")
    told = capsys.readouterr().err
    assert "2 segments made, 1 kept" in told and "2 finished segments that" in told and "--prune removes" in told
    assert set(first) < set(changed) and len(changed) == 5
    tell("--redo", "2", more=", seed: 5")
    told = capsys.readouterr().err
    assert "1 segment made, 2 kept" in told and "came out as it was" in told  # so the third stays
    assert tell() == changed and "0 segments made, 3 kept" in capsys.readouterr().err  # nothing was thrown away
    assert tell("--prune") == first and "2 finished segments that the script no longer asks for are removed" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_takes_are_made_picked_and_told(tell, tmp_path, capsys):
    tell("--redo", "3:new")
    capsys.readouterr()
    assert main(["story", "--status", str(tmp_path / "work")]) == 0
    told = capsys.readouterr().out
    assert "segment 3 take 1: done" in told and "segment 3 take 2 (kept): done" in told and "film.mp4 written" in told
    assert main(["story", "--json", "--status", str(tmp_path / "work")]) == 0
    status = json.loads(capsys.readouterr().out)
    assert [(take["segment"], take["take"], take["kept"], take["state"]) for take in status["takes"]][2:] == [
        (3, 1, False, "done"),
        (3, 2, True, "done"),
    ]
    assert status["film_done"] and not status["at_work"]
    tell("--pick", "3=1", "--json")
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert "0 segments made, 3 kept" in told.err and (result["made"], result["kept"]) == ([], [1, 2, 3])
    assert result["film"] == str(tmp_path / "film.mp4") and Path(result["state"]).is_file()
    assert [seam["segment"] for seam in result["seams"]] == [2, 3]
    tell("--pick", "3=2")
    assert "0 segments made, 3 kept" in capsys.readouterr().err
    assert main(["story", "--status", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"ltx2: {tmp_path} holds no story: name the folder given with --work\n"
    (tmp_path / "film.mp4").write_bytes(b"mine")
    with pytest.raises(StoryError, match="is there already and is not the film"):
        tell()
    assert (tmp_path / "film.mp4").read_bytes() == b"mine"


@pytest.mark.slow
def test_a_killed_run_goes_on(tell, tiny, tmp_path, capsys):
    (tmp_path / "s.yaml").write_text(SCRIPT.format(more=""))
    command = [
        sys.executable,
        "-m",
        "ltx2",
        "story",
        tmp_path / "s.yaml",
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "film.mp4",
    ]
    process = Forked([*command, *models_of(tiny("2.0"))], cwd=ROOT, stderr=subprocess.DEVNULL)
    journal, until = tmp_path / "work" / "journal.jsonl", time.monotonic() + 120
    while (
        not (journal.exists() and b'"segment"' in journal.read_bytes())
        and process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.02)
    process.kill()
    process.wait()
    recorded = journal.read_bytes().count(b'"event": "segment"')
    assert recorded >= 1
    tell()
    assert f"{3 - recorded} segment{'s' * (recorded < 2)} made, {recorded} kept" in capsys.readouterr().err
    assert media.video_info(tmp_path / "film.mp4").frames == 33


def test_what_cannot_work_is_told_before_anything_runs(call, tell, tmp_path):
    with pytest.raises(StoryError, match="line 9.*unknown entry 'colour'"):
        tell(more=", colour: red")
    with pytest.raises(StoryError, match="segments 1 to 3"):
        tell("--redo", "4")
    (tmp_path / "odd.yaml").write_text("size: 64x64\npreset: ltx9\nsegments: [a]")
    with pytest.raises(StoryError, match="odd.yaml, line 3: there is no preset ltx9"):
        call(story, tmp_path / "odd.yaml", "--work", tmp_path / "w", "--out", tmp_path / "x.mp4")
    with pytest.raises(RequestError, match="ends in .mp4"):
        call(story, tmp_path / "odd.yaml", "--work", tmp_path / "w", "--out", tmp_path / "x")
    with pytest.raises(ContinuationError, match="does not exist"):
        call(continue_, tmp_path / "none.png", "--prompt", "x", "--out", tmp_path / "x.mp4")
    with pytest.raises(RequestError, match="expected a name that ends in .png"):
        call(
            continue_,
            tmp_path / "none.png",
            "--prompt",
            "x",
            "--out",
            tmp_path / "x.mp4",
            "--save-state",
            tmp_path / "x.txt",
        )
    state = capture_state(np.zeros((9, 64, 64, 3), np.uint8), None, first_segment(17, Fraction(24)))
    save_attachment(state, tmp_path / "s.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    with pytest.raises(RequestError, match="frames 0 to 8 come from the state"):
        call(
            continue_,
            tmp_path / "s.png",
            "--prompt",
            "x",
            "--out",
            tmp_path / "x.mp4",
            "--image",
            tmp_path / "picture.png",
        )
    assert not (tmp_path / "work" / "segments").exists() and not (tmp_path / "x.mp4").exists()


def test_a_second_run_with_a_cache_opens_no_text_encoder(tmp_path, capsys):
    gemma, cache = tmp_path / "gemma.safetensors", tmp_path / "cache"
    gemma.write_bytes(mini.TEXT_ENCODER.read_bytes())
    script = tmp_path / "film.yaml"
    script.write_text("size: 64x64\ndefaults: {frames: 9}\nsegments: [A red ball jumps.]\n")
    models = ["--checkpoint", "mini", "--text-encoder", str(gemma), "--device", "cpu", "--cache", str(cache)]
    told = ["story", str(script), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "film.mp4"), *models]
    assert main(told) == 0
    before, size = gemma.stat(), gemma.stat().st_size
    gemma.write_bytes(b"x" * size)
    os.utime(gemma, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert main([*told, "--redo", "1:77"]) == 0  # the same prompt, made anew
    assert main(["generate", "--prompt", "A red ball falls.", "--out", str(tmp_path / "x.mp4"), *models]) == 1
    assert "gemma.safetensors" in capsys.readouterr().err
    assert main(["inspect", str(gemma)]) == 1  # it is spoilt indeed
    without = models[:-2]
    given = ["generate", "--prompt", "x", "--out", str(tmp_path / "x.mp4"), *without, "--cache-limit", "1GiB"]
    assert main(given) == 1 and "add --cache DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [("12GiB", 12 << 30), ("1.5 gib", 3 << 29), ("12G", 12 << 30), ("500MB", 500_000_000), ("64k", 65536), ("7", 7)],
)
def test_sizes_as_people_write_them(text, size):
    assert byte_size(text) == size
    for wrong in (f"-{text}", f"{text}s", "", "GiB", "0G", "1e9", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected one such as"):
            byte_size(wrong)


@pytest.mark.slow
def test_prompts_are_written_out_once_and_kept(call, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(enhanced.SAMPLING, "prose", TextSampling(max_new_tokens=5))
    (tmp_path / "s.yaml").write_text(SCRIPT.format(more=", enhance: false").replace("  - birds\n", ""))
    arguments = (story, tmp_path / "s.yaml", "--work", tmp_path / "w", "--out", tmp_path / "film.mp4", "--enhance")
    call(*arguments)
    told = [line for line in capsys.readouterr().err.splitlines() if "prompt by" in line]
    film = (tmp_path / "film.mp4").read_bytes()
    prompts = json.loads(media.video_info(tmp_path / "film.mp4").metadata["enhanced_prompts"])
    assert len(told) == 1 and told[0].endswith(f"seed 10: {prompts[0]}") and prompts[1] == "wind rises"
    assert prompts[0] != "a lake"
    call(*arguments)
    assert "prompt by" not in capsys.readouterr().err and (tmp_path / "film.mp4").read_bytes() == film
    with pytest.raises(CheckpointError, match="does not exist: name a Gemma"):
        call(*arguments, "--enhancer", tmp_path / "none")
    assert main(["story", *map(str, arguments[1:]), "--checkpoint", "mini"]) == 1
    assert "mini reads prompts and cannot write them" in capsys.readouterr().err


def test_what_all_segments_are_told_is_told_once(monkeypatch):
    chosen = "preset ltx2_3_distilled was chosen by the checkpoint's name"

    def job(models, request):
        return SimpleNamespace(notes=(chosen, *(["the prompt is cut"] if "wind" in request.prompt else [])))

    monkeypatch.setattr(from_pipeline, "make_job", job)
    # alike but for their prompts
    shared = from_pipeline.check_story(None, parse_script("segments: [wind rises, a lake, birds]"))
    assert shared == {chosen}
    lines: list[str] = []
    tell = story.telling_once(shared, lines.append)
    for line in ("segment 1 of 2: on gpu 0", f"segment 1: {chosen}", "segment 1: cut", f"segment 2: {chosen}"):
        tell(line)
    assert lines == ["segment 1 of 2: on gpu 0", f"note: {chosen}", "segment 1: cut"]


def test_loras_of_a_script_come_behind_those_of_the_command_line(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "s.yaml").write_text("lora: ['a.safetensors:0.5@2', b.safetensors]\nsegments: [one]\n")
    parser = argparse.ArgumentParser()
    story.add_parser(parser.add_subparsers())
    given = ["story", tmp_path / "s.yaml", "--work", "w", "--out", "f.mp4", "--checkpoint", "c", "--text-encoder", "t"]
    args = parser.parse_args([str(word) for word in [*given, "--lora", "x.safetensors:0.25"]])
    args.before_loading(args)  # as every rank of a run does
    assert story.weight_files(args)[2:] == ["x.safetensors", *(str(tmp_path / f"{n}.safetensors") for n in "ab")]
    found = [(one.strength, one.stage) for one in map(lora_choice, args.lora)]
    assert found == [(0.25, None), (0.5, 2), (1.0, None)]


def test_memory_is_planned_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    out = ["--checkpoint", "mini", "--device", "cpu", "--out", str(tmp_path / "film.mp4")]
    script = tmp_path / "film.yaml"
    script.write_text("size: 128x96\nsegments: [{prompt: A ball., frames: 17}, {prompt: It jumps., frames: 49}]\n")
    asked = {
        "128x96, 25 frames": ["generate", "--prompt", "A ball.", "--seconds", "1", *out],
        "128x96, 49 frames": ["story", str(script), "--work", str(tmp_path / "work"), *out],
    }
    monkeypatch.setattr(options, "load_models", lambda *_, **__: pytest.fail("loaded"))
    for clip, given in asked.items():
        assert main([*given, "--memory", "100MiB"]) == 1
        assert f"too little for {clip}: give 1.1 GiB or more" in capsys.readouterr().err
        assert main([*given, "--memory", "3GiB", "--offload", "layers"]) == 1
        assert "leave --offload out" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*asked["128x96, 25 frames"], "--memory", "3GiB", "--steps", "1"]) == 0
    assert "memory 3 GiB: all networks stay on the device" in capsys.readouterr().err
