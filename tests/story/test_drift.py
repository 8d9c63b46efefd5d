"""``drift:`` in stories: what a scene is held to begins with its first segment and goes on in tasks and states."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch

from ltx2.cli import continue_, generate
from ltx2.cli.arguments.drift import add_drift_argument, drift_from, with_drift
from ltx2.continuation import load_attachment
from ltx2.errors import RequestError, StoryError
from ltx2.film.drift import read_reference
from ltx2.sampling.channel_statistics import moved, statistics_of
from ltx2.story.tasks import MadeSegment

from .fake import Fake
from .test_chain import file_hashes, folders, run, story

DRIFT = "drift: {colour: 1, loudness: 0.5, latent: 0.4, anchor: 0.3}\n"


class Drifting(Fake):
    """Each segment comes out brighter and louder than what it started from."""

    def __call__(self, task):
        made = super().__call__(task)
        known = 0 if task.clip is None else len(task.clip.frames)
        frames = np.concatenate(list(made.frames)).astype(int)
        base = frames[:1] if not known else task.clip.frames[-1:].astype(int)
        frames[known:] = base + 6
        sound = replace(made.sound, samples=made.sound.samples * 1.2 ** (task.index + 1))
        latent = torch.full((1, 128, 2, 2, 2), float(task.index))
        found = None
        if task.latent_drift is not None:
            found = moved(task.latent_drift.reference, statistics_of(latent))
        return MadeSegment([frames.clip(0, 255).astype(np.uint8)], made.audio_latents, sound, drift_reference=found)


def test_a_scene_is_held_to_its_first_segment_until_a_cut(tmp_path):
    script = story(7, lines={4: "cut: true"}, head=DRIFT)
    _, made = run(script, tmp_path, Drifting(script.fps))
    tasks = made.tasks
    assert [task.anchor is not None for task in tasks] == [False, False, True, True, False, False, True]
    measured = [task.latent_drift.reference for task in tasks]
    assert [found is not None for found in measured] == [False, True, True, True, False, True, True]
    assert measured[1].mean[0] == 0 and measured[2].mean[0] == pytest.approx(0.1) and measured[5].mean[0] == 4
    first = np.array(tasks[1].clip.frames)
    for task in tasks[2:4]:  # each came out brighter by six levels, and starts from the first look again
        assert abs(task.clip.frames.mean() - first.mean()) < 1
        assert np.abs(task.anchor.image.astype(int) - first[-1]).mean() < 3
    assert [task.audio.gain for task in tasks if task.audio is not None] == pytest.approx(
        [1, 1.2**-0.5, 1.2**-1.0, 1, 1.2**-0.5],
        rel=1e-3,  # the tracks end at other phases
    )
    states = [load_attachment(folder / "state.safetensors").state for folder in folders(tmp_path)]
    assert [read_reference(state.metadata).anchor is None for state in states] == [True, False, False, False] + [
        True,
        False,
        False,
    ]
    assert run(script, tmp_path, Drifting(script.fps))[1].calls == []  # all of it is kept
    # other amounts: what begins a scene is only measured
    again = run(replace(script, drift=replace(script.drift, colour=0.5)), tmp_path, Drifting(script.fps))[1].calls
    assert again == [1, 2, 3, 5, 6]


def test_off_is_bit_for_bit_what_it_was(tmp_path):
    for name, head in (("plain", ""), ("off", "drift: {colour: 0, latent: 0}\n")):
        (tmp_path / name).mkdir()
        run(story(3, head=head), tmp_path / name, Drifting())
    assert file_hashes(tmp_path / "plain") == file_hashes(tmp_path / "off")


@pytest.mark.parametrize(
    "text, place, words",
    [
        ("drift: {colour: 2}", (1, 17), "colour is '2', expected 0 to 1"),
        ("drift: {color: 1}", (1, 9), "did you mean colour"),
        ("drift: {settles: 0.5}", (1, 8), "drift has no strength"),
        ("drift: {}", (1, 8), "drift is empty"),
        ("drift: 0.5", (1, 8), "no mapping"),
        ("drift: {loudness: 1}\naudio: song.wav", (1, 19), "the film has its own"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(text, place, words, tmp_path):
    from ltx2.story.script import parse_script

    (tmp_path / "song.wav").write_bytes(b"x")
    with pytest.raises(StoryError, match=words) as told:
        parse_script(f"{text}\nsegments: [a]", tmp_path / "s.yaml")
    assert f"line {place[0]}, column {place[1]}" in str(told.value)


def test_a_bad_value_is_told_before_anything_is_read(tmp_path):
    parser = argparse.ArgumentParser()
    continue_.add_parser(parser.add_subparsers())
    asked = ["nowhere.png", "--checkpoint", "nowhere", "--text-encoder", "nowhere", "--prompt", "a"]
    args = parser.parse_args(["continue", *asked, "--out", str(tmp_path / "film.mp4"), "--drift", "colour=2"])
    with pytest.raises(RequestError, match="colour is 2, expected 0 to 1"):
        args.run(args)


@pytest.mark.parametrize(
    "more, words",
    [
        (["--drift", "colour=0.5"], "colour begins with the clip that goes on"),
        (["--drift", "latent=0.4"], "add --save-state"),
        (["--drift", "latent=0.4", "--save-state", "s.png", "--samples", "2"], "leave --samples out"),
    ],
)
def test_of_a_first_clip_only_what_is_measured_is_taken(tmp_path, more, words):
    parser = argparse.ArgumentParser()
    generate.add_parser(parser.add_subparsers())
    more = [str(tmp_path / word) if word.endswith(".png") else word for word in more]
    args = parser.parse_args(["generate", "--prompt", "a", "--checkpoint", "nowhere", "--text-encoder", "nowhere",
                              "--out", str(tmp_path / "film.mp4"), *more])  # fmt: skip
    with pytest.raises(RequestError, match=words):
        args.run(args)


def test_the_command_line_says_the_same_and_goes_before_the_script():
    parser = argparse.ArgumentParser()
    add_drift_argument(parser)

    def asked(*words):
        return parser.parse_args([piece for word in words for piece in ("--drift", word)])

    script = story(2, head="drift: {strength: 0.9, colour: 0.2}\n")
    merged = with_drift(asked("colour=0.5, anchor=0.3", "latent=.4"), script).drift
    assert merged.said == {"strength": 0.9, "settles": 0.9, "colour": 0.5, "latent": 0.4, "anchor": 0.3}
    assert with_drift(asked(), script) is script and drift_from(asked()) is None
    for text in (
        "colour",
        "colr=1",
        "colour=much",
        "colour=2",
        "colour=nan",
        "settles=1",
        "colour=1,colour=1",
        ",",
        "=",
    ):
        with pytest.raises(RequestError) as told:
            drift_from(asked(text))
        assert "\n" not in str(told.value) and len(str(told.value)) <= 300
