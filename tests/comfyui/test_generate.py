"""Generate: chains, pictures, previews, what it says, and the same result as the engine alone."""

import av
import pytest
import torch

from . import samples
from .conftest import REAL
from .shelf import loaded, shelf  # noqa: F401

SMALL = {
    "prompt": "A lake at dawn.", "negative_prompt": "short", "seconds": 33 / 24, "width": 64, "height": 64, "fps": 24.0,
    "preset": "ltx2_fast", "seed": 5, "video_overlap": 9, "audio_overlap": 25,
}  # fmt: skip

SHORT = {"seconds": 17 / 24, "audio_overlap": 17}


@pytest.fixture
def generated(run, loaded):  # noqa: F811
    parts = loaded()
    quick = run("Preset", preset="ltx2_fast", steps=1, refine_steps=0, sampler="euler", two_stages="on").args[0]

    def make(**inputs):
        return run("Generate", settings=quick, **{**SMALL, **parts, **inputs})

    make.parts = parts
    return make


@pytest.mark.slow
def test_three_segments_join_to_a_film(generated, run):
    outputs = [generated(**SHORT)]
    for _ in range(2):
        outputs.append(generated(**SHORT, state=outputs[-1].args[2]))
    assert [one.args[2].segment_index for one in outputs] == [0, 1, 2]
    assert [one.ui["states"][0]["segment_index"] for one in outputs] == [0, 1, 2]
    segments = {f"segment_{i + 1}": one.args[3] for i, one in enumerate(outputs)}
    images, audio, fps, report, _ = run(
        "JoinSegments", hold_colour=0.0, hold_contrast=0.0, hold_loudness=0.0, **segments
    ).args
    assert len(images) == 17 + 8 + 8 and audio["waveform"].shape[-1] == round(33 / 24 * audio["sample_rate"])
    assert "seed 7" in outputs[2].args[4] and outputs[2].args[5] == 24.0
    # what is repeated was kept, but for what the decoder makes of it
    assert (outputs[1].args[0][:9] - outputs[0].args[0][-9:]).abs().mean() < 0.2
    assert torch.equal(generated(**SHORT, state=outputs[0].args[2]).args[0], outputs[1].args[0]), "run twice"


def test_all_conditions_of_a_chain_reach_the_segment(generated, run, pack, monkeypatch):
    """Nothing that a chain of nodes holds is left out of what is made."""

    class Seen(Exception):
        pass

    def seen(models, request, *_, **__):
        raise Seen(request)

    monkeypatch.setattr(pack.nodes.generate, "segment_job", seen)
    chain = run("AddImage", image=samples.frames(1), frame=24, strength=0.9).args[0]
    chain = run("AddClip", frames=samples.frames(9), frame=9, strength=0.8, conditions=chain).args[0]
    shown = {"frames": samples.frames(25), "strength": 1.0, "attention": 0.5, "stages": "both stages"}
    chain = run("ReferenceVideo", conditions=chain, **shown).args[0]
    chain = run("ReferenceVoice", voice=samples.sound(2), identity=1.5, conditions=chain).args[0]
    with pytest.raises(Seen) as found:
        generated(conditions=chain)
    (request,) = found.value.args
    assert [len(request.images), len(request.clips), len(request.references)] == [1, 1, 1]
    assert request.voice.identity == 1.5 and float(request.voice.sound.seconds) == 2
    with pytest.raises(ValueError, match="hold a voice already"):
        run("ReferenceVoice", voice=samples.sound(2), identity=3.0, conditions=chain)


def test_a_look_that_is_held_reaches_every_node_that_makes_segments(generated, run, pack, monkeypatch):
    settings = {"contrast": 0.0, "loudness": 0.0, "latent": 0.4, "anchor": 0.3, "strength": 0.95, "settles": 1.0}
    drift = run("HoldLook", colour=0.5, **settings).args[0]
    assert drift.said == {"strength": 0.95, "settles": 0.95, "colour": 0.5, "latent": 0.4, "anchor": 0.3}
    plain = run("HoldLook", colour=0.0, **dict.fromkeys(settings, 0.0) | {"strength": 1.0, "settles": 1.0}).args[0]
    assert plain.said == {}

    class Seen(Exception):
        pass

    def seen(*given, handoff=None, **_):
        raise Seen(handoff or given[3])

    monkeypatch.setattr(pack.nodes.generate, "segment_job", seen)
    with pytest.raises(Seen) as found:
        generated(drift=drift)
    assert found.value.args[0].drift is drift
    monkeypatch.setattr(pack.nodes.films, "go_on", seen)
    monkeypatch.setattr(pack.nodes.films, "film_file", lambda video, hidden: video)
    parts = {name: part for name, part in generated.parts.items() if name != "upsampler"}
    asked = {"prompt": "a", "negative_prompt": "none", "preset": "ltx2_fast", "seed": 1, "seconds": 1.0, "context": 0}
    with pytest.raises(Seen) as found:
        run("ExtendVideo", video="film.mp4", drift=drift, **parts, **asked)
    assert found.value.args[0].drift is drift
    story = pack.nodes.story.with_drift(pack.nodes.story.read("a\nb"), drift)
    assert story.drift is drift
    with pytest.raises(ValueError, match="keep one of them"):
        pack.nodes.story.with_drift(pack.nodes.story.read("drift: {colour: 1}\nsegments: [a, b]"), drift)


@pytest.mark.slow
def test_a_picture_starts_a_film_and_ends_a_continuation(generated):
    plain, picture = generated(**SHORT), samples.frames(1)
    started = generated(**SHORT, image=picture)
    assert not torch.equal(plain.args[0], started.args[0])
    continued, ended = (generated(**SHORT, state=plain.args[2], **more) for more in ({}, {"image": picture}))
    assert not torch.equal(continued.args[0], ended.args[0])


@pytest.mark.slow
def test_adjustments_are_told_and_impossible_things_refused(generated, loaded, folders, run, pack):  # noqa: F811
    made = generated(width=100, seconds=1.0)
    for told in (made.args[4], "\n".join(made.ui["text"])):
        assert "100x64 became 128x64" in told and "128x64, 25 frames at 24 fps" in told
    # the page plays the segment, with its sound
    (shown,) = made.ui["images"]
    path = folders / "temp" / shown["subfolder"] / shown["filename"]
    with av.open(str(path)) as film:
        assert (film.streams.video[0].frames, film.streams.video[0].width) == (25, 128) and film.streams.audio
    # a state and its film are saved under one number
    video, named = pack.nodes.host.InputImpl.VideoFromFile(str(path)), {"filename_prefix": "film/part"}
    for number, film in enumerate((video, made.args[3]), 1):
        saved = run("SaveState", state=made.args[2], form="safetensors", video=film, **named)
        stem = f"part_0000{number}_"
        assert (
            saved.args[1] == f"film/{stem}.safetensors [output]" and saved.ui["images"][0]["filename"] == f"{stem}.mp4"
        )
        with av.open(str(folders / "output/film" / f"{stem}.mp4")) as film:
            assert film.streams.video[0].frames == 25 and film.streams.audio
    with pytest.raises(ValueError, match="the prompt is empty"):
        generated(prompt=" ")
    with pytest.raises(ValueError, match="connect upsampler"):
        generated(upsampler=None)
    state = generated().args[2]
    with pytest.raises(ValueError, match="64x64 px, the next segment is 128x64"):
        generated(state=state, width=128)


def test_the_bar_and_its_previews(generated, monkeypatch):
    import comfy.utils

    reports = []

    def update(self, value, total=None, preview=None):
        reports.append((value, total, preview))

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", update)
    generated()
    values = [value for value, _, _ in reports]
    assert values == sorted(values) and values[-1] == 1000 and {total for _, total, _ in reports} == {1000}
    previews = [preview[1] for _, _, preview in reports if preview is not None]
    assert [preview.size for preview in previews] == [(8, 8), (16, 16), (16, 16)]


@pytest.mark.slow
@pytest.mark.skipif(REAL, reason="the stand-in computes in single precision, as the engine does here")
def test_the_engine_alone_makes_the_same(generated, tiny):
    from ltx2.stages.models import PipelineConfig, load_models
    from ltx2.stages.pipeline import generate
    from ltx2.stages.request import Request
    from ltx2.stages.video_decoding import pictures

    files, single = tiny("2.3"), torch.float32
    models = load_models(
        files["transformer"],
        text_encoder=files["text_encoder"],
        upsampler=files["spatial_upsampler"],
        distilled_lora=files["distilled_lora"],
        config=PipelineConfig(
            transformer=single, text_encoder=single, video_vae=single, upsampler=single, latents=single
        ),
    )
    made = generate(
        models,
        Request(
            prompt="A lake at dawn.",
            preset="ltx2_fast",
            width=64,
            height=64,
            frames=33,
            seed=5,
            audio_rule="ceil",
            overrides={"denoise": {"num_inference_steps": 1, "sampler": "euler"}},
        ),
    )
    images, audio = generated().args[:2]
    assert torch.allclose(images, torch.cat([pictures(piece) for piece in made.pixels()]), atol=2e-3)
    assert (audio["waveform"][0] - made.sound.samples).abs().mean() < 2e-3


def test_the_demonstration_model_is_listed_and_makes_its_film(run, pack):
    """``mini`` stands last in both loaders and needs nothing else: three words come out as they went in."""
    from training import meaning

    host = pack.nodes.host
    assert host.model_names("checkpoints")[-1] == host.model_names("text_encoders")[-1] == "mini"
    assert "mini" not in host.model_names("loras")
    model, video_vae, audio_vae = run("LoadCheckpoint", checkpoint="mini").args[:3]
    (text_encoder,) = run("LoadTextEncoder", text_encoder="mini", model=model).args[:1]
    inputs = {**SMALL, "prompt": "A green star rests at night.", "width": 128, "height": 96, "seconds": 25 / 24}
    inputs |= {"preset": "by the checkpoint's name", "audio_overlap": 49, "negative_prompt": ""}
    parts = {"model": model, "text_encoder": text_encoder, "video_vae": video_vae, "audio_vae": audio_vae}
    made = run("Generate", **{**inputs, **parts}).args
    seen = meaning.look(made[0][-1].float().cpu().numpy())
    assert (seen.scene, seen.colour, seen.shape, seen.cell) == ("night", "green", "star", (1, 1))


class Asked(Exception):
    """What a segment would have been made of."""


@pytest.fixture
def asked(run, loaded, pack, monkeypatch):  # noqa: F811
    """``asked("Generate", …)`` → the job that a node comes to, with nothing sampled."""

    def stop(models, job, **_):
        raise Asked(models, job)

    monkeypatch.setattr(pack.nodes.generate, "generate", stop)

    def ask(**inputs):
        with pytest.raises(Asked) as caught:
            run("Generate", **{**SMALL, **loaded(), **inputs})
        return caught.value.args

    return ask


def test_pictures_at_any_place(run, asked):
    """First, last, and a chain of Add Image, whose place may be the last; all of them are in the one job."""
    one, two, three = (samples.frames(1, start=start) for start in (0, 5, 9))
    chain = run("AddImage", image=three, frame=-1, strength=0.5).args[0]
    chain = run("AddImage", image=two, frame=8, strength=0.7, conditions=chain).args[0]
    _, job = asked(first_image=one, conditions=chain)
    places = {image.frame: image.strength for image in job.request.images}
    assert places == {0: 1.0, 8: 0.7, 32: 0.5} and job.geometry.frames == 33
    assert [image.frame for image in asked(last_image=one, seconds=17 / 24)[1].request.images] == [16]
    own = run("UseAudio", audio=samples.sound(33 / 24)).args[0]
    assert torch.equal(asked(conditions=own)[1].request.audio.samples, own.audio.samples)
    clip = run("PrepareLatent", conditions=chain, width=64, height=64, length=25, unit="frames", fps=0.0).args[0]
    assert [image.frame for image in clip.request.images] == [24, 8]


def test_one_thing_at_one_place(generated, run):
    picture = samples.frames(1)
    state = run("ImagesToState", images=samples.frames(33, 64, 64), fps=24.0, video_overlap=9, audio_overlap=0).args[0]
    carried = run("ContinueFrom", state=state).args[0]
    chain = run("AddImage", image=picture, frame=-1, strength=1.0).args[0]
    for inputs, words in (
        ({"last_image": picture, "conditions": chain}, "a picture of the conditions and last_image stand at the same"),
        ({"image": picture, "first_image": picture}, "image and first_image stand at the same frame"),
        ({"image": picture, "last_image": picture, "state": state}, "image and last_image stand at the same frame"),
        ({"first_image": picture, "state": state}, "connect the picture to last_image"),
        ({"conditions": carried, "state": state}, "leave one of them out"),
    ):
        with pytest.raises(ValueError, match=words):
            generated(**inputs)


def test_the_size_is_the_states_where_none_is_given(run, asked):
    images = samples.frames(33, 100, 70)
    state = run("ImagesToState", images=images, fps=12.0, video_overlap=9, audio_overlap=0).args[0]
    size = asked(state=state, width=0, height=0, fps=0.0)[1].geometry
    assert (size.width, size.height, size.fps) == (64, 128, 12)
    carried = run("ContinueFrom", state=state, strength=0.5).args[0]
    job = asked(conditions=carried, width=0, height=0, fps=0.0)[1]
    assert job.request.clips[0].strength == 0.5
    size = asked(width=0, height=0)[1].geometry
    assert size.width > 64 and size.height > 64, "the preset's"


def test_a_negative_prompt_that_nobody_changed_is_not_told_of(asked):
    def told(**inputs):
        return any("the negative prompt has no effect" in note for note in asked(preset="ltx2_fast", **inputs)[1].notes)

    assert not told(negative_prompt="full") and not told(negative_prompt="none") and told(negative_prompt="rain")
    guided = asked(preset="ltx2_3_base", negative_prompt="full")[1]
    assert guided.request.negative_prompt is None and guided.settings.preset.negative_prompt == "full"


def test_one_wire_carries_all_models(run, loaded, shelf, asked):  # noqa: F811
    """As many as it has; what is connected by itself comes before; the host's own are told what to connect instead."""
    parts, names = loaded(), shelf("2.3")
    nothing = dict.fromkeys(parts)
    bundle = run("Models", **parts).args[0]
    assert run("Models", models=bundle).args[1:] == (*parts.values(), None)
    models, _ = asked(**nothing, models=bundle)
    assert models.transformer is parts["model"].patcher.model
    other = run("ApplyLora", model=parts["model"], lora=names["distilled_lora"], strength=0.5).args[0]
    models, _ = asked(**{**nothing, "model": other}, models=bundle)
    assert models.names != asked(**nothing, models=bundle)[0].names
    given = {"text_encoder": names["text_encoder"], "upsampler": names["spatial_upsampler"]}
    alone = run("LoadCheckpoint", checkpoint=names["transformer"]).args[3]
    whole = run("LoadCheckpoint", checkpoint=names["transformer"], **given).args[3]
    assert set(whole.parts) == set(parts) and set(alone.parts) == {"model", "video_vae", "audio_vae"}
    assert len(whole.get_models()) == 11 and asked(**nothing, models=whole)[1].settings.refine is not None
    fill = {**SMALL, **nothing}
    for inputs, words in (
        ({}, "there is no model: connect models of a loader"),
        ({"models": alone}, "there is no text encoder: choose it in the loader"),
        ({"models": whole, "model": parts["model"].patcher}, "model is ComfyUI's own.*Continuation → AV Latent"),
    ):
        with pytest.raises(ValueError, match=words):
            run("Generate", **{**fill, **inputs})


def test_pictures_of_a_story_are_counted_on_its_film(run, pack, folders):
    story = pack.nodes.story
    script = story.read("defaults: {frames: 33}\nsegments:\n  - one\n  - two\n  - {prompt: three, cut: true}\n")
    picture, found = samples.frames(1), []
    for frame in (0, 32, 33, 56, 57, 89, -1):
        chain = run("AddImage", image=picture, frame=frame, strength=1.0).args[0]
        told = story.with_pictures(script, chain)
        found += [(i, image.frame) for i, segment in enumerate(told.segments) for image in segment.images]
    # segment 2 repeats nine frames of segment 1, and 3 begins a scene
    assert found == [(0, 0), (0, 32), (1, 9), (1, 32), (2, 0), (2, 32), (2, None)]
    (file,) = (folders / "temp" / "continuum").iterdir()
    assert file == told.segments[2].images[0].path and file.suffix == ".png"
    with pytest.raises(ValueError, match="line 5: segment 3 has a picture at that frame already"):
        story.with_pictures(told, chain)
    with pytest.raises(ValueError, match="frame 90 of the film, which has frames 0 to 89"):
        story.with_pictures(script, run("AddImage", image=picture, frame=90, strength=1.0).args[0])
    with pytest.raises(ValueError, match="a story takes pictures"):
        story.with_pictures(script, run("UseAudio", audio=samples.sound(1)).args[0])
