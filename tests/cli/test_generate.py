import argparse
import io
import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ltx2 import media
from ltx2.cli import demo, generate, main, options, report
from ltx2.continuation import save_attachment
from ltx2.errors import CheckpointError, Ltx2Warning, MediaError, RequestError
from ltx2.film import LastFrames, capture_state, first_segment
from ltx2.stages.given import enhanced
from ltx2.text.writer import TextSampling
from ltx2.values import Progress, Waveform

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a photo @ home.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def call(tiny):
    """Runs ``ltx2 generate`` with tiny models and the given further arguments."""
    files = tiny("2.0")

    def run(*more, **fields):
        parser = argparse.ArgumentParser()
        verbs = parser.add_subparsers()
        generate.add_parser(verbs)
        frames = fields.get("frames", "9")
        args = parser.parse_args(
            [
                "generate",
                "--checkpoint",
                str(files["transformer"]),
                "--text-encoder",
                str(files["text_encoder"]),
                "--upsampler",
                str(files["spatial_upsampler"]),
                "--prompt",
                "a lake",
                "--size",
                fields.get("size", "64x64"),
                "--preset",
                "ltx2_fast",
                "--steps",
                "1",
                "--device",
                "cpu",
                "--dtype",
                "fp32",
                *(["--frames", frames] if frames else []),
                *map(str, more),
            ]
        )
        return args.run(args)

    return run


@pytest.mark.slow
def test_a_film_from_a_photograph(call, photo, tmp_path, capsys):
    out = tmp_path / "new folder/x.mp4"
    call(
        "--image",
        f"{photo}@0:0.9",
        "--image",
        f"{photo}@last",
        "--seconds",
        "0.4",
        "--seed",
        "3",
        "--out",
        out,
        frames=None,
    )
    printed = capsys.readouterr()
    assert (
        printed.out.split() == [*str(out).split()]
        and "0.4 s became 9 frames" in printed.err
        and "seed 3" in printed.err
    )
    info = media.video_info(out)
    assert (info.frames, info.width, info.height, info.sample_rate) == (9, 64, 64, 24000) and info.samples == 9000
    assert '"prompt": "a lake"' in info.metadata["ltx2"] and '"seed": 3' in info.metadata["ltx2"]
    assert list(out.parent.iterdir()) == [out]


def test_pictures_and_sound_in_a_folder_and_several_samples(call, tiny, tmp_path, capsys):
    lora = tiny("2.0")["distilled_lora"]
    call("--out", tmp_path / "shots", "--samples", "2", "--seed", "4", "--json", "--lora", f"{lora}:0.5@2")
    told = json.loads(capsys.readouterr().out)
    assert [(clip["file"], clip["seed"], clip["state"]) for clip in told["clips"]] == [
        (str(tmp_path / f"shots_{i}"), 3 + i, None) for i in (1, 2)
    ]
    assert (told["preset"], told["width"], told["frames"], told["fps"]) == ("ltx2_fast", 64, 9, "24")
    assert told["spent_seconds"]["denoising"] > 0
    assert f"LoRA {Path(lora).name}: strength 0 in stage 1 and 0.5 in stage 2" in told["notes"]
    for i in (1, 2):
        names = sorted(path.name for path in (tmp_path / f"shots_{i}").iterdir())
        assert names == [*(f"frame_{k:06d}.png" for k in range(9)), "sound.wav"]


def test_sound_of_ones_own(call, tmp_path):
    sound = Waveform(torch.randn(2, 6000).clamp(-1, 1) * 0.5, 16000)
    media.write_wav(tmp_path / "own.wav", sound)
    call("--audio", tmp_path / "own.wav", "--out", tmp_path / "x")
    assert torch.equal(
        media.read_sound(tmp_path / "x/sound.wav").samples, media.read_sound(tmp_path / "own.wav").samples
    )


def test_sound_that_no_film_file_takes_is_brought_to_one_that_does(call, tmp_path, capsys):
    sound = Waveform(torch.randn(3, 37800).clamp(-1, 1) * 0.3, 37800)
    media.write_wav(tmp_path / "own.wav", sound)
    with pytest.warns(Ltx2Warning) as caught:
        call("--audio", tmp_path / "own.wav", "--out", tmp_path / "x.mp4")
    told = " ".join(str(warning.message) for warning in caught) + capsys.readouterr().err
    assert "has 3 channels: they are mixed down" in told and "37800 Hz, it was brought to the film's" in told
    assert "s of sound after the last frame are left out" in told
    assert media.video_info(tmp_path / "x.mp4").sample_rate == 44100


def test_bars_tell_the_time_of_a_step_on_a_terminal_and_nothing_elsewhere(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = {}
    for kind in (Terminal, io.StringIO):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", kind())
            with report.Bars() as bars:
                for stage, total in (("denoising", 2), ("video decoding", 1)):
                    for done in range(total + 1):
                        bars(Progress(stage, done, total))
                options.log("done")
            shown[kind] = sys.stderr.getvalue()
    assert "s/step" in shown[Terminal] and "2/2" in shown[Terminal] and "left" in shown[Terminal]
    assert shown[io.StringIO] == "ltx2: done\n"


def test_an_interruption_leaves_no_half_file(call, tmp_path, monkeypatch):
    def stop(self, progress: Progress):
        if progress.stage == "video decoding" and progress.done:
            raise KeyboardInterrupt

    monkeypatch.setattr(report.Bars, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        call("--out", tmp_path / "x.mp4", frames="17")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, kind, sentence",
    [
        (["--image", "{broken}"], MediaError, "not a readable image"),
        (["--image", "nowhere.png@3:0.5"], MediaError, "nowhere.png: no such file"),
        (["--image", "{photo}@9"], RequestError, "frames 0 to 8"),
        (["--size", "80x64"], RequestError, "use 64x64|use 128x64"),
        (["--size", "big"], RequestError, "WIDTHxHEIGHT"),
        (["--prompt", ""], RequestError, "prompt is empty"),
        (["--override", "refine.colour=1"], RequestError, "refine.colour is no setting"),
        (["--override", "denoise.sigmas=[0.2,0.9,0]"], RequestError, "does not descend"),
        (["--lora", "{lora}:0.5"], CheckpointError, "fits none"),
        (["--checkpoint", "nowhere.safetensors"], CheckpointError, "nowhere.safetensors"),
        (["--device", "abacus"], RequestError, "device is 'abacus'"),
        (["--out", "x.gif"], RequestError, "x.gif"),
        (["--out", "{folder}"], RequestError, "not an empty folder"),
        (["--out", "{folder}/inner.mp4"], RequestError, "it is a folder"),
        (["--out", "{broken}/x.mp4"], RequestError, "broken.png is a file, expected a folder"),
        (["--save-state", "{folder}/inner.png"], RequestError, "it is a folder"),
        (["--save-state", "{broken}.png/x"], RequestError, "x: .* is a file"),
        (["--preset", "ltx2_base", "--override", "denoise.stg_blocks=[99]"], RequestError, "names block 99"),
        (["--override", "denoise.cfg_scale_video=NaN"], RequestError, "expected a number"),
        (["--audio", "{broken}"], MediaError, "broken.png"),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, photo, tmp_path, arguments, kind, sentence):
    broken, lora = tmp_path / "broken.png", tmp_path / "lora.safetensors"
    broken.write_bytes(b"no picture")
    broken.with_name("broken.png.png").write_bytes(b"")
    folder = tmp_path / "folder"
    (folder / "inner.mp4").mkdir(parents=True)
    (folder / "inner.png").mkdir()
    save_file({"blocks.0.lora_A.weight": torch.zeros(2, 3), "blocks.0.lora_B.weight": torch.zeros(3, 2)}, lora)
    arguments = [text.format(broken=broken, photo=photo, lora=lora, folder=folder) for text in arguments]
    with pytest.raises(kind, match=sentence) as caught:
        call("--out", tmp_path / "x.mp4", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.mp4").exists()


def test_a_wrong_command_line_is_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["generate", "--seconds", "nan"])
    assert capsys.readouterr().err.count("\n") == 1


def test_a_clip_longer_than_models_know_is_told_once_and_before_it_is_made(tiny, tmp_path, monkeypatch, capsys):
    def stopped(args):
        raise RequestError("begun")

    state = capture_state(np.zeros((9, 64, 64, 3), np.uint8), None, first_segment(17, Fraction(24)))
    save_attachment(state, tmp_path / "s.png")
    with media.VideoWriter(tmp_path / "f.mp4", fps=24) as writer:
        writer.write_frames(np.zeros((17, 64, 64, 3), np.uint8))
    monkeypatch.setattr(options, "generator", stopped)
    files = tiny("2.0")
    given = ["--checkpoint", files["transformer"], "--text-encoder", files["text_encoder"], "--prompt", "a lake"]
    given += ["--preset", "ltx2_distilled", "--frames", 489, "--out", tmp_path / "x.mp4"]
    for verb in (["generate", "--size", "64x64"], ["continue", tmp_path / "s.png"], ["continue", tmp_path / "f.mp4"]):
        assert main([*map(str, (*verb, *given))]) == 1
        told = capsys.readouterr().err.splitlines()
        assert told.pop() == "ltx2: begun" and sum("s with what it repeats" in line for line in told) == 1, told
        assert "the models were trained up to 20 s" in "".join(told)


def test_a_state_beside_the_film_changes_nothing(call, tmp_path):
    call("--out", tmp_path / "a.mp4")
    call("--out", tmp_path / "b.mp4", "--save-state", tmp_path / "b.png")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_how_pictures_and_strengths_are_written(tmp_path):
    assert options.split_image("a.png") == ("a.png", 0, 1.0, 1.0)
    assert options.split_image("a.png@16:0.5") == ("a.png", 16, 0.5, 1.0)
    assert options.split_image("a.png@0:0.7:.5") == ("a.png", 0, 0.7, 0.5)
    assert options.split_image("a@b.png@last") == ("a@b.png", None, 1.0, 1.0)
    assert options.split_image(r"C:\pictures\a.png@8") == (r"C:\pictures\a.png", 8, 1.0, 1.0)
    strange = tmp_path / "a@3"
    strange.write_bytes(b"")
    assert options.split_image(str(strange)) == (str(strange), 0, 1.0, 1.0)
    for place in ("-1", "first", "5:x", "5:1:1:1", "1.5", "", "²"):
        with pytest.raises(RequestError, match="expected FILE@FRAME:STRENGTH"):
            options.split_image(f"{strange}@{place}")
    for odd in ("a" * 5000, "a\0b@3x", "\ud800@x"):
        assert options.split_image(odd) == (odd, 0, 1.0, 1.0)
    assert options.split_strength("x.safetensors") == ("x.safetensors", 1.0)
    assert options.split_strength(r"C:\x.safetensors:-0.5") == (r"C:\x.safetensors", -0.5)
    assert options.parse_size("768x512") == (768, 512)


def test_the_end_of_a_film_is_kept_while_it_is_written(tmp_path):
    class Film:
        sounds, rounds, base = (None,), 0, None

        def frames(self, index, progress=None):
            for i in range(3):
                yield np.full((3, 32, 32, 3), i, dtype=np.uint8)

    timing, last = first_segment(9, Fraction(24)), LastFrames(7)
    options.write_segment(Film(), timing, tmp_path / "x.mp4", last_frames=last)
    assert last.frames.shape == (7, 32, 32, 3) and last.frames[:, 0, 0, 0].tolist() == [0, 1, 1, 1, 2, 2, 2]
    options.write_segment(Film(), timing, tmp_path / "y.mp4")
    assert (tmp_path / "x.mp4").read_bytes() == (tmp_path / "y.mp4").read_bytes()


@pytest.mark.slow
def test_demo_says_where_the_film_is_and_shows_it(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    out = tmp_path / "demo"
    args = parser.parse_args(["demo", "--out", str(out)])
    args.run(args)
    said = capsys.readouterr()
    assert f"The film is at {out / 'demo.mp4'}" in said.out and str(out / "frames.png") in said.out
    assert "seam before segment 3" in said.err
    info = media.video_info(out / "demo.mp4")
    assert info.frames == 49 + 2 * 40 and info.samples == round(info.frames / 24 * info.sample_rate)
    with Image.open(out / "frames.png") as strip, Image.open(out / "sound.png") as sound:
        assert strip.width > 5 * 256 and strip.height > 3 * 192 and sound.width == 900


def test_a_prompt_is_written_out_and_kept(call, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(enhanced.SAMPLING, "prose", TextSampling(max_new_tokens=6))
    for name in ("a", "b"):
        call("--out", tmp_path / f"{name}.mp4", "--enhance", "--seed", "3")
    kept = [json.loads(media.video_info(tmp_path / f"{name}.mp4").metadata["ltx2"])["prompt"] for name in ("a", "b")]
    assert kept[0] == kept[1] != "a lake" and f"seed 3: {kept[0]}" in capsys.readouterr().err
    call("--out", tmp_path / "c.mp4", "--enhance", "--enhancer", tiny("2.3")["text_encoder"], "--seed", "4")
    assert json.loads(media.video_info(tmp_path / "c.mp4").metadata["ltx2"])["prompt"] not in (kept[0], "a lake")
    for arguments, sentence in (
        (["--enhancer", tmp_path], "--enhancer writes prompts for --enhance"),
        (["--enhance", "--enhancer", tmp_path / "none"], "does not exist: name a Gemma"),
        (["--enhance", "--enhancer", tiny("2.5")["text_encoder"]], "reads prompts and cannot write them"),
    ):
        with pytest.raises((RequestError, CheckpointError), match=sentence):
            call("--out", tmp_path / "d.mp4", *arguments)
    assert not (tmp_path / "d.mp4").exists()
