import hashlib
import warnings
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ltx2 import clock, media
from ltx2.errors import CheckpointError, Ltx2Warning, RequestError
from ltx2.networks.layers.offload_ops import is_offloaded
from ltx2.stages import memory
from ltx2.stages.conditioning import encode_pictures
from ltx2.stages.models import PipelineConfig, load_models, with_temporal_upsampler
from ltx2.stages.pipeline import encode_texts, generate, make_job
from ltx2.stages.presets import PRESETS
from ltx2.stages.request import Request
from ltx2.stages.steps import encode_conditioning
from ltx2.values import AudioCondition, AVLatent, ClipCondition, ImageCondition, LatentCondition, Waveform
from tests.stages.conftest import FAST, checkpoints_of

PICTURE = np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8)
SMALL = {"prompt": "A lake at dawn.", "width": 64, "height": 64, "frames": 9}
# enough to go through every stage
QUICK = {"denoise": {"num_inference_steps": 2}}


def run(models, **fields):
    fields = {**SMALL, "preset": "ltx2_fast", "overrides": QUICK, **fields}
    progress = fields.pop("progress", None)
    return generate(models, Request(**fields), progress=progress)


def frames_of(segment, sample=0):
    return np.concatenate(list(segment.frames(sample)))


def digest(segment):
    found = hashlib.sha256(frames_of(segment).tobytes())
    found.update(segment.sound.samples.numpy().tobytes())
    return found.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
@pytest.mark.parametrize("preset", [preset.name for preset in PRESETS])
def test_every_preset_end_to_end(models, version, preset):
    segment = run(models(version), preset=preset, images=(ImageCondition(PICTURE),))
    frames = frames_of(segment)
    assert frames.shape == (9, 64, 64, 3) and frames.dtype == np.uint8 and frames.std() > 1
    latents = clock.audio_latents(9, Fraction(24), "ceil")
    assert segment.latent.video.shape == (1, 128, 2, 2, 2) and segment.latent.audio.shape == (1, 8, latents, 16)
    rate = segment.sound.sample_rate
    assert segment.sound.samples.shape == (2, clock.decoded_samples(latents, rate)) and rate in (24000, 48000)
    two_stages = next(p for p in PRESETS if p.name == preset).refine.enabled
    assert set(segment.seconds) == {
        "text encoding",
        "conditioning",
        "denoising",
        "audio decoding",
        *(["refining"] * two_stages),
    }


def test_the_same_request_gives_the_same_film_to_the_bit(models):
    first = run(models("2.3"), seed=3)
    assert digest(first) == digest(first) == digest(run(models("2.3"), seed=3)) != digest(run(models("2.3"), seed=4))


@pytest.mark.parametrize("version", ["2.3", "2.5"])
def test_each_sample_is_what_its_own_seed_gives(models, version):
    both = run(models(version), seed=7, batch_size=2)
    alone = run(models(version), seed=8)
    assert both.batch_size == 2 and len(both.sounds) == 2
    assert torch.allclose(both.latent.video[1:], alone.latent.video, atol=1e-3)
    assert torch.allclose(both.sounds[1].samples, alone.sound.samples, atol=1e-2)
    difference = np.abs(frames_of(both, 1).astype(int) - frames_of(alone).astype(int))
    assert difference.max() <= 2
    with pytest.raises(RequestError, match="clip 2 of a batch of 2"):
        next(both.frames(2))


@pytest.mark.parametrize("preset", ["ltx2_base", "ltx2_fast"])
def test_what_is_known_comes_back_as_given(models, preset):
    networks = models("2.3")
    clip = np.stack([PICTURE] * 9)
    sound = torch.randn(1, 8, 4, 16)
    segment = run(networks, preset=preset, frames=17, clips=(ClipCondition(clip),), audio=AudioCondition(sound))
    pixels = media.prepare_clip(clip, 64, 64)
    known = encode_pictures(networks.video_encoder, pixels, device="cpu", dtype=torch.float32)
    assert torch.equal(segment.latent.video[:, :, :2], known)
    assert torch.equal(segment.latent.audio[:, :, :4], sound)
    assert segment.latent.audio[:, :, 4:].std() > 0


def test_a_picture_counts_less_in_a_stage_that_says_so(models):
    def made(strength, **stage):
        request = Request(**SMALL, preset="ltx2_5_template", images=(ImageCondition(PICTURE, strength=strength),))
        request = replace(request, overrides={"denoise": stage})
        loaded = models("2.5")
        first, second = encode_conditioning(loaded, request, make_job(loaded, request).stages, None)
        return [float(one.video_mask[:, :, 0].mean()) for one in (first, second)]

    assert made(1.0) == pytest.approx([0.3, 0.0]) and made(0.5) == pytest.approx([0.65, 0.5])
    assert made(1.0, image_strength=1) == pytest.approx([0.0, 0.0])


def test_pictures_later_on_and_partly_kept(models):
    images = (
        ImageCondition(PICTURE, strength=0.5),
        ImageCondition(PICTURE, frame=5),
        ImageCondition(255 - PICTURE, frame=8),
    )
    plain, guided = run(models("2.3")), run(models("2.3"), images=images)
    assert guided.latent.video.shape == plain.latent.video.shape and not torch.equal(
        guided.latent.video, plain.latent.video
    )


def test_known_latents_for_both_stages(models):
    first, second = torch.randn(1, 128, 1, 1, 1), torch.randn(1, 128, 1, 2, 2)
    segment = run(models("2.3"), latents=(LatentCondition(first), LatentCondition(second)))
    assert torch.equal(segment.latent.video[:, :, :1], second)


@pytest.mark.parametrize("preset", ["ltx2_base", "ltx2_fast"])
def test_own_sound_is_heard_as_it_was_given(models, preset):
    sound = Waveform(torch.randn(2, 4000) * 0.1, 16000)
    plain, segment = run(models("2.3"), preset=preset), run(models("2.3"), preset=preset, audio=sound)
    assert segment.sound.samples is sound.samples
    assert segment.latent.audio.shape == plain.latent.audio.shape
    assert not torch.equal(segment.latent.video, plain.latent.video)


def test_a_guide_counts_by_its_attention(models):
    """Not looked at it changes nothing, up to rounding; the less it is looked at, the less it changes."""

    def made(*attentions):
        images = tuple(ImageCondition(PICTURE, attention=a) for a in attentions)
        # a sound draws its noise behind that of the guide's tokens
        return run(models("2.3"), preset="ltx2_3_distilled", images=images, audio_latents=0).latent.video

    plain = made()
    change = [float((made(attention) - plain).abs().mean()) for attention in (0.0, 0.1, 0.5)]
    assert change[0] < 1e-5 < change[1] < change[2]


@pytest.mark.slow
def test_the_refine_lora_reaches_the_second_stage_only(models):
    networks = models("2.3")
    before = {name: weight.clone() for name, weight in networks.transformer.named_parameters()}
    settings = {"preset": "ltx2_3_base", "overrides": {**QUICK, "refine": {"enabled": True}}}
    refined, again = run(networks, **settings), run(networks, **settings)
    assert digest(refined) == digest(again)
    assert all(torch.equal(weight, before[name]) for name, weight in networks.transformer.named_parameters())
    with pytest.warns(Ltx2Warning, match="without its distilled LoRA"):
        without = run(replace(networks, distilled_lora=None), **settings)
    # this preset's sound comes from the first stage
    assert torch.equal(refined.latent.audio, without.latent.audio)
    assert not torch.equal(refined.latent.video, without.latent.video)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [one.name for one in PRESETS if one.refine.enabled])
def test_a_refine_lora_that_is_given_counts_with_every_preset_of_two_stages(models, preset):
    networks, settings = models("2.3"), {"preset": preset, "overrides": QUICK if preset == "ltx2_hq" else {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Ltx2Warning)
        # without sound, which has its own test
        pair = [run(each, audio_latents=0, **settings) for each in (networks, replace(networks, distilled_lora=None))]
    assert not torch.equal(pair[0].latent.video, pair[1].latent.video)
    assert not any("no effect" in note for segment in pair for note in segment.notes)


@pytest.mark.parametrize(
    "settings, why",
    [
        ({"preset": "ltx2_3_distilled"}, "preset ltx2_3_distilled has no second stage"),
        ({"preset": "ltx2_fast", "overrides": {"refine": {"distilled_lora_strength": 0}}}, "runs it at strength 0"),
    ],
    ids=["one stage", "strength 0"],
)
def test_a_refine_lora_that_no_stage_takes_is_told(models, settings, why):
    (note,) = [note for note in run(models("2.3"), **settings).notes if "no effect" in note]
    assert note.startswith("the refinement LoRA ltx-2.3-22b-distilled-lora") and note.endswith(why)


def test_the_sound_of_two_stages(models):
    """Distilled presets hear the second stage's, dev presets the first's."""
    one = run(models("2.3"), preset="ltx2_3_base", width=32, height=32)
    two = run(models("2.3"), preset="ltx2_3_base", overrides={**QUICK, "refine": {"enabled": True}})
    assert torch.equal(one.latent.audio, two.latent.audio)
    one = run(models("2.3"), preset="ltx2_distilled", width=32, height=32)
    two = run(models("2.3"), preset="ltx2_two_stage")
    assert not torch.equal(one.latent.audio, two.latent.audio)


def test_a_silent_film_and_a_longer_sound(models):
    silent = run(models("2.3"), audio_latents=0)
    assert silent.sound is None and silent.latent.audio is None and frames_of(silent).shape[0] == 9
    longer = run(models("2.3"), audio_latents=20, video_offset_seconds=Fraction(5, 12))
    assert longer.latent.audio.shape[2] == 20


@pytest.mark.slow
def test_121_frames_have_their_sound_to_the_sample(models, tmp_path):
    segment = run(models("2.3"), frames=121, overrides={"denoise": {"num_inference_steps": 1}})
    path = media.write_video(tmp_path / "x.mp4", segment.frames(), fps=segment.geometry.fps, sound=segment.sound)
    info, rate = media.video_info(path), segment.sound.sample_rate
    assert (info.frames, info.fps, info.samples) == (121, 24, round(Fraction(121, 24) * rate))


def test_overrides_of_one_stage_leave_the_other(models):
    seen = []

    def watch(report):
        if report.stage in ("denoising", "refining"):
            seen.append((report.stage, report.total, type(report.preview)))

    run(
        models("2.3"),
        overrides={"denoise": {"num_inference_steps": 1}, "refine": {"num_inference_steps": 3}},
        progress=watch,
    )
    assert {(stage, total) for stage, total, _ in seen} == {("denoising", 1), ("refining", 3)}
    assert seen[-1][2] is AVLatent


def test_raising_from_progress_stops_any_stage(models):
    stages = ["text encoding", "video encoding", "denoising", "upsampling", "refining", "audio decoding"]
    networks = replace(models("2.3"), contexts=type(models("2.3").contexts)())
    for stage in stages:

        def stop(report, stage=stage):
            if report.stage == stage:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(networks, images=(ImageCondition(PICTURE),), progress=stop)
    segment = run(networks)
    with pytest.raises(KeyboardInterrupt):
        for _ in segment.frames(progress=lambda report: (_ for _ in ()).throw(KeyboardInterrupt)):
            pass


@pytest.mark.slow
def test_prompts_are_encoded_once(models):
    networks = replace(models("2.3"), contexts=type(models("2.3").contexts)())
    reports = []
    first = encode_texts(networks, ["one", "two"], progress=reports.append)
    assert reports[-1].done == 2
    reports.clear()
    again = encode_texts(networks, ["two", "one"], progress=reports.append)
    assert not reports and torch.equal(first[0].video, again[1].video)
    by_text = run(networks, prompt="one")
    by_context = run(replace(networks, text_encoder=None), prompt="", positive=first[0])
    assert digest(by_text) == digest(by_context)


def test_stacked_passes_agree(models):
    networks = models("2.3")
    settings = {"preset": "ltx2_3_base", "width": 32, "height": 32}
    one = run(networks, **settings)
    stacked = run(replace(networks, config=replace(FAST, pass_batching="always")), **settings)
    assert torch.allclose(one.latent.video, stacked.latent.video, atol=1e-3)


def test_ways_of_decoding_agree(models):
    exact = None
    for mode in ("whole", "stream", "auto"):
        segment = run(replace(models("2.3"), config=replace(FAST, video_decoding=mode)))
        pixels = torch.cat(list(segment.pixels()), dim=2)
        exact = pixels if exact is None else exact
        assert torch.allclose(pixels, exact, atol=1e-4)
    tiled = run(replace(models("2.3"), config=replace(FAST, video_decoding="tiles")))
    assert torch.cat(list(tiled.pixels()), dim=2).shape == exact.shape


def test_bfloat16_by_default(tiny):
    files = tiny("2.3")
    networks = load_models(files["transformer"], text_encoder=files["text_encoder"])
    assert next(networks.transformer.parameters()).dtype == torch.bfloat16
    assert (
        {p.dtype for p in networks.vocoder.parameters()}
        == {p.dtype for p in networks.audio_decoder.parameters()}
        == {torch.float32}
    )
    segment = run(networks, preset="ltx2_distilled", images=(ImageCondition(PICTURE),))
    assert segment.latent.video.dtype == torch.bfloat16 and torch.isfinite(segment.sound.samples).all()


def test_user_loras_are_merged_at_load(tiny, models, tmp_path):
    files = tiny("2.3")
    changed = load_models(files["transformer"], loras=[(files["distilled_lora"], 0.5)], config=FAST).transformer
    usual = models("2.3").transformer
    assert any(not torch.equal(a, b) for a, b in zip(changed.parameters(), usual.parameters()))
    save_file(
        {"blocks.0.lora_A.weight": torch.zeros(2, 3), "blocks.0.lora_B.weight": torch.zeros(3, 2)},
        tmp_path / "other.safetensors",
    )
    with pytest.raises(CheckpointError, match="fits none of the model's weights"):
        load_models(files["transformer"], loras=[(tmp_path / "other.safetensors", 1.0)], config=FAST)


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"width": 100, "height": 64}, "use 128x64"),
        ({"frames": 10}, "10 frames, expected 8k.1: use 9 or 17"),
        ({"prompt": " "}, "prompt is empty"),
        ({"preset": "nope"}, "there is no preset nope"),
        ({"overrides": {"denoise": {"sigmas": [0.3, 0.8, 0]}}}, "does not descend"),
        ({"overrides": {"refine": {"steps": 2}}}, "refine.steps"),
        ({"audio": AudioCondition(torch.zeros(1, 8, 99, 16))}, "99 audio latents are given"),
        (
            {"latents": (LatentCondition(torch.zeros(1, 128, 1, 2, 2)), LatentCondition(torch.zeros(1, 128, 1, 2, 2)))},
            "same picture size",
        ),
    ],
)
def test_bad_requests_are_told_in_a_sentence(models, fields, sentence):
    with pytest.raises(RequestError, match=sentence) as caught:
        run(models("2.3"), **fields)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_missing_networks_are_told_with_the_file_that_holds_them(tiny):
    files = tiny("2.5")
    networks = load_models(files["transformer"], config=FAST)
    with pytest.raises(CheckpointError, match="no video decoder, expected one: load .*ltx-2.5-video-vae"):
        run(networks)
    networks = load_models(checkpoints_of(files), config=FAST)
    with pytest.raises(CheckpointError, match="no text encoder was loaded"):
        run(networks)
    networks = load_models(checkpoints_of(files), text_encoder=files["text_encoder"], config=FAST)
    with pytest.raises(CheckpointError, match="spatial-upscaler-x2"):
        run(networks)
    assert run(networks, preset="ltx2_distilled").batch_size == 1
    with pytest.raises(CheckpointError, match="no transformer"):
        load_models(files["audio_vae"], config=FAST)


def test_another_upsampler_is_told(models, tiny):
    """Where it is loaded, and where a service hands over a network that it loaded itself."""
    file = tiny("2.3")["temporal_upsampler"]
    with pytest.raises(RequestError, match="load the spatial x2 upsampler"):
        load_models(tiny("2.3")["transformer"], upsampler=file, config=FAST)
    wrong = with_temporal_upsampler(models("2.3"), file).temporal_upsampler
    with pytest.raises(RequestError, match="load the spatial x2 upsampler"):
        run(replace(models("2.3"), upsampler=wrong))


def test_a_preset_is_chosen_and_noted(models):
    job = make_job(models("2.3"), Request(prompt="a lake", seconds=1))
    assert job.settings.preset.name == "ltx2_3_base" and job.geometry.frames == 25
    assert job.notes[0] == "preset ltx2_3_base was chosen by the checkpoint's name" and any(
        "25 frames" in note for note in job.notes
    )
    again = make_job(models("2.3"), job.request)
    assert (again.settings, again.geometry) == (job.settings, job.geometry)
    # the refinement LoRA that these models have is told each time, what was chosen and snapped only once
    assert [note for note in again.notes if "refinement LoRA" not in note] == []


def test_too_little_memory_is_a_warning(models, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.warns(Ltx2Warning, match="GiB"):
        make_job(models("2.3"), Request(**SMALL))


def test_settings_of_a_pipeline_are_checked():
    for wrong in ({"offload": "disk"}, {"video_decoding": "fast"}, {"pass_batching": "yes"}):
        with pytest.raises(RequestError, match="expected one of"):
            PipelineConfig(**wrong)


@pytest.mark.slow
def test_layers_that_follow_their_input_give_the_same_segment(tiny):
    files = tiny("2.3")
    given = {
        "text_encoder": files["text_encoder"],
        "upsampler": files["spatial_upsampler"],
        "distilled_lora": files["distilled_lora"],
    }
    few = {"denoise": {"num_inference_steps": 2}}
    request = Request(prompt="rain on a roof", preset="ltx2_hq", width=64, height=64, frames=9, seed=3, overrides=few)
    latents = []
    for offload in ("stage", "layers"):
        models = load_models(files["transformer"], config=replace(FAST, offload=offload), **given)
        assert is_offloaded(models.transformer) == (offload == "layers")
        latents.append(generate(models, request).latent)
    assert torch.equal(latents[0].video, latents[1].video) and torch.equal(latents[0].audio, latents[1].audio)
