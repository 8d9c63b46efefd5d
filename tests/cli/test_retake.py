"""``ltx2 retake`` on tiny models: what is made anew, what stays bit for bit, what is refused."""

import argparse
import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ltx2 import media
from ltx2.cli.films import retake
from ltx2.errors import Ltx2Error

from ..media.films import grey, make_film, sound_of
from .test_story_cli import models_of

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def take(tiny, tmp_path):
    """Runs ``ltx2 retake`` with tiny models; returns the new film's path."""

    def run(film, *more):
        parser = argparse.ArgumentParser()
        retake.add_parser(parser.add_subparsers())
        out = tmp_path / "out.mp4"
        asked = ["retake", film, "--prompt", "wind", "--preset", "ltx2_distilled", "--steps", "1", *more, "--out", out]
        args = parser.parse_args([str(word) for word in [*asked, *models_of(tiny("2.0"))]])
        args.run(args)
        return out

    return run


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A film of 60 frames at 25 fps with a keyframe every 12."""
    path = tmp_path_factory.mktemp("found") / "found.mp4"
    sound = sound_of(Fraction(60, 25), 44100)
    return make_film(path, grey(60, 64, 96), fps=25, sound=sound, options={"g": "12", "bf": "2"})


def packets(path, kind):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(getattr(file.streams, kind)[0]) if packet.size]


def test_a_part_is_made_anew_and_all_else_stays(take, found, capsys):
    out = take(found, "--from", "1.2", "--to", "1.6", "--json")
    told = capsys.readouterr()
    assert "made anew: frames 25 to 40 (1.00 to 1.64 s) and sound from 1.17 to 1.61 s" in told.err
    anew = "the picture of found.mp4 is encoded anew from 0.96 s on, what is before stays packet by packet"
    assert anew in told.err and anew in json.loads(told.out)["notes"]
    assert packets(out, "video")[:24] == packets(found, "video")[:24]  # up to the keyframe before the part
    before, after = media.read_video(found), media.read_video(out)
    change = np.abs(after.frames.astype(int) - before.frames.astype(int)).mean((1, 2, 3))
    assert len(change) == 60 and not change[:24].any()
    assert max(change[24], *change[41:]) < 4 < min(change[25:41])
    assert after.sound.samples.shape[1] == before.sound.samples.shape[1] == round(2.4 * 44100)
    off = (after.sound.samples - before.sound.samples).abs().amax(0)
    assert off[: int(1.1 * 44100)].max() == 0 and off[int(1.7 * 44100) :].max() < 0.05 < off.max()


def test_a_stream_that_stays_is_taken_over_as_it_is(take, found):
    out = take(found, "--from", "1.2", "--to", "1.6", "--sound")
    assert packets(out, "video") == packets(found, "video") and packets(out, "audio") != packets(found, "audio")
    out = take(found, "--from", "1.2", "--picture")
    kept = packets(found, "audio")
    assert packets(out, "audio")[: len(kept) - 4] == kept[:-4] and packets(out, "video") != packets(found, "video")


def test_a_mask_says_where(take, found, tmp_path):
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = take(found, "--mask", tmp_path / "mask.png")
    change = np.abs(media.read_video(out).frames.astype(int) - media.read_video(found).frames.astype(int))
    assert change[:, :, :44].max() < 12 < change[:, :, 66:].mean()
    film = make_film(tmp_path / "mask.mp4", np.repeat(mask[None, ..., None], 59, 0).repeat(3, -1), fps=25)
    with pytest.raises(Ltx2Error, match=r"the mask mask.mp4 has 59 frames, found.mp4 has 60"):
        take(found, "--mask", film)
    Image.fromarray(mask[:, :64]).save(tmp_path / "square.png")
    with pytest.raises(Ltx2Error, match="the mask is 64x64, the film 96x64: give a mask of the film's shape"):
        take(found, "--mask", tmp_path / "square.png")
    Image.fromarray(mask * 0).save(tmp_path / "black.png")
    with pytest.raises(Ltx2Error, match="the mask is black"):
        take(found, "--mask", tmp_path / "black.png")


def test_what_is_refused_before_anything_is_made(take, found, tmp_path):
    silent = make_film(tmp_path / "silent.mp4", grey(30, 64, 64))
    for film, more, words in (
        (found, ("--from", "2", "--to", "9"), "found.mp4 lasts 2.40 s"),
        (silent, ("--sound",), "has no sound that could be made anew"),
        (found, (), "nothing says what is to be made anew"),
        (found, ("--sound", "--mask", "m.png"), "a mask is of the picture"),
        (found, ("--to", "1", "--seconds", "3"), "leave --seconds out"),
        (found, ("--to", "1", "--samples", "3"), "leave --samples out"),
    ):
        with pytest.raises(Ltx2Error, match=words):
            take(film, *more)
    assert not (tmp_path / "out.mp4").exists()


def test_a_silent_film_keeps_its_silence(take, tmp_path):
    silent = make_film(tmp_path / "silent.mp4", grey(20, 64, 64))
    out = take(silent, "--from", "0.4")
    info = media.video_info(out)
    assert info.frames == 20 and not info.sample_rate


def test_known_clips_lie_on_the_grid_and_masks_are_of_latents():
    from ltx2.stages.conditioning import condition_video, latent_mask
    from ltx2.values import ClipCondition

    seen = []

    def encode(pixels):
        seen.append(pixels)
        return torch.full((1, 128, (pixels.shape[2] - 1) // 8 + 1, 2, 2), float(len(seen)))

    frames = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    found = condition_video((1, 128, 5, 2, 2), encode, clips=[ClipCondition(frames, frame=17)])
    assert seen[0].shape[2] == 17 and torch.equal(seen[0][:, :, 0], seen[0][:, :, 1])  # the one in front is thrown away
    assert not found.guides and found.video_mask.amax(dim=(0, 1, 3, 4)).tolist() == [1, 1, 1, 0, 0]
    mask = torch.zeros(17, 64, 64)
    mask[9, 40, 10] = 0.3
    cells = latent_mask(mask, 2, 2)
    assert cells.shape == (1, 1, 3, 2, 2) and cells.sum() == cells[0, 0, 2, 1, 0] == 5 / 16
