"""One road: states go from the command line to the nodes and back, and what cannot work is refused before sampling."""

import argparse

import numpy as np
import pytest
import torch

from ltx2.cli import continue_
from ltx2.cli import generate as generate_verb
from ltx2.continuation import LTX2ContinuationState
from ltx2.errors import ContinuationError

from . import samples
from .shelf import loaded, shelf  # noqa: F401
from .test_generate import SMALL, generated  # noqa: F401
from .test_native import nested
from .test_native import segment as native_segment
from .test_stages import SMALL as CLIP
from .test_stages import contexts, decoded, in_stages, preset

SHORT = ["--frames", "17", "--preset", "ltx2_fast", "--steps", "1"]


@pytest.fixture
def cli(tiny):
    """``cli(verb, …)`` runs a verb of the command line with the tiny models that ``loaded`` gives the nodes."""

    def run(verb, *more, version="2.3"):
        files = tiny(version)
        parser = argparse.ArgumentParser()
        verb.add_parser(parser.add_subparsers())
        name = "continue" if verb is continue_ else "generate"
        models = ["--checkpoint", files["transformer"], "--text-encoder", files["text_encoder"]]
        models += ["--upsampler", files["spatial_upsampler"], "--device", "cpu", "--dtype", "fp32"]
        args = parser.parse_args([name, *map(str, [*more, "--prompt", "a lake", *models])])
        args.run(args)

    return run


@pytest.mark.slow
def test_a_state_goes_from_the_command_line_to_the_nodes_and_back(cli, generated, run, folders, capsys):  # noqa: F811
    inside, outside = folders / "input", folders / "output"
    inside.mkdir(exist_ok=True)
    cli(
        generate_verb, *SHORT, "--size", "64x64", "--out", folders / "0.mp4", "--save-state", folders / "0.png",
        "--seed", 5,
    )  # fmt: skip
    cli(continue_, folders / "0.png", *SHORT[2:], "--out", folders / "1.mp4", "--save-state", inside / "1.png")
    state = run("LoadState", file="1.png").args[0]
    assert state.segment_index == 1 and state.metadata["comfy_ltx2"]["model"] == "LTX-2.3"
    made = generated(state=state, seconds=17 / 24, fps=0.0, audio_overlap=49)
    after = made.args[2]
    theirs, ours = (one.metadata["comfy_ltx2"] for one in (state, after))
    assert after.segment_index == 2 and {name: ours[name] for name in ("model", "file")} == {
        name: theirs[name] for name in ("model", "file")
    }
    assert "made with" not in made.args[4]
    saved = run("SaveState", state=after, filename_prefix="film/two", form="PNG card").args[1]
    card = outside / saved.removesuffix(" [output]")
    capsys.readouterr()
    cli(continue_, card, *SHORT[2:], "--out", folders / "3.mp4", "--save-state", folders / "3.json")
    assert "made with" not in capsys.readouterr().err and (folders / "3.json").is_file()


def test_another_release_is_refused_with_both_named(cli, generated, loaded, run, folders, monkeypatch, pack):  # noqa: F811
    (folders / "input").mkdir(exist_ok=True)
    where = folders / "input" / "0.png"
    cli(
        generate_verb, *SHORT, "--size", "64x64", "--out", folders / "0.mp4", "--save-state", where, version="2.0"
    )  # fmt: skip
    with pytest.raises(ContinuationError, match="comes from LTX-2.0, the next segment is made with LTX-2.3"):
        cli(continue_, where, "--out", folders / "1.mp4", "--preset", "ltx2_fast")
    nothing_runs(monkeypatch, pack)
    state = run("LoadState", file="0.png").args[0]
    both = "comes from LTX-2.0, the next segment is made with LTX-2.3: use the same release"
    with pytest.raises(ValueError, match=both):
        generated(state=state)
    parts = loaded()
    conditions = run("ContinueFrom", state=state).args[0]
    clip = run("PrepareLatent", conditions=conditions, **{**CLIP, "length": 33}).args[0]
    with pytest.raises(ValueError, match=both):
        run("Denoise", model=parts["model"], latent=clip, seed=1, positive=contexts_of(run, parts, monkeypatch))


def contexts_of(run, parts, monkeypatch):
    monkeypatch.undo()
    return contexts(run, parts)["positive"]


def nothing_runs(monkeypatch, pack):
    """From here on no network may work."""

    def never(*args, **keywords):
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(pack.nodes.host, "load", never)


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({"video_overlap": 10}, r"overlap is 10 frames, expected 8k\+1: use 9 or 17"),
        ({"video_overlap": 41}, "overlap is 41 frames but the segment has 33"),
        ({"audio_overlap": -1}, "audio overlap is -1"),
        ({"prompt": ""}, "the prompt is empty"),
    ],
)
def test_what_a_segment_cannot_leave_is_refused_before_sampling(generated, monkeypatch, pack, inputs, words):  # noqa: F811
    nothing_runs(monkeypatch, pack)
    with pytest.raises(ValueError, match=words):
        generated(**inputs)


@pytest.mark.parametrize("name", ["Generate", "MakeState", "AVLatentToState", "ImagesToState", "ContinueFrom"])
def test_overlaps_are_looked_at_before_anything_runs(nodes, name):
    check = nodes[name].validate_inputs
    assert check(video_overlap=9) is True and check(video_overlap=None) is True
    assert "use 9 or 17" in check(video_overlap=12) and "expected 1 to 249" in check(video_overlap=257)
    assert (check(video_overlap=-1) is True) == (name == "ContinueFrom")


def test_a_picture_under_the_carried_frames_is_refused(run, loaded):  # noqa: F811
    state = generated_state(run)
    conditions = run("AddImage", image=samples.frames(1), frame=3, strength=1.0).args[0]
    conditions = run("ContinueFrom", state=state, conditions=conditions).args[0]
    with pytest.raises(ValueError, match="frames 0 to 8 come from the state: give the image a later frame"):
        run("PrepareLatent", conditions=conditions, **{**CLIP, "width": 96, "length": 33, "snap": "off"})


def generated_state(run, frames=33):
    return run("ImagesToState", images=samples.frames(frames), fps=24.0, video_overlap=9, audio_overlap=0).args[0]


def test_a_found_clip_off_the_grid_is_brought_to_it(run, folders):
    images = torch.rand(17, 72, 100, 3)
    state, first = run("ImagesToState", images=images, fps=24.0, video_overlap=9, audio_overlap=0).args
    conditions = run("ContinueFrom", state=state).args[0]
    clip = run("PrepareLatent", conditions=conditions, **{**CLIP, "width": 128, "length": 17}).args[0]
    assert "100x72 px were brought to 128x64" in str(clip)
    latent = run(
        "StateToAVLatent", state=state, vae=samples.FakeVae(), seconds=17 / 24, divide=2, strength=1.0, audio_overlap=-1
    ).args[0]
    assert latent["samples"].unbind()[0].shape[3:] == (1, 2)
    second = type(first)(torch.rand(17, 64, 128, 3), None, clip.timing)
    nothing = {"hold_colour": 0.0, "hold_contrast": 0.0, "hold_loudness": 0.0}
    film, _, _, report, _ = run("JoinSegments", segment_1=first, segment_2=second, **nothing).args
    assert film.shape == (25, 72, 100, 3) and "segment 2 is 128x64 px, it was brought to the film's 100x72" in report


def test_found_sound_stays_where_it_was_and_is_heard(run, folders):
    """36 frames are given, which is not 8k+1, and all are kept; the state carries no sound, since there is no VAE."""
    sound = samples.sound(36 / 24)
    given = {"images": samples.frames(36), "fps": 24.0, "video_overlap": 9, "audio_overlap": 0, "audio": sound}
    state, first = run("ImagesToState", **given).args
    rate = sound["sample_rate"]
    assert state.audio_latents is None
    assert torch.equal(first.waveform.samples, sound["waveform"][0]) and torch.equal(first.frames, given["images"])
    assert "0.50 s of sound after the last frame" in run(
        "ImagesToState", **given | {"audio": samples.sound(2)}
    ).ui["text"][0]  # fmt: skip
    nothing = {"hold_colour": 0.0, "hold_contrast": 0.0, "hold_loudness": 0.0}
    following = run("PrepareLatent", conditions=run("ContinueFrom", state=state).args[0], **{
        **CLIP, "width": 96, "length": 33, "snap": "off",
    }).args[0].timing  # fmt: skip
    for waveform in (None, type(first.waveform)(torch.full((1, 33 * 16000 // 24), 0.25), 16000)):
        second = type(first)(samples.frames(33), waveform, following)
        images, audio, _, report, _ = run("JoinSegments", segment_1=first, segment_2=second, **nothing).args
        heard = audio["waveform"][0]
        assert torch.equal(images[:36], given["images"]) and len(images) == 60
        assert audio["sample_rate"] == rate and heard.shape[1] == 60 * rate // 24
        until = 36 * rate // 24 - rate // 200
        assert torch.equal(heard[:, :until], first.waveform.samples[:, :until])
        assert ("brought to the film's" in report) == (waveform is not None)


@pytest.mark.parametrize("given, carried", [(12, 9), (257, 25), (9, 9)])
def test_what_was_made_is_not_refused_for_its_overlap(run, made, pack, given, carried):
    """An overlap that comes over a wire is not known before: it is brought to what the clip has, and told."""
    after = run("MakeState", latent=made.finished, images=made.images, video_overlap=given, audio_overlap=17)
    told = after.ui["states"][0]["notes"]
    assert len(after.args[0].video_frames) == carried and bool(told) == (given != carried)
    assert all(note.startswith(f"video overlap {given} became {carried}") for note in told)


@pytest.mark.parametrize("size", [(1280, 720), (1280, 736), (854, 480), (100, 70)])
def test_a_state_of_any_size_is_gone_on_from(size):
    """With presets of one stage and of two: each brings the state's frames to the nearest size that it takes."""
    from ltx2.film import condition_next
    from ltx2.stages.geometry import Multiple
    from ltx2.stages.request import Request, resolve_geometry

    state = LTX2ContinuationState(video_frames=[np.zeros((size[1], size[0], 3), np.uint8)] * 9)
    for multiple in (32, 64):
        asked = Request(frames=17, width=size[0], height=size[1], snap=True)
        made = resolve_geometry(asked, multiple=Multiple(multiple))[0]
        following = condition_next(state, 17, size=(made.width, made.height))
        assert (size == (made.width, made.height)) != any("were brought to" in note for note in following.notes)
    with pytest.raises(ContinuationError, match="use the same size"):
        condition_next(state, 17, size=(size[0] * 2 // 64 * 64, size[1] * 2 // 64 * 64))


def test_a_clip_of_a_chain_is_written_with_its_sound_in_place(run, loaded, folders):  # noqa: F811
    """The sound of a continuation starts before its picture; in a file of the clip alone both start together."""
    from ltx2.media import read_video

    parts = loaded()
    one = in_stages(run, parts, run("PrepareLatent", **{**CLIP, "length": 33}).args[0], steps=1)
    images, audio = decoded(run, parts, one)
    state = run("MakeState", latent=one, images=images, audio=audio, video_overlap=9, audio_overlap=33).args[0]
    conditions = run("ContinueFrom", state=state).args[0]
    clip = run("PrepareLatent", conditions=conditions, **{**CLIP, "length": 33}).args[0]
    two = in_stages(run, parts, clip, steps=1)
    _, audio = decoded(run, parts, two)
    run("DecodeToFile", latent=two, video_vae=parts["video_vae"], audio_vae=parts["audio_vae"], filename_prefix="two")
    film = read_video(folders / "output" / "two_00001_.mp4")
    rate = audio["sample_rate"]
    first = round(clip.timing.video_offset_seconds * rate)
    assert first > 0 and len(film.frames) == 33 and film.sound.samples.shape[1] == 33 * rate // 24
    expected = audio["waveform"][0, :, first : first + rate]
    similar = torch.nn.functional.cosine_similarity(film.sound.samples[:, :rate], expected, dim=1)
    wrong = torch.nn.functional.cosine_similarity(film.sound.samples[:, :rate], audio["waveform"][0, :, :rate], dim=1)
    assert (similar > wrong).all() and (similar > 0.5).all()


def native_network(run, loaded, pack, version):  # noqa: F811
    """As much of the host's MODEL as says which release it is."""
    network = torch.nn.Module()
    network.diffusion_model = loaded(version)["model"].patcher.model
    return pack.nodes.host.patcher(network)


def test_the_bridge_knows_the_release_of_a_connected_model(run, loaded, pack, folders, monkeypatch, generated):  # noqa: F811
    monkeypatch.setattr(pack.nodes.host, "with_picture_offset", lambda model, offset: model)
    state = generated().args[2]
    given = {
        "state": state, "vae": samples.FakeVae(), "seconds": 33 / 24, "divide": 1, "strength": 1.0, "audio_overlap": -1
    }  # fmt: skip
    with pytest.raises(ValueError, match="comes from LTX-2.3, the next segment is made with LTX-2.0"):
        run("StateToAVLatent", model=native_network(run, loaded, pack, "2.0"), **given)
    latent = run("StateToAVLatent", model=native_network(run, loaded, pack, "2.3"), **given).args[0]
    frames = {"images": torch.rand(33, 64, 64, 3), "fps": 24.0, "video_overlap": 9, "audio_overlap": 9}
    after = run("AVLatentToState", latent=latent, state=state, **frames).args[0]
    assert after.metadata["comfy_ltx2"]["model"] == "LTX-2.3"
    # what was not connected is not known
    latent = run("StateToAVLatent", **{**given, "audio_overlap": 9}).args[0]
    after = run("AVLatentToState", latent=latent, state=state, **frames).args[0]
    assert "model" not in after.metadata["comfy_ltx2"]


def test_the_bridge_puts_carried_frames_where_the_state_says(run, pack, folders):
    from dataclasses import replace

    (state, _), _ = native_segment(run, pack)
    given = {"vae": samples.FakeVae(), "seconds": 33 / 24, "divide": 1, "strength": 1.0, "audio_overlap": -1}
    result = run("StateToAVLatent", state=replace(state, video_conditioning_frame_idx=2), **given)
    latent, (note,) = result.args[0], result.ui["text"]
    assert "the frames go to latent frame 2" in note
    assert latent["noise_mask"].unbind()[0].flatten().tolist() == [1, 1, 0, 0, 1]
    video = latent["samples"].unbind()[0]
    assert not video[:, :, :2].any() and video[:, :, 2:4].any() and not video[:, :, 4:].any()
    with pytest.raises(ValueError, match="latent frames 4 to 5, the segment has 0 to 4"):
        run("StateToAVLatent", state=replace(state, video_conditioning_frame_idx=4), **given)
    guides = torch.ones(1, 1, 7, 1, 1)
    guides[:, :, 5:] = 0.3
    masked = {
        "samples": nested(pack, torch.zeros(1, 128, 7, 2, 3), torch.zeros(1, 8, 35, 16)),
        "noise_mask": nested(pack, guides, torch.ones(1, 1, 35, 1)),
    }
    with pytest.raises(ValueError, match="the segment has 0 to 4"):
        run("StateToAVLatent", state=replace(state, video_conditioning_frame_idx=4), latent=masked, **given)


def test_one_stage_presets_take_multiples_of_32(run, loaded):  # noqa: F811
    parts, one_stage = loaded(), preset(run, "ltx2_3_distilled", 1)
    given = {**SMALL, "seconds": 9 / 24, "width": 100, "video_overlap": 1, "settings": one_stage, **parts}
    assert "100x64 became 96x64" in run("Generate", **given).args[4]
