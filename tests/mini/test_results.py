"""What the whole way from a script to a film shows and sounds like, on the trained demonstration model."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ltx2 import mini
from ltx2.cli import main
from ltx2.media import read_sound, read_video, write_video, write_wav
from ltx2.values import Waveform
from training import meaning, world
from training.transformer import NEUTRAL, WORDS
from training.world import Subject

FRAMES, STEPS = 25, [3, 2, 2]
STAR = Subject("yellow", "star", "sunset", "side")
STORY = [STAR, STAR.but(motion="up"), STAR.but(motion="up", colour="blue")]


@dataclass(frozen=True)
class Film:
    """Frames [N, 96, 128, 3] in 0…1 and mono samples."""

    frames: np.ndarray
    sound: np.ndarray
    rate: int

    def verdict(self, subjects, steps=STEPS) -> meaning.Verdict:
        return meaning.judge(self.frames, self.sound, self.rate, meaning.story_truth(subjects, steps))


def read_film(path: Path) -> Film:
    clip, sound = read_video(path), read_sound(path)
    return Film(np.asarray(clip.frames, np.float32) / 255, sound.samples.mean(0).numpy(), sound.sample_rate)


def run(script: str, folder: Path, *more: str, out: str = "film.mp4") -> Film:
    """``ltx2 story`` in a folder, which keeps finished segments."""
    path = folder / "story.yaml"
    path.write_text(f"defaults: {{frames: {FRAMES}}}\n{script}", "utf-8")
    words = ["story", path, "--checkpoint", "mini", "--work", folder / "work", "--out", folder / out, *more]
    assert main([str(word) for word in words]) == 0
    return read_film(folder / out)


def prompts(*lines: str) -> str:
    return "segments:\n" + "".join(f"  - {line}\n" for line in lines)


TOLD = prompts(STAR.prompt, "It jumps up and down.", "The star, now blue, jumps up and down.")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A story whose later prompts leave out what goes on, and the folder it was made in, which tests leave as it
    is."""
    folder = tmp_path_factory.mktemp("story")
    return run(TOLD, folder), folder


@pytest.fixture
def own_story(story, tmp_path):
    """The story in a folder of the test's own, which it may change."""
    return story[0], Path(shutil.copytree(story[1], tmp_path / "story"))


def test_the_file_is_what_its_name_says():
    assert mini.is_mini("mini") and not mini.is_mini("other.safetensors")
    assert mini.CHECKPOINT.is_file() and mini.TEXT_ENCODER.is_file()
    assert mini.CHECKPOINT.stat().st_size + mini.TEXT_ENCODER.stat().st_size < 25e6


def test_every_segment_shows_and_sounds_as_it_should(story):
    verdict = story[0].verdict(STORY)
    for segment in verdict.segments:
        assert segment["scene"] == segment["tone"] == segment["motion"] == 1
        assert min(segment["cell"], segment["colour"], segment["shape"], segment["blip"]) == 1
    assert all(verdict.clean)


def test_no_click_at_a_join(story):
    assert story[0].verdict(STORY).level_step < 1


def test_a_changed_prompt_changes_its_segment_alone(own_story, capsys):
    film, folder = own_story
    script = prompts(STAR.prompt, "It jumps up and down.", "The star, now green, jumps up and down.")
    again = run(script, folder, out="green.mp4")
    assert "1 segment made, 2 kept" in capsys.readouterr().err
    joint = world.STEP * sum(STEPS[:2]) + 1
    assert np.abs(again.frames[: joint - 1] - film.frames[: joint - 1]).mean() < 0.01
    assert again.verdict([*STORY[:2], STORY[2].but(colour="green")]).segments[2]["colour"] == 1


def test_a_redo_changes_its_part_alone(own_story, capsys):
    """Another take of the last segment shows the same in other pixels; what comes before stays, picture and sound."""
    film, folder = own_story
    again = run(TOLD, folder, "--redo", "3:new", out="again.mp4")
    assert "1 segment made, 2 kept" in capsys.readouterr().err
    joint = world.STEP * sum(STEPS[:2]) + 1
    moved = np.abs(again.frames - film.frames).mean((1, 2, 3))
    # the film's encoder looks ahead
    assert moved[: joint - 9].max() < 0.001 and moved[: joint - 1].max() < 0.01 and moved[joint + 1 :].min() > 0.001
    samples = round((joint - 1) / world.FPS * film.rate) - film.rate // 10
    assert np.abs(again.sound[:samples] - film.sound[:samples]).max() < 0.002
    for segment in again.verdict(STORY).segments:
        assert min(segment[name] for name in ("cell", "motion", "colour", "scene", "tone")) == 1


def test_a_bridge_fits_on_both_sides(own_story, capsys):
    """The middle is made anew, and the seams on both sides are no worse than before; what is behind is not touched."""
    film, folder = own_story
    before = json.loads((folder / "work/seams.json").read_text())
    again = run(TOLD, folder, "--redo", "2:50", "--bridge", out="again.mp4")
    assert "1 segment made, 2 kept" in capsys.readouterr().err
    for old, new in zip(before, json.loads((folder / "work/seams.json").read_text()), strict=True):
        assert new["frame_difference"] < old["frame_difference"] + 0.3 and new["correlation"] > 0.99
        assert abs(new["loudness_step_db"]) < 1
    verdict = again.verdict(STORY)
    assert min(verdict.segments[1][name] for name in ("cell", "motion", "colour", "scene", "tone")) == 1
    assert verdict.level_step < 1
    moved = np.abs(again.frames - film.frames).mean((1, 2, 3))
    joint = world.STEP * sum(STEPS[:2]) + 1
    assert moved[joint - 14 : joint - 9].max() > moved[joint:].max() / 2


def test_a_draft_is_of_the_same_film_and_stands_beside_it(own_story, capsys):
    film, folder = own_story
    draft = run(TOLD, folder, "--draft", out="draft.mp4")
    assert "draft" in capsys.readouterr().err
    for segment in draft.verdict(STORY).segments:
        assert min(segment[name] for name in ("cell", "motion", "colour", "scene", "tone")) == 1
    run(TOLD, folder)
    assert "0 segments made, 3 kept" in capsys.readouterr().err


def test_a_film_whose_state_is_lost_is_gone_on_from(story, tmp_path):
    """From pixels and samples alone: the object goes on from where it is, in its colour, with its tone."""
    words = ["continue", story[1] / "film.mp4", "--checkpoint", "mini", "--prompt", "It jumps up and down."]
    assert main([str(word) for word in [*words, "--frames", "25", "--out", tmp_path / "longer.mp4"]]) == 0
    film = read_film(tmp_path / "longer.mp4")
    verdict = film.verdict([*STORY, STORY[2]], [*STEPS, 2])
    last = verdict.segments[3]
    assert min(last[name] for name in ("scene", "cell", "colour", "shape", "motion", "tone")) == 1
    assert np.array_equal(film.frames[:57], read_film(story[1] / "film.mp4").frames)


def test_what_comes_before_a_film_leads_to_it(story, tmp_path, capsys):
    """The new part ends as the film begins, in picture and sound; the film stays, bit for bit."""
    source, out = story[1] / "film.mp4", tmp_path / "longer.mp4"
    words = [
        "continue",
        source,
        "--before",
        "--checkpoint",
        "mini",
        "--prompt",
        STAR.prompt,
        "--frames",
        "33",
        "--seed",
        "3",
    ]
    assert main([str(word) for word in [*words, "--out", out]]) == 0
    film, found = read_film(out), read_film(source)
    assert len(film.frames) == 25 + 57 and np.array_equal(film.frames[25:], found.frames)
    steps = np.abs(np.diff(film.frames, axis=0)).mean((1, 2, 3))
    assert steps[24] < 1.2 * np.delete(steps, 24).max() and steps[:24].min() > 0.001
    join = round(25 / 24 * film.rate)
    assert len(film.sound) == round(82 / 24 * film.rate)
    late = slice(film.rate // 8, film.rate)
    assert np.abs(film.sound[join:][late] - found.sound[late]).max() < 0.005
    loud = [float(np.sqrt(np.square(part).mean())) for part in np.split(film.sound[join - 4000 : join + 4000], 8)]
    assert min(loud) > 0.5 * max(loud)
    capsys.readouterr()
    for more, told in (
        (["--save-state", tmp_path / "s.png"], "--save-state is for what comes behind"),
        (["--context", "18"], "expected 8k+1 from 9 on"),
        (["--context", "33"], "33 frames, 32 of which are the film's"),
        (["--image", f"{tmp_path}/x.png@last"], "x.png"),
    ):
        assert main([str(word) for word in [*words, *more, "--out", tmp_path / "no.mp4"]]) != 0
        assert told in capsys.readouterr().err and not (tmp_path / "no.mp4").exists()


def test_a_cut_changes_the_scene(tmp_path):
    night = Subject("red", "ball", "night", "rest")
    script = prompts(STAR.prompt) + f"  - prompt: {night.prompt}\n    cut: true\n"
    film = run(script, tmp_path)
    first, second = Film(film.frames[:FRAMES], film.sound, film.rate), film.frames[FRAMES:]
    assert first.verdict([STAR], [3]).segments[0]["cell"] == 1
    seen = [meaning.look(frame) for frame in second[::8]]
    assert {(one.scene, one.colour, one.shape, one.cell) for one in seen} == {("night", "red", "ball", (1, 1))}


def test_a_silent_film_gets_the_sound_of_what_it_shows(tmp_path):
    """The words say the colour and so the tone; when it is at a wall only the picture tells: it begins half-way up."""
    ball = Subject("red", "ball", "sea", "up")
    way = world.path("up", (1, 2), "", 6)
    truth = meaning.Truth((ball,) * 7, (0,) * 7, way)
    assert way.hits != world.path("up", world.START["up"], "", 6).hits
    frames = np.round(world.render(ball, truth.way) * 255).astype(np.uint8)
    write_video(tmp_path / "silent.mp4", [frames], fps=world.FPS)
    given = ["sound", tmp_path / "silent.mp4", "--checkpoint", "mini", "--prompt", ball.prompt]
    assert main([str(word) for word in (*given, "--out", tmp_path / "film.mp4")]) == 0
    sound = read_sound(tmp_path / "film.mp4")
    heard = meaning.judge(frames / 255, sound.samples.mean(0).numpy(), sound.sample_rate, truth).segments[0]
    assert heard["tone"] == heard["blip"] == 1


@pytest.mark.slow
def test_drift_correction_is_seen(tmp_path):
    """A day that turns to night is what drift correction would call drift: it takes back what it may, 24 levels."""
    day, night = Subject("red", "ball", "day", "rest"), Subject("red", "ball", "night", "rest")
    light = []
    for name, setting in (("off", ""), ("on", "drift_correction: {colour: 1.0}\n")):
        (tmp_path / name).mkdir()
        film = run(setting + prompts(day.prompt, night.prompt), tmp_path / name)
        light.append(film.frames[FRAMES + 8 :].mean() / film.frames[:FRAMES].mean())
    assert light[0] < 0.5 and light[1] > light[0] + 0.05


@pytest.mark.slow
def test_a_lora_is_seen(tmp_path):
    """A LoRA on the connectors that reads "red" as "blue"."""
    lora = tmp_path / "blue.safetensors"
    save_file(reads_as("red", "blue"), lora)
    ball = Subject("red", "ball", "day", "rest")
    plain = run(prompts(ball.prompt), _folder(tmp_path, "plain"))
    blue = run(prompts(ball.prompt), _folder(tmp_path, "blue"), "--lora", str(lora))
    assert plain.verdict([ball], [3]).segments[0]["colour"] == 1
    found = blue.verdict([ball.but(colour="blue")], [3]).segments[0]
    assert found["colour"] == found["scene"] == found["cell"] == found["tone"] == 1


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir(exist_ok=True)
    return parent / name


def reads_as(old: str, new: str) -> dict[str, torch.Tensor]:
    """One hidden unit of each connector's feed-forward answers to the old word alone and adds the new less the old."""
    untouched = "diffusion_model.transformer_blocks.0.attn1.to_q"  # a LoRA is told by the transformer's weights
    tensors = {
        f"{untouched}.lora_{half}.weight": torch.zeros(size) for half, size in (("A", (1, 128)), ("B", (128, 1)))
    }
    with safe_open(mini.CHECKPOINT, "pt") as file:
        for stream in ("video", "audio"):
            table = file.get_tensor(f"text_embedding_projection.{stream}_aggregate_embed.weight").float()
            states = table.shape[1] // 32
            words = torch.nn.functional.rms_norm(table[:, : states * (NEUTRAL + 1) : states].T, table.shape[:1])
            alone = torch.linalg.pinv(words)[:, WORDS.index(old)]  # 1 on this word, 0 on all others
            change = words[WORDS.index(new)] - words[WORDS.index(old)]
            block = f"diffusion_model.{stream}_embeddings_connector.transformer_1d_blocks.0.ff.net"
            up = torch.zeros(4 * len(change), 1)
            up[0] = 1
            gain = 8.0  # so that the hidden unit's GELU passes it whole
            tensors[f"{block}.0.proj.lora_A.weight"] = gain * alone[None]
            tensors[f"{block}.0.proj.lora_B.weight"] = up
            tensors[f"{block}.2.lora_A.weight"] = up.T / gain
            tensors[f"{block}.2.lora_B.weight"] = change[:, None]
    return {name: value.contiguous() for name, value in tensors.items()}


def test_a_film_has_its_own_track_to_the_end(tmp_path):
    way = world.path("up", world.START["up"], "", 8)
    track = torch.from_numpy(world.sound("purple", way.hits, 8 * 8 + 1)).float()
    write_wav(tmp_path / "song.wav", Waveform(track, 48000))
    made = run(f"audio: song.wav\n{prompts(STAR.prompt, 'It jumps up and down.')}", tmp_path)
    heard, wanted = made.sound, track.reshape(-1, track.shape[-1]).mean(0).numpy()
    assert len(made.frames) == 2 * FRAMES - 9 and abs(len(heard) - len(made.frames) * 2000) <= 1024
    count = len(made.frames) * 2000
    assert np.square(heard[:count] - wanted[:count]).mean() < 0.05 * np.square(wanted[:count]).mean()
