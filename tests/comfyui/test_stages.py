"""The stage nodes: one way with Generate, interruption, memory modes, the host's own values."""

import numpy as np
import pytest
import torch

from . import samples
from .conftest import REAL
from .shelf import loaded, shelf  # noqa: F401

AS_PRESET = "as the preset says"
SMALL = {"width": 64, "height": 64, "length": 9, "unit": "frames", "fps": 24.0}


def preset(run, name="ltx2_fast", steps=2, **inputs):
    given = {"refine_steps": 0, "sampler": AS_PRESET, "two_stages": AS_PRESET, **inputs}
    return run("Preset", preset=name, steps=steps, **given).args[0]


def contexts(run, parts, prompt="A lake at dawn."):
    encoded = run("EncodePrompt", text_encoder=parts["text_encoder"], prompt=prompt, negative_prompt="short").args
    return dict(zip(("positive", "negative"), encoded))


def in_stages(run, parts, clip, *, name="ltx2_fast", seed=5, steps=2, **inputs):
    """Denoise, Upsample and Refine of a clip."""
    texts = contexts(run, parts)
    vaes = {"video_vae": parts["video_vae"]}
    given = {
        "model": parts["model"],
        "audio_vae": parts["audio_vae"],
        "preset": preset(run, name, steps),
        **texts,
        **vaes,
        **inputs,
    }
    half = run("Denoise", latent=clip, seed=seed, **given).args[0]
    larger = run("Upsample", latent=half, upsampler=parts["upsampler"], **vaes).args[0]
    return run("Refine", model=parts["model"], latent=larger, **texts, **vaes).args[0]


def decoded(run, parts, clip, memory="auto"):
    images, fps = run("DecodeVideo", latent=clip, video_vae=parts["video_vae"], memory=memory).args
    return images, run("DecodeAudio", latent=clip, audio_vae=parts["audio_vae"]).args[0]


@pytest.mark.slow
@pytest.mark.parametrize("version, name", [("2.3", "ltx2_fast"), ("2.5", "ltx2_fast"), ("2.3", "ltx2_hq")])
def test_stage_nodes_and_generate_make_the_same_film(run, loaded, version, name):  # noqa: F811
    parts = loaded(version)
    picture = samples.frames(1)
    conditions = run("AddImage", image=picture, frame=0, strength=1.0).args[0]
    clip = run("PrepareLatent", conditions=conditions, **SMALL).args[0]
    finished = in_stages(run, parts, clip, name=name)
    images, audio = decoded(run, parts, finished)
    made = run(
        "Generate",
        prompt="A lake at dawn.",
        negative_prompt="short",
        seconds=9 / 24,
        width=64,
        height=64,
        fps=24.0,
        preset=name,
        seed=5,
        video_overlap=1,
        audio_overlap=1,
        image=picture,
        settings=preset(run, name),
        **parts,
    ).args
    assert torch.equal(images, made[0]) and torch.equal(audio["waveform"], made[1]["waveform"])
    assert audio["sample_rate"] == made[1]["sample_rate"]
    assert images.shape == (9, 64, 64, 3) and images.dtype == torch.float32
    assert images.std() > 0.01 and 0 <= images.min() <= images.max() <= 1
    state, segment = run(
        "MakeState", latent=finished, images=images, audio=audio, video_overlap=1, audio_overlap=1
    ).args
    assert segment.timing == made[3].timing
    assert all((a == b).all() for a, b in zip(state.video_frames, made[2].video_frames, strict=True))
    assert torch.equal(state.audio_latents, made[2].audio_latents)


def test_a_segment_continues_a_state(run, loaded):  # noqa: F811
    parts = loaded()
    clip = run("PrepareLatent", **{**SMALL, "length": 33}).args[0]
    one = in_stages(run, parts, clip, steps=1)
    images, audio = decoded(run, parts, one)
    state, first = run("MakeState", latent=one, images=images, audio=audio, video_overlap=9, audio_overlap=25).args
    conditions = run("ContinueFrom", state=state).args[0]
    clip, frames, fps = run("PrepareLatent", conditions=conditions, **{**SMALL, "length": 33, "fps": 0.0}).args
    assert (frames, fps) == (33, 24.0) and clip.timing.index == 1 and clip.geometry.video_offset_seconds > 0
    assert clip.geometry.audio_latents == clip.timing.audio_latents
    two = in_stages(run, parts, clip, steps=1)
    assert two.seed == one.seed + 1 == 6
    known = clip.timing.audio_overlap_latents
    assert torch.equal(two.latent.audio[:, :, :known].float(), state.audio_latents[:, :, -known:].float())
    images, audio = decoded(run, parts, two)
    after, second = run("MakeState", latent=two, images=images, audio=audio, video_overlap=9, audio_overlap=25).args
    assert after.segment_index == 1
    film, sound, _, report, _ = run(
        "JoinSegments", segment_1=first, segment_2=second, hold_colour=0.0, hold_contrast=0.0, hold_loudness=0.0
    ).args
    assert len(film) == 33 + 24 and sound["waveform"].shape[-1] == round(57 / 24 * sound["sample_rate"])
    with pytest.raises(ValueError, match="use the same size"):
        run("PrepareLatent", conditions=conditions, **{**SMALL, "length": 33, "width": 128})
    with pytest.raises(ValueError, match="use the same rate"):
        run("PrepareLatent", conditions=conditions, **{**SMALL, "length": 33, "fps": 25.0})


def test_a_clip_that_reaches_too_far_is_noted_where_its_length_is_chosen(run):
    made = run("PrepareLatent", **{**SMALL, "length": 489})
    assert any("reaches 20.38 s" in line for line in made.ui["text"])
    assert not run("PrepareLatent", **SMALL).ui


def test_stage_nodes_and_generate_hold_a_look_alike(run, loaded):  # noqa: F811
    parts, small = loaded(), {"video_overlap": 9, "audio_overlap": 9}
    parts = {name: part for name, part in parts.items() if name != "upsampler"}
    drift = run(
        "HoldLook", colour=0.5, contrast=0.5, loudness=0.5, latent=0.4, anchor=0.3, strength=0.9, settles=0.9
    ).args[0]
    one_step = preset(run, "ltx2_3_distilled", 1)

    def generated(**more):
        asked = {"prompt": "A lake at dawn.", "negative_prompt": "short", "seconds": 17 / 24, "width": 64, "height": 64}
        made = run("Generate", fps=24.0, preset="ltx2_fast", settings=one_step, seed=5, drift=drift, **asked, **small,
                   **parts, **more)  # fmt: skip
        return made.args[2]

    before = generated(state=generated())  # so that there is an anchor, and a loudness to come back to
    conditions = run("ContinueFrom", state=before, drift=drift).args[0]
    clip = run("PrepareLatent", conditions=conditions, **{**SMALL, "length": 17, "fps": 0.0}).args[0]
    assert clip.request.audio.gain != 1 and [image.guide for image in clip.request.images] == [True]
    denoised = run("Denoise", model=parts["model"], latent=clip, seed=5, preset=one_step, **contexts(run, parts),
                   video_vae=parts["video_vae"], audio_vae=parts["audio_vae"]).args[0]  # fmt: skip
    images, audio = decoded(run, parts, denoised)
    after, _ = run("MakeState", latent=denoised, images=images, audio=audio, **small).args
    alone = generated(state=before)
    assert after.metadata == alone.metadata and {"look", "loudness", "latent", "anchor_jpeg"} <= set(
        after.metadata["comfy_ltx2"]["drift"]
    )
    assert all((a == b).all() for a, b in zip(after.video_frames, alone.video_frames, strict=True))
    assert torch.equal(after.audio_latents, alone.audio_latents)
    assert "the scene is held to: colours, loudness, latents, an anchor" in run("InspectState", state=after).args[0]
    with pytest.raises(ValueError, match="leave one of them out"):
        generated(conditions=conditions)


def test_the_order_of_stages_is_checked(run, loaded):  # noqa: F811
    parts = loaded()
    clip = run("PrepareLatent", **SMALL).args[0]
    texts = contexts(run, parts)
    vae = {"video_vae": parts["video_vae"]}
    with pytest.raises(ValueError, match="expected one that was enlarged"):
        run("Refine", model=parts["model"], latent=clip, **texts)
    with pytest.raises(ValueError, match="still empty"):
        run("DecodeVideo", latent=clip, **vae)
    single = run(
        "Denoise", model=parts["model"], latent=clip, seed=1, preset=preset(run, "ltx2_3_distilled", 1), **texts
    ).args[0]
    assert single.stage == "finished" and single.latent.video.shape == (1, 128, 2, 2, 2)
    with pytest.raises(ValueError, match="choose a preset of two stages"):
        run("Upsample", latent=single, upsampler=parts["upsampler"], **vae)
    with pytest.raises(ValueError, match="finished already"):
        run("Denoise", model=parts["model"], latent=single, seed=1, **texts)
    half = run("Denoise", model=parts["model"], latent=clip, seed=1, preset=preset(run, steps=1), **texts).args[0]
    with pytest.raises(ValueError, match="connect the latent that comes out of the last stage"):
        run("MakeState", latent=half, images=samples.frames(9), video_overlap=1, audio_overlap=0)
    with pytest.raises(ValueError, match="negative prompt"):
        run(
            "Denoise",
            model=parts["model"],
            latent=clip,
            seed=1,
            positive=texts["positive"],
            preset=preset(run, "ltx2_3_base", 1),
        )
    with pytest.raises(ValueError, match="no setting of stage denoise"):
        wrong = preset(run, overrides="denoise.nonsense=1")
        run("Denoise", model=parts["model"], latent=clip, seed=1, positive=texts["positive"], preset=wrong)


def test_guidance_sigmas_and_noise_of_ones_own(run, loaded, pack):  # noqa: F811
    parts = loaded()
    clip = run("PrepareLatent", **SMALL).args[0]
    texts = contexts(run, parts)
    given = {"model": parts["model"], "latent": clip, "seed": 1, "preset": preset(run, "ltx2_3_distilled", 2), **texts}
    values = {"cfg": 1.5, "modality": 1.0, "stg": 1.0, "rescale": 0.5}
    scales = {f"{name}_{stream}": value for name, value in values.items() for stream in ("video", "audio")}
    guidance = run("Guidance", stg_blocks="0", **scales).args[0]
    plain, guided = run("Denoise", **given).args[0], run("Denoise", guidance=guidance, **given).args[0]
    assert not torch.equal(plain.latent.video, guided.latent.video) and "cfg_scale_video 1.5" in str(guidance)
    off = {name: 0.0 if name.startswith(("stg", "rescale")) else 1.0 for name in scales}
    nag = run("Guidance", **off, nag_scale=11.0).args[0]
    none = run("Guidance", **off).args[0]
    unguided, negated = (run("Denoise", guidance=one, **given).args[0] for one in (none, nag))
    assert torch.equal(unguided.latent.video, plain.latent.video)
    assert not torch.equal(negated.latent.video, plain.latent.video)
    choices = {"preset": "ltx2_3_distilled", "steps": 2, "refine_steps": 0, "nag": 11.0}
    chosen = run("Preset", **choices, sampler="as the preset says", two_stages="off").args[0]
    by_preset = {**given, "preset": chosen}
    assert torch.equal(run("Denoise", **by_preset).args[0].latent.video, negated.latent.video)
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    assert not torch.equal(run("Denoise", sigmas=sigmas, **given).args[0].latent.video, plain.latent.video)

    class Noise:
        seed = 3

        def generate_noise(self, latent):
            self.shapes = [tuple(part.shape) for part in latent["samples"].unbind()]
            generator = torch.Generator().manual_seed(self.seed)
            return pack.nodes.host.nested(*(torch.randn(shape, generator=generator) for shape in self.shapes))

    noise = Noise()
    other = run("Denoise", noise=noise, **given).args[0]
    assert noise.shapes == [(1, 128, 2, 2, 2), (1, 8, clip.timing.audio_latents, 16)]
    assert not torch.equal(other.latent.video, plain.latent.video)
    assert torch.equal(other.latent.video, run("Denoise", noise=noise, **given).args[0].latent.video)


@pytest.mark.slow
def test_memory_modes_and_files(run, loaded, folders):  # noqa: F811
    from ltx2.media import read_video

    parts = loaded()
    finished = in_stages(run, parts, run("PrepareLatent", **{**SMALL, "length": 25}).args[0], steps=1)
    whole, audio = decoded(run, parts, finished, "whole")
    for memory in ("auto", "streaming"):
        assert torch.allclose(decoded(run, parts, finished, memory)[0], whole, atol=2e-3), memory
    assert decoded(run, parts, finished, "tiled")[0].shape == whole.shape
    given = {"latent": finished, "video_vae": parts["video_vae"], "filename_prefix": "film/part", "crf": 10}
    result = run("DecodeToFile", audio_vae=parts["audio_vae"], memory="auto", **given)
    video, name = result.args
    assert name == "film/part_00001_.mp4 [output]" and result.ui["animated"] == (True,)
    assert result.ui["images"] == [{"filename": "part_00001_.mp4", "subfolder": "film", "type": "output"}]
    clip = read_video(folders / "output" / "film" / "part_00001_.mp4")
    assert len(clip.frames) == 25 and clip.sound.samples.shape[-1] == round(25 / 24 * audio["sample_rate"])
    difference = abs(torch.as_tensor(clip.frames[0]).float() / 255 - whole[0]).mean()
    assert difference < 0.05
    silent = run("DecodeToFile", memory="streaming", **given)
    assert silent.args[1] == "film/part_00002_.mp4 [output]"


@pytest.fixture(scope="module")
def whole_run(run, parts):
    """Generate's inputs for a short film, and the film."""
    given = {
        "prompt": "A lake.", "negative_prompt": "", "seconds": 9 / 24, "width": 64, "height": 64, "fps": 24.0,
        "preset": "ltx2_hq", "seed": 5, "video_overlap": 1, "audio_overlap": 1,
        "settings": preset(run, "ltx2_hq", 1, refine_steps=2, sampler="euler"), **parts("2.3", True),
    }  # fmt: skip
    return given, run("Generate", **given).args[0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["text encoding", "denoising", "refining", "video decoding"])
def test_a_cancelled_run_leaves_the_host_usable(run, whole_run, folders, pack, monkeypatch, stage):
    import comfy.model_management as mm

    given, before = whole_run
    reporting = pack.nodes.reporting
    original = reporting.reporter

    def cancelling(*stages, **more):
        report = original(*stages, **more)

        def hook(progress):
            if progress.stage == stage and progress.done >= (stage in ("denoising", "refining")):
                cancel(mm)
            report(progress)

        return hook

    monkeypatch.setattr(reporting, "reporter", cancelling)
    with pytest.raises(mm.InterruptProcessingException):
        run("Generate", **given)
    monkeypatch.setattr(reporting, "reporter", original)
    # the stage that was cancelled had a LoRA on the model
    assert torch.equal(run("Generate", **given).args[0], before) and not given["model"].patcher.patches


def cancel(mm):
    if hasattr(mm, "interrupt_current_processing"):
        mm.interrupt_current_processing()
    else:
        mm.interrupted = True


def native_upsampler(parts, **settings):
    """A module with the surface of the host's own latent upsampler."""
    network = parts["upsampler"].patcher.model

    class LatentUpsampler(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.initial_conv, self.post_upsample_res_blocks = network.initial_conv, network.post_upsample_res_blocks
            self.rest = network
            self.in_channels, self.dims, self.spatial_upsample, self.temporal_upsample = 128, 3, True, False
            self.spatial_scale, self.rational_resampler = 2.0, False
            for name, value in settings.items():
                setattr(self, name, value)

        def forward(self, latent):
            return self.rest(latent)

    return LatentUpsampler()


def test_the_hosts_own_upsampler_fits_and_others_are_refused(run, loaded, pack):  # noqa: F811
    parts = loaded()
    clip = run("PrepareLatent", **SMALL).args[0]
    half = run(
        "Denoise", model=parts["model"], latent=clip, seed=1, preset=preset(run, steps=1), **contexts(run, parts)
    ).args[0]
    given = {"latent": half, "video_vae": parts["video_vae"]}
    expected = run("Upsample", upsampler=parts["upsampler"], **given).args[0]
    # older hosts hand out the module, newer ones a patcher of it
    for native in (native_upsampler(parts), pack.nodes.host.patcher(native_upsampler(parts))):
        assert torch.equal(run("Upsample", upsampler=native, **given).args[0].latent.video, expected.latent.video)
    with pytest.raises(ValueError, match="expected an LTX-2 latent upsampler"):
        run("Upsample", upsampler=torch.nn.Linear(2, 2), **given)
    with pytest.raises(ValueError, match="load the spatial x2 upsampler"):
        run("Upsample", upsampler=native_upsampler(parts, spatial_upsample=False, temporal_upsample=True), **given)


@pytest.mark.skipif(not REAL, reason="needs ComfyUI's own loader")
def test_comfyuis_own_loader_fits(run, loaded, shelf):  # noqa: F811
    from comfy_extras.nodes_hunyuan import LatentUpscaleModelLoader

    parts = loaded()
    native = LatentUpscaleModelLoader.execute(shelf("2.3")["spatial_upsampler"]).args[0]
    clip = run("PrepareLatent", **SMALL).args[0]
    half = run(
        "Denoise", model=parts["model"], latent=clip, seed=1, preset=preset(run, steps=1), **contexts(run, parts)
    ).args[0]
    own, theirs = (
        run("Upsample", upsampler=upsampler, latent=half, video_vae=parts["video_vae"]).args[0].latent.video
        for upsampler in (parts["upsampler"], native)
    )
    assert torch.allclose(own.float(), theirs.float(), atol=0.05)


def test_sizes_and_lengths(run, folders):
    assert run("SizeHelper", aspect="16:9", megapixels=2.07, multiple="64").args == (1920, 1088)
    clip, frames, fps = run("PrepareLatent", width=700, height=500, length=2.0, unit="seconds", fps=23.976).args
    assert (clip.geometry.width, clip.geometry.height, frames) == (704, 512, 49) and abs(fps - 24000 / 1001) < 1e-9
    assert "700x500 became 704x512" in str(clip)
    with pytest.raises(ValueError, match="8k|105"):
        run("PrepareLatent", width=704, height=512, length=100, unit="frames", fps=24.0, snap="off")
    assert run("NegativePreset", preset="short").args[0].startswith("worst quality")


def test_a_doubled_clip_leaves_the_state_of_its_rate_before(run, loaded, shelf):  # noqa: F811
    """By the stage nodes every second frame is carried; Generate's state is the one that it leaves without doubling."""
    parts = loaded("2.3")
    temporal = run("LoadUpsampler", upsampler=shelf("2.3")["temporal_upsampler"]).args[0]
    models = run("Models", temporal_upsampler=temporal, **parts).args[0]
    settings = preset(run, steps=1, overrides="double.sigmas=[0.9,0]")
    given = {"prompt": "A lake.", "negative_prompt": "", "seconds": 9 / 24, "width": 64, "height": 64, "fps": 24.0}
    given |= {"preset": "ltx2_fast", "settings": settings, "seed": 5, "video_overlap": 9, "audio_overlap": 17}
    plain, doubled = (run("Generate", models=models, double_rate=rounds, **given) for rounds in (0, 1))
    images, audio, state, segment, info, fps, video = doubled.args
    assert len(images) == 17 and fps == 48 and "experimental" in info
    assert all(map(np.array_equal, state.video_frames, plain.args[2].video_frames))
    assert state.metadata == plain.args[2].metadata and torch.equal(audio["waveform"], plain.args[1]["waveform"])
    assert (segment.timing.frames, segment.timing.fps) == (17, 48)

    texts, vae = contexts(run, parts), {"video_vae": parts["video_vae"]}
    clip = run("PrepareLatent", **SMALL).args[0]
    one_stage = preset(run, "ltx2_distilled", 1)
    clip = run("Denoise", model=parts["model"], latent=clip, seed=5, preset=one_stage, **texts).args[0]
    more, rate = run("DoubleRate", model=parts["model"], latent=clip, upsampler=temporal, rounds=1, **texts, **vae).args
    frames = run("DecodeVideo", latent=more, **vae).args[0]
    state, segment = run("MakeState", latent=more, images=frames, video_overlap=9, audio_overlap=0).args
    assert rate == 48 and len(frames) == 17 and segment.timing.fps == 48
    assert np.array_equal(state.video_frames[4], (frames[8] * 255).round().to(torch.uint8).numpy())
    with pytest.raises(ValueError, match="was doubled before"):
        run("DoubleRate", model=parts["model"], latent=more, upsampler=temporal, rounds=1, **texts, **vae)
    with pytest.raises(ValueError, match="enlarges 2 times"):
        run("DoubleRate", model=parts["model"], latent=clip, upsampler=parts["upsampler"], rounds=1, **texts, **vae)
