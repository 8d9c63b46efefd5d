"""``ltx2 dub`` on tiny models: what the stages see and hear, the film that comes out, and what is refused."""

import argparse
from fractions import Fraction

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ltx2 import media
from ltx2.cli.films import dub
from ltx2.errors import RequestError
from ltx2.stages import steps

from ..media.films import grey, make_film, sound_of
from .test_story_cli import models_of

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """Films of 12 frames at 8 fps with sound and without, and a LoRA that wants its reference at half the size."""
    path = tmp_path_factory.mktemp("dubbed")
    with safe_open(tiny("2.0")["distilled_lora"], "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors, path / "dub-it.safetensors", {"reference_downscale_factor": "2"})
    make_film(path / "film.mp4", grey(12, 100, 100), fps=8, sound=sound_of(Fraction(12, 8), 44100))
    make_film(path / "long.mp4", grey(170, 16, 16), fps=8, sound=sound_of(Fraction(170, 8), 8000))
    make_film(path / "silent.mp4", grey(12, 100, 100))
    return path


@pytest.fixture
def call(tiny, folder, tmp_path, monkeypatch):
    """Runs ``ltx2 dub`` on a film; returns the new film and what each stage started from."""
    stages, really = [], steps.denoise

    def denoise(*args, conditioning, **options):
        stages.append(conditioning)
        return really(*args, conditioning=conditioning, **options)

    monkeypatch.setattr(steps, "denoise", denoise)

    def run(film, *more):
        parser = argparse.ArgumentParser()
        dub.add_parser(parser.add_subparsers())
        out = tmp_path / "out.mp4"
        asked = ["dub", folder / film, "--prompt", 'She says "guten Tag".', "--preset", "ltx2_fast", "--steps", 1]
        asked += [
            "--lora",
            folder / "dub-it.safetensors",
            "--out",
            out,
            *models_of(tiny("2.0")),
            "--dtype",
            "fp32",
            *more,
        ]
        args = parser.parse_args([str(word) for word in asked])
        args.run(args)
        return out, stages

    return run


def test_a_film_is_spoken_anew(call, tiny, capsys):
    out, (first, second) = call("film.mp4", "--upsampler", tiny("2.0")["spatial_upsampler"])
    made = media.read_video(out)
    assert made.frames.shape == (9, 128, 128, 3)
    assert abs(made.sound.samples.shape[1] - 9 / 8 * made.sound.sample_rate) < 2
    # the film at half the size of each stage, and its sound before the clip
    assert [[one.downscale for one in stage.references] for stage in (first, second)] == [[2], [2]]
    assert second.references[0].tokens == 4 * first.references[0].tokens
    assert first.voice.shape[2] >= 28 and not first.audio_frozen
    # the second stage leaves the sound as it is, and hears that
    assert second.audio_frozen and torch.equal(second.voice, second.audio)
    said = capsys.readouterr().err
    assert "the last 3 frames of" in said and "plain LoRA" not in said and "was not trained" not in said


def test_what_cannot_be_dubbed_is_refused(call):
    for film, more, said in (
        ("silent.mp4", (), "has no sound: dubbing takes the voice from it"),
        ("long.mp4", (), "lasts 21.25 s, the models see 20 s at once: cut it into pieces"),
        ("film.mp4", ("--seconds", 2), "leave --seconds out"),
    ):
        with pytest.raises(RequestError, match=said):
            call(film, *more)
