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


@pytest.fixture
def generated(run, loaded):  # noqa: F811
    parts = loaded()
    quick = run("Preset", preset="ltx2_fast", steps=1, refine_steps=0, sampler="euler", two_stages="on").args[0]

    def make(**inputs):
        return run("Generate", settings=quick, **{**SMALL, **parts, **inputs})

    return make


@pytest.mark.slow
def test_three_segments_join_to_a_film(generated, run):
    outputs = [generated()]
    for _ in range(2):
        outputs.append(generated(state=outputs[-1].args[2]))
    assert [one.args[2].segment_index for one in outputs] == [0, 1, 2]
    assert [one.ui["states"][0]["segment_index"] for one in outputs] == [0, 1, 2]
    segments = {f"segment_{i + 1}": one.args[3] for i, one in enumerate(outputs)}
    images, audio, fps, report = run(
        "JoinSegments", hold_colour=0.0, hold_contrast=0.0, hold_loudness=0.0, **segments
    ).args
    assert len(images) == 33 + 24 + 24 and audio["waveform"].shape[-1] == round(81 / 24 * audio["sample_rate"])
    assert "seed 7" in outputs[2].args[4] and outputs[2].args[5] == 24.0
    # what is repeated was kept, but for what the decoder makes of it
    assert (outputs[1].args[0][:9] - outputs[0].args[0][-9:]).abs().mean() < 0.2
    assert torch.equal(generated(state=outputs[0].args[2]).args[0], outputs[1].args[0]), "run twice"


@pytest.mark.slow
def test_a_picture_starts_a_film_and_ends_a_continuation(generated):
    plain, picture = generated(), samples.frames(1)
    started = generated(image=picture)
    assert not torch.equal(plain.args[0], started.args[0])
    continued, ended = generated(state=plain.args[2]), generated(state=plain.args[2], image=picture)
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
