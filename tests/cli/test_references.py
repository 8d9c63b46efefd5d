"""``--reference`` and ``--voice``: a control film beside a clip, with an IC-LoRA that says how large it must be, and a
voice before it."""

import argparse
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ltx2 import media
from ltx2.cli import continue_, generate, main
from ltx2.cli.arguments.voices import with_voice
from ltx2.errors import MediaError, RequestError
from ltx2.stages import steps
from ltx2.stages.request import Request
from ltx2.values import Waveform

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """An IC-LoRA of factor 2 and a control film of 17 frames, in which each frame differs."""
    path = tmp_path_factory.mktemp("references")
    with safe_open(tiny("2.0")["distilled_lora"], "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors, path / "control.safetensors", {"modelspec.reference_downscale_factor": "2"})
    save_file(tensors, path / "other.safetensors", {"reference_downscale_factor": "4"})
    frames = np.random.default_rng(0).integers(0, 255, (17, 48, 48, 3), dtype=np.uint8)
    media.write_video(path / "control.mp4", frames, fps=24)
    speech = torch.sin(torch.arange(64_000) * (2 * math.pi * 220 / 16_000))
    media.write_wav(path / "voice.wav", Waveform(speech[None], 16_000))
    return path


@pytest.fixture
def voices():
    """The voice that each stage of the last call heard."""
    return []


@pytest.fixture
def call(tiny, folder, monkeypatch, voices):
    """Runs a verb with tiny models; returns what each stage was shown."""
    files, shown = tiny("2.0"), []
    really = steps.denoise

    def denoise(*args, conditioning, **options):
        shown.append(conditioning.references)
        voices.append(conditioning.voice)
        return really(*args, conditioning=conditioning, **options)

    monkeypatch.setattr(steps, "denoise", denoise)

    def run(verb, *more):
        shown.clear()
        voices.clear()
        parser = argparse.ArgumentParser()
        module = {"generate": generate, "continue": continue_}[verb.split()[0]]
        module.add_parser(parser.add_subparsers())
        fixed = {
            "--checkpoint": files["transformer"],
            "--text-encoder": files["text_encoder"],
            "--upsampler": files["spatial_upsampler"],
            "--prompt": "a lake",
            "--preset": "ltx2_fast",
            "--steps": 1,
            "--device": "cpu",
            "--dtype": "fp32",
            "--lora": folder / "control.safetensors",
        }
        args = parser.parse_args(
            [*verb.split(), *(str(part) for pair in fixed.items() for part in pair), *map(str, more)]
        )
        args.run(args)
        return list(shown)

    return run


SIZE = ("--size", "128x128", "--frames", "9", "--seed", "3")


def test_a_clip_and_the_next_one_follow_a_control_film(call, folder, tmp_path, capsys):
    control = folder / "control.mp4"
    state, size = tmp_path / "1.png", ("--size", "128x128", "--frames", 17)
    first, second = call(
        "generate", *size, "--reference", f"{control}:0.9", "--out", tmp_path / "1.mp4", "--save-state", state
    )
    # of two stages the first, at half of the clip's half size
    assert [(one.latent.shape[2:], one.downscale, one.strength) for one in first] == [((3, 1, 1), 2, 0.9)]
    assert not second and "runs as a plain LoRA" not in capsys.readouterr().err
    shown = call(
        f"continue {state}", "--frames", 17, "--reference", control, "--reference-stages", "both",
        "--reference-attention", 0.5, "--out", tmp_path / "2.mp4",
    )  # fmt: skip
    assert [[one.latent.shape[2:] for one in stage] for stage in shown] == [[(3, 1, 1)], [(3, 2, 2)]]
    assert all(torch.equal(one.weights, torch.full((one.tokens,), 0.5)) for stage in shown for one in stage)


def test_what_is_shown_changes_the_clip_and_nothing_of_it_is_left_over(call, folder, tmp_path):
    def made(*more):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        call("generate", *SIZE, *more, "--out", out)
        return np.stack([media.open_image(path) for path in sorted(out.glob("*.png"))])

    plain, with_control = made(), made("--reference", folder / "control.mp4")
    assert plain.shape == with_control.shape == (9, 128, 128, 3) and (plain != with_control).any()
    later = made("--reference", folder / "control.mp4", "--reference-start", 8 / 24)
    assert (later != with_control).any()


def test_what_cannot_be_is_said_before_anything_runs(call, folder, tmp_path):
    control, out = folder / "control.mp4", ("--out", tmp_path / "x.mp4")
    for more, said in (
        (
            ("--size", "64x64", "--frames", "9", "--reference", control),
            "size is 64x64, expected multiples of 128 for two stages and the reference of control.safetensors at the "
            "size divided by 2: use 128x128, or turn snapping on",
        ),
        (
            ("--size", "128x128", "--frames", "25", "--reference", control),
            "lasts 0.71 s, the clip needs it from 0.00 s",
        ),
        ((*SIZE, "--reference-mask", control), "a setting of a reference is given without one"),
        ((*SIZE, "--reference", control, "--reference-mask", control, "--reference-mask", control), "2 masks"),
        ((*SIZE, "--reference", f"{control}:2"), "strength 2, expected 0"),
        (
            (*SIZE, "--lora", folder / "other.safetensors", "--reference", control),
            "control.safetensors expects a .* other.safetensors a .*: use IC-LoRAs that expect the same",
        ),
    ):
        with pytest.raises(RequestError, match=said):
            call("generate", *more, *out)
    with pytest.raises(MediaError, match="has no sound"):
        call("generate", *SIZE, "--voice", control, *out)
    assert not list(tmp_path.iterdir())
    args = ("--size", "64x64", "--frames", "9", "--snap", "--reference", control, "--out", tmp_path / "snapped")
    (one,) = call("generate", *args)[0]
    assert one.latent.shape[3:] == (1, 1) and len(list((tmp_path / "snapped").glob("*.png"))) == 9


def test_an_ic_lora_without_a_reference_and_a_reference_without_one_are_told(call, folder, tmp_path, capsys, tiny):
    call("generate", *SIZE, "--out", tmp_path / "x.mp4")
    assert "is an IC-LoRA" in capsys.readouterr().err
    assert main(["inspect", str(folder / "control.safetensors")]) == 0
    assert "reference video at the size divided by 2" in capsys.readouterr().out


def test_a_clip_and_the_next_one_hear_a_voice(call, folder, tmp_path, voices, capsys):
    voice, state = folder / "voice.wav", tmp_path / "1.png"
    size = ("--size", "64x64", "--frames", 17)
    call("generate", *size, "--voice", voice, "--identity", 0, "--out", tmp_path / "1.mp4", "--save-state", state)
    assert [one.shape[2] for one in voices] == [101] * 2
    assert "no ID-LoRA is loaded" in capsys.readouterr().err
    call(f"continue {state}", "--frames", 17, "--voice", voice, "--out", tmp_path / "2.mp4")
    assert [one.shape[2] for one in voices] == [101] * 2
    with pytest.raises(RequestError, match="--identity says how strongly --voice counts"):
        with_voice(argparse.Namespace(voice=None, identity=3.0), Request())
