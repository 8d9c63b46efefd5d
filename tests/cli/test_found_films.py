"""Films that were made elsewhere, gone on from by the command line."""

import argparse
import json
from fractions import Fraction

import av
import numpy as np
import pytest

from ltx2 import media
from ltx2.cli import continue_
from ltx2.continuation import load_attachment
from ltx2.errors import Ltx2Error
from ltx2.stages.models import PipelineConfig, load_models
from ltx2.stages.request import Request
from ltx2.story.found import go_on as take_up

from ..media.films import grey, make_film, sound_of
from .test_story_cli import models_of

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def go_on(tiny, tmp_path):
    """Runs ``ltx2 continue`` on a film with tiny models; returns the new film's path."""

    def run(film, *more, out="out.mp4"):
        parser = argparse.ArgumentParser()
        continue_.add_parser(parser.add_subparsers())
        asked = ["--prompt", "wind", "--preset", "ltx2_fast", "--steps", "1", *more, "--out", tmp_path / out]
        parser_args = ["continue", film, *asked, *models_of(tiny("2.0"))]
        args = parser.parse_args([str(word) for word in parser_args])
        args.run(args)
        return tmp_path / out

    return run


def packets(path, kind):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(getattr(file.streams, kind)[0]) if packet.size]


FILMS = {
    "odd size, mono": ({"fps": 25, "sound": sound_of(2, 44100, 1), "layout": "mono"}, (70, 100)),
    "NTSC, six channels": (
        {"fps": "30000/1001", "sound": sound_of(Fraction(1001 * 50, 30000), 48000, 6), "layout": "5.1"},
        (64, 64),
    ),
    "silent, ten bits": ({"fps": 24, "pix_fmt": "yuv420p10le"}, (64, 128)),
    "no sound track kept, 5 fps": ({"fps": 5, "sound": sound_of(10, 48000), "audio": "mp3"}, (64, 64)),
}


@pytest.mark.parametrize("name", FILMS)
def test_any_film_is_gone_on_from_and_stays_as_it_is(name, go_on, tmp_path, capsys):
    options, (height, width) = FILMS[name]
    count = 50
    source = make_film(tmp_path / "found.mp4", grey(count, height, width), **options)
    size = f"{-(-width // 64) * 64}x{-(-height // 64) * 64}"
    out = go_on(source, "--frames", "33", "--context", "17", "--size", size)
    told = capsys.readouterr().err
    before, after = media.video_info(source), media.video_info(out)
    assert packets(out, "video")[:count] == packets(source, "video")
    assert (after.width, after.height) == (before.width, before.height)
    rate = media.found.found_film.model_rate(before.fps)
    with av.open(str(out)) as file:
        times = [float(frame.time) for frame in file.decode(video=0)]
    expected = [i / before.fps for i in range(count)] + [count / before.fps + i / rate for i in range(16)]
    assert np.abs(np.array(times) - times[0] - np.array([float(t) for t in expected])).max() < 2e-3
    # picture and sound end together
    assert after.samples == round((count / before.fps + 16 / rate) * after.sample_rate)
    assert before.channels in (0, after.channels) and before.sample_rate in (0, after.sample_rate)
    if f"{width}x{height}" != size:
        assert f"the model sees it at {size}" in told
    if options.get("audio") is None and before.sample_rate:
        kept = packets(source, "audio")
        assert packets(out, "audio")[: len(kept) - 10] == kept[:-10]  # a tenth of a second goes over into the new part
    state = load_attachment(tmp_path / "out.state.png").state
    assert state.segment_index == 1 and len(state.video_frames) == 9


def test_its_state_says_which_film_it_was_and_length_is_left_to_the_preset(tiny, tmp_path):
    source = make_film(tmp_path / "film.mp4", grey(20, 90, 160), fps=25, sound=sound_of(Fraction(20, 25)))
    files = tiny("2.0")
    models = load_models(
        [files["transformer"]], text_encoder=files["text_encoder"], config=PipelineConfig(device="cpu")
    )
    start = take_up(models, Request(prompt="x", preset="ltx2_distilled"), source)
    size = start.made.job.geometry
    assert (size.width, size.height) == (160, 96) and size.fps == 25 and len(start.film.frames) == 17
    told = start.state.metadata["comfy_ltx2"]["found_film"]
    assert told["name"] == "film.mp4" and len(told["sha256"]) == 64 and told["end_sec"] == [4, 5]
    assert json.dumps(start.state.metadata) and any("has 20 frames" in note for note in start.notes)
    # asked for more than there is, for a film of another size: what was wrong is said before anything is made
    for asked, context, words in (
        (Request(prompt="x"), 25, "has 20 frames, going on from it needs 25"),
        (Request(prompt="x"), 18, "expected 8k+1"),
        (Request(prompt="x", frames=17), 17, "the segment has 17 frames, 17 of which"),
    ):
        with pytest.raises(Ltx2Error, match=words.replace("+", r"\+")):
            take_up(models, asked, source, context=context)


def test_what_is_refused_before_a_model_runs(go_on, tmp_path):
    sound = make_film(tmp_path / "found.mp4", grey(12), sound=sound_of(0.5))
    media.write_wav(tmp_path / "only.wav", sound_of(1))
    short = make_film(tmp_path / "short.mp4", grey(5))
    for film, more, words in (
        (tmp_path / "only.wav", (), "no picture"),
        (short, (), "5 frames"),
        (sound, ("--blobs", tmp_path), "--blobs is for states"),
        (tmp_path / "none.mp4", (), "no such file"),
    ):
        with pytest.raises(Ltx2Error, match=words):
            go_on(film, *more)
    with pytest.raises(Ltx2Error, match="it is the film that is gone on from"):
        go_on(sound, out="found.mp4")
    with pytest.raises(Ltx2Error, match="--context is for films"):
        go_on(tmp_path / "a.png", "--context", "17")
    assert not (tmp_path / "out.mp4").exists()
