"""``--double-rate``: twice the frames for whoever looks, and nothing of it for the segment that goes on."""

import argparse

import pytest

from ltx2 import media
from ltx2.cli import continue_, generate, story
from ltx2.continuation.attachments import attachment_bytes, load_attachment
from ltx2.errors import RequestError
from ltx2.film.provenance import read_provenance
from ltx2.film.saved_film import film_of, with_film

pytestmark = pytest.mark.usefixtures("loaded_once")

SIZE = ("--size", "64x64", "--frames", 17, "--seed", 3)
QUICK = ("--override", "double.sigmas=[0.9,0]")


@pytest.fixture
def call(tiny):
    """Runs a verb with tiny models of 2.3."""
    files = tiny("2.3")

    def run(verb, *more):
        parser = argparse.ArgumentParser()
        module = {"generate": generate, "continue": continue_, "story": story}[str(verb).split()[0]]
        module.add_parser(parser.add_subparsers())
        fixed = [
            ("--checkpoint", "transformer"),
            ("--text-encoder", "text_encoder"),
            ("--upsampler", "spatial_upsampler"),
        ]
        words = [*str(verb).split(), *(part for option, role in fixed for part in (option, files[role]))]
        args = parser.parse_args([str(word) for word in (*words, "--device", "cpu", "--dtype", "fp32", *more)])
        args.run(args)

    run.upsampler = ("--temporal-upsampler", files["temporal_upsampler"])
    return run


def test_going_on_from_a_doubled_film_is_going_on_from_the_film_without_it(call, tmp_path):
    asked = ("--prompt", "a lake", "--preset", "ltx2_fast", "--steps", 1)
    double = ("--double-rate", *call.upsampler, *QUICK)
    for name, more in (("plain", ()), ("double", double)):
        out = ("--out", tmp_path / f"{name}.mp4", "--save-state", tmp_path / f"{name}.safetensors")
        call("generate", *asked, *SIZE, *more, *out)
    state = tmp_path / "double.safetensors"
    without, with_it = (load_attachment(tmp_path / f"{name}.safetensors").state for name in ("plain", "double"))
    assert (film_of(without).file, film_of(without).frames) == ("plain.mp4", 17)
    assert (film_of(with_it).file, film_of(with_it).frames) == ("double.mp4", 33)
    film = film_of(without)
    assert attachment_bytes(with_film(with_it, film), "safetensors") == attachment_bytes(
        with_film(without, film), "safetensors"
    )
    call(f"continue {state}", *asked, *double, "--out", tmp_path / "next.mp4")
    first, following = (media.video_info(tmp_path / name) for name in ("double.mp4", "next.mp4"))
    assert (first.frames, first.fps) == (33, 48)
    assert (following.frames, following.fps) == (16, 48)  # eight new ones, and one in front of each
    timing = read_provenance(load_attachment(tmp_path / "next.state.png").state.metadata, 1).timing
    assert (timing.frames, timing.fps) == (17, 24)


def test_a_story_doubles_every_scene_and_keeps_its_states(call, tmp_path):
    text = "size: 64x64\npreset: ltx2_fast\noverride: {denoise.num_inference_steps: 1, double.sigmas: [0.9, 0.0]}\n"
    text += "defaults: {frames: 17}\nsegments: [one, two, {prompt: three, cut: true}]\n"
    (tmp_path / "plain.yaml").write_text(text)
    (tmp_path / "double.yaml").write_text(f"double_rate: 1\n{text}")
    for name, more in (("plain", ()), ("double", call.upsampler)):
        out = ("--work", tmp_path / name, "--out", tmp_path / f"{name}.mp4")
        call(f"story {tmp_path / name}.yaml", *more, *out)
    plain, doubled = (media.video_info(tmp_path / f"{name}.mp4") for name in ("plain", "double"))
    assert (plain.frames, plain.fps) == (42, 24)
    assert (doubled.frames, doubled.fps) == (2 * 25 - 1 + 2 * 17 - 1, 48)
    states = [sorted((tmp_path / name / "segments").glob("*/state.safetensors")) for name in ("plain", "double")]
    for one, other in zip(*states, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_half_of_what_it_takes_is_refused(call, tmp_path):
    made = ("--prompt", "a lake", *SIZE, "--out", tmp_path / "x.mp4")
    with pytest.raises(RequestError, match="add --double-rate"):
        call("generate", *made, *call.upsampler)
    with pytest.raises(RequestError, match="at the frame rate that it has"):
        out = ("--out", tmp_path / "y.mp4")
        call(f"continue {tmp_path / 'found.mp4'}", "--prompt", "x", *out, "--double-rate", *call.upsampler)
    with pytest.raises(RequestError, match="double_rate is 5, expected 0"):
        call("generate", *made, "--double-rate", 5, *call.upsampler)
