"""``ltx2 sound`` as it is typed."""

import json

import pytest

from ltx2 import media
from ltx2.cli import main
from ltx2.continuation import load_attachment
from ltx2.film.saved_film import SavedFilm, film_of
from ltx2.media import VideoWriter

from ..media.films import grey

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def sound(tiny, tmp_path, monkeypatch):
    """Runs ``ltx2 sound`` with tiny models in a folder with a film; its exit status."""
    monkeypatch.chdir(tmp_path)
    with VideoWriter("film.mp4", fps=24) as writer:
        writer.write_frames(grey(20))
    files = tiny("2.3")
    models = ["--checkpoint", files["transformer"], "--text-encoder", files["text_encoder"], "--dtype", "fp32"]
    return lambda *more: main(["sound", "--prompt", "rain", "--steps", "1", *map(str, (*models, *more))])


def test_a_sound_and_what_follows_it(sound, capsys):
    assert sound("--out", "rain.wav", "--seconds", "1", "--save-state", "rain.png") == 0
    said = capsys.readouterr()
    assert film_of(load_attachment("rain.png").state) is None  # a sound is no film
    assert said.out == "rain.wav\n" and "1 s became 1.042 s" in said.err
    assert media.read_sound("rain.wav").samples.shape == (2, 50000)
    assert sound("rain.png", "--out", "more.wav", "--seconds", "1") == 0
    assert media.read_sound("more.wav").samples.shape == (2, 50000)


def test_sound_for_a_film(sound, capsys):
    assert (
        sound("film.mp4", "--out", "heard.mp4", "--preset", "ltx2_sound_fast", "--json", "--save-state", "s.png") == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["seed"], told["windows"], told["seconds"]) == ("heard.mp4", 10, 1, 20 / 24)
    assert told["preset"] == "ltx2_sound_fast" and told["state"] == "s.png"
    assert film_of(load_attachment("s.png").state) == SavedFilm("heard.mp4", 20)
    info = media.video_info("heard.mp4")
    assert (info.frames, info.samples, info.sample_rate) == (20, 40000, 48000)
    assert "ltx2_sound_fast" in info.metadata["ltx2"]


@pytest.mark.parametrize(
    "more, sentence",
    [
        (("--out", "x.mp3"), "ends in .wav"),
        (("film.mp4", "--out", "x.wav"), "ends in .mp4"),
        (("film.mp4", "--out", "film.mp4"), "it is the film that sound is made for"),
        (("film.mp4", "--out", "x.mp4", "--seconds", "3"), "leave --seconds and --fps out"),
        (("none.mp4", "--out", "x.mp4"), "none.mp4"),
        (("none.png", "--out", "x.wav"), "none.png"),
        (("--out", "nowhere.mp4/x.wav", "--save-state", "x.mp4"), "expected a name that ends in .png"),
        (("--out", "x.wav", "--seconds", "-1"), "expected more than 0"),
        (("--out", "x.wav", "--seed", "-1"), "seed is -1"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(sound, capsys, more, sentence):
    assert sound(*more) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert sentence in said[-1] and len(said[-1]) <= 310
