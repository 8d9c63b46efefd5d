"""The bridge to native latents, and on a real host through its own model and sampler."""

import math

import pytest
import torch

from . import samples
from .conftest import REAL
from .shelf import digest


def nested(pack, video, audio):
    return pack.nodes.host.nested(video, audio)


def segment(run, pack, frames=33, latents=35, seed=0, **inputs):
    """A finished native segment of 33 frames at 24 fps, and the state it leaves."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(1, 128, (frames - 1) // 8 + 1, 2, 3, generator=generator)
    audio = torch.randn(1, 8, latents, 16, generator=generator)
    given = {
        "fps": 24.0,
        "video_overlap": 9,
        "audio_overlap": 9,
        "audio": samples.sound((4 * latents - 3) / 100),
        **inputs,
    }
    latent = {"samples": nested(pack, video, audio)}
    return run("AVLatentToState", latent=latent, images=samples.frames(frames), **given).args[:2], (video, audio)


def test_a_state_fills_and_masks_the_start_of_a_native_latent(run, pack, folders):
    (state, _), (_, audio) = segment(run, pack)
    vae = samples.FakeVae()
    latent, model, frames, fps = run(
        "StateToAVLatent", state=state, vae=vae, seconds=1.375, divide=1, strength=1.0, audio_overlap=-1
    ).args
    video, sound = latent["samples"].unbind()
    video_mask, audio_mask = latent["noise_mask"].unbind()
    assert (frames, fps, model) == (33, 24.0, None)
    assert video.shape == (1, 128, 5, 2, 3) and vae.calls == [(9, 64, 96, 3)]
    assert video_mask.flatten().tolist() == [0, 0, 1, 1, 1]
    known = int((audio_mask == 0).sum())
    # one second of picture is new: the sound's clock moves by 25 latents, the rest of it is known
    assert known == 35 - 25 and torch.equal(sound[:, :, :known], audio[:, :, 25:])
    assert audio_mask.flatten()[:known].eq(0).all() and audio_mask.flatten()[known:].eq(1).all()


def test_the_sound_of_official_templates_is_longer_than_their_picture(run, pack, folders):
    """Five seconds at 25 fps are 126 frames there: the picture's latent is floored to 121, the sound's is not."""
    (state, first), (_, audio) = segment(run, pack, frames=121, latents=126, fps=25.0)
    empty = {"samples": nested(pack, torch.zeros(1, 128, 16, 2, 3), torch.zeros(1, 8, 126, 16))}
    latent, _, frames, fps = run(
        "StateToAVLatent",
        state=state,
        vae=samples.FakeVae(),
        latent=empty,
        seconds=5.0,
        divide=1,
        strength=1.0,
        audio_overlap=-1,
    ).args
    video, sound = latent["samples"].unbind()
    assert (frames, fps) == (121, 25.0) and (video.shape[2], sound.shape[2]) == (16, 126)
    known = int((latent["noise_mask"].unbind()[1] == 0).sum())
    # 112 frames of picture are new, which is as many latents of sound
    assert known == 126 - 112 and torch.equal(sound[:, :, :known], audio[:, :, 112:])
    assert first.timing.audio_latents == 126 and first.timing.frames == 121


def test_half_size_for_the_first_of_two_stages_and_again_after_upsampling(run, pack, folders):
    (state, _), _ = segment(run, pack, frames=33)
    half = run(
        "StateToAVLatent", state=state, vae=samples.FakeVae(), seconds=1.375, divide=2, strength=1.0, audio_overlap=-1
    ).args[0]
    assert half["samples"].unbind()[0].shape == (1, 128, 5, 1, 2), "96x64 becomes 128x64, half of which is 64x32"
    upsampled = {"samples": nested(pack, torch.zeros(1, 128, 5, 4, 6), torch.ones(1, 8, 35, 16)), "other": 1}
    before = upsampled["samples"].unbind()[0].clone()
    vae = samples.FakeVae()
    latent = run(
        "StateToAVLatent",
        state=state,
        vae=vae,
        latent=upsampled,
        seconds=9.0,
        divide=1,
        strength=0.8,
        audio_overlap=-1,
    ).args[0]
    assert vae.calls == [(9, 128, 192, 3)] and latent["other"] == 1
    assert torch.allclose(latent["noise_mask"].unbind()[0].flatten()[:3], torch.tensor([0.2, 0.2, 1.0]))
    assert torch.equal(upsampled["samples"].unbind()[0], before), "inputs are never written to"


def test_a_stage_of_a_graph_made_for_single_clips_gets_room_for_the_sound_before_the_picture(
    run, pack, folders, monkeypatch
):
    monkeypatch.setattr(pack.nodes.host, "with_picture_offset", lambda model, offset: (model, offset))
    (state, first), (_, audio) = segment(run, pack, audio_overlap=25)
    # as the host's empty latents make it: sound for 33 frames, while the carried sound starts 2/3 s before the picture
    empty = {"samples": nested(pack, torch.zeros(1, 128, 5, 2, 3), torch.zeros(1, 8, 35, 16))}
    given = {
        "state": state,
        "vae": samples.FakeVae(),
        "model": "model",
        "seconds": 9.0,
        "divide": 1,
        "strength": 1.0,
        "audio_overlap": -1,
    }
    latent, (_, offset), frames, _ = run("StateToAVLatent", latent=empty, **given).args
    sound, mask = latent["samples"].unbind()[1], latent["noise_mask"].unbind()[1]
    known = int((mask == 0).sum())
    assert frames == 33 and abs(offset - 16 / 24) < 0.04
    assert sound.shape[2] == mask.shape[2] == math.ceil((offset + 33 / 24) * 25) and torch.equal(
        sound[:, :, :known], audio[:, :, -known:]
    )
    # the second stage has it already
    again = run("StateToAVLatent", latent=latent, **given).args[0]
    assert again["samples"].unbind()[1].shape == sound.shape
    waveform = samples.sound((4 * sound.shape[2] - 3) / 100)
    made = run(
        "AVLatentToState",
        latent=again,
        images=samples.frames(33, start=24),
        audio=waveform,
        state=state,
        fps=24.0,
        video_overlap=9,
        audio_overlap=25,
    ).args
    film = run(
        "JoinSegments", segment_1=first, segment_2=made[1], hold_colour=0.0, hold_contrast=0.0, hold_loudness=0.0
    ).args
    assert film[1]["waveform"].shape[-1] == 57 * 1000 and film[1]["waveform"][..., -2000:].abs().max() > 0.1, (
        "sound to the very end"
    )
    assert made[3]["waveform"].shape[-1] == 24000


def test_the_state_is_saved_where_a_name_is_given(run, pack, folders):
    latent = {"samples": nested(pack, torch.zeros(1, 128, 5, 2, 3), torch.zeros(1, 8, 35, 16))}
    given = {"latent": latent, "images": samples.frames(33), "fps": 24.0, "video_overlap": 9, "audio_overlap": 9}
    silent = run("AVLatentToState", **given)
    assert (
        not list((folders / "output").rglob("*.png"))
        and silent.ui["states"][0]["width"] == 96
        and silent.args[3] is None
    )
    state, _, images, _ = (saved := run("AVLatentToState", filename_prefix="film/part", **given)).args
    assert torch.equal(images, given["images"])
    assert saved.ui["images"] == [{"filename": "part_00001_.png", "subfolder": "film", "type": "output"}]
    loaded = run("LoadState", file=saved.ui["states"][0]["file"]).args[0]
    assert digest(loaded.video_frames) == digest(state.video_frames) and torch.equal(
        loaded.audio_latents, state.audio_latents
    )
    with pytest.raises(ValueError, match="leaves the output folder"):
        run("AVLatentToState", filename_prefix="../part", **given)


def test_the_chain_joins_without_a_gap(run, pack, folders):
    (state, first), _ = segment(run, pack)
    latent = run(
        "StateToAVLatent", state=state, vae=samples.FakeVae(), seconds=1.375, divide=1, strength=1.0, audio_overlap=-1
    ).args[0]
    count = latent["samples"].unbind()[1].shape[2]
    again = samples.frames(33, start=24)
    sound = samples.sound((4 * count - 3) / 100)
    after, second, new_images, new_audio = run(
        "AVLatentToState",
        latent=latent,
        images=again,
        audio=sound,
        state=state,
        fps=99.0,
        video_overlap=9,
        audio_overlap=9,
    ).args
    assert after.segment_index == 1
    # picture and sound of this segment alone: the nine frames that repeat the one before are left out, in both
    assert torch.equal(new_images, again[9:]) and new_audio["waveform"].shape[-1] == round(24 / 24 * 24000)
    heard = sound["waveform"][0, :, 9000:]  # 35 latents end 5 ms before the picture does
    assert torch.equal(new_audio["waveform"][0], torch.nn.functional.pad(heard, (0, 24000 - heard.shape[1])))
    alone = run("JoinSegments", segment_1=second, hold_colour=0.0, hold_contrast=0.0, hold_loudness=0.0).args
    assert torch.equal(alone[0], new_images) and torch.equal(alone[1]["waveform"], new_audio["waveform"])
    images, audio, fps, report, _ = run(
        "JoinSegments", segment_1=first, segment_2=second, hold_colour=0.0, hold_contrast=0.0, hold_loudness=0.0
    ).args
    assert len(images) == 33 + 24 and fps == 24.0 and "2 segments" in report
    assert audio["waveform"].shape[-1] == round(57 / 24 * 24000)
    assert torch.equal(images[33:], again[9:])


def test_a_carried_sound_that_starts_before_the_picture_needs_the_model(run, pack, folders):
    (state, _), _ = segment(run, pack, audio_overlap=25)
    with pytest.raises(ValueError, match="connect the model"):
        run(
            "StateToAVLatent",
            state=state,
            vae=samples.FakeVae(),
            seconds=1.375,
            divide=1,
            strength=1.0,
            audio_overlap=-1,
        )


class OldAudioVae:
    """The host's audio VAE before 0.20: takes its AUDIO. 25 latents a second, each the mean loudness of its piece."""

    sample_rate = 16000

    def encode(self, audio):
        waveform = audio["waveform"]
        assert waveform.shape[:2] == (1, 2)
        return latents_of(waveform[0], audio["sample_rate"])


class NewAudioVae:
    """Since 0.20: one of the host's VAEs, which takes [B, T, C] at a rate it names."""

    first_stage_model, audio_sample_rate = object(), 44100

    def encode(self, waveform):
        assert waveform.ndim == 3 and waveform.shape[2] == 2
        return latents_of(waveform[0].T, self.audio_sample_rate)


def latents_of(waveform, rate):
    pieces = waveform.abs().mean(0).split(rate // 25)
    return torch.stack([piece.mean() for piece in pieces]).reshape(1, 1, -1, 1).repeat(1, 8, 1, 16)


@pytest.mark.parametrize("vae", [OldAudioVae(), NewAudioVae()], ids=["old", "new"])
def test_frames_and_sound_alone_become_a_state(run, pack, folders, vae):
    loudness = torch.linspace(0, 1, 40).repeat_interleave(960)  # one step a latent at 24 kHz
    audio = {"waveform": loudness.repeat(1, 1, 1), "sample_rate": 24000}  # mono, 1.6 s
    images = samples.frames(36)
    state, segment = run(
        "ImagesToState", images=images, fps=24.0, video_overlap=9, audio_overlap=9, audio=audio, audio_vae=vae
    ).args
    assert len(state.video_frames) == 9 and segment.timing.frames == 36 and segment.timing.audio_latents == 38
    assert torch.equal(segment.frames, images)
    carried = state.audio_latents[0, 0, :, 0]
    # the clock moves by 27 frames, 28 latents; the carried ones say how loud it is from then on
    assert len(carried) == 10 and abs(float(carried[0]) - 28 / 39) < 0.03
    assert run("ImagesToState", images=images, fps=24.0, video_overlap=9, audio_overlap=9).args[0].audio_latents is None
    with pytest.raises(ValueError, match="no audio VAE is connected"):
        run("ImagesToState", images=images, fps=24.0, video_overlap=9, audio_overlap=9, audio=audio)


def test_wrong_frames_are_named(run, pack, folders):
    latent = {"samples": nested(pack, torch.zeros(1, 128, 5, 2, 3), torch.zeros(1, 8, 35, 16))}
    with pytest.raises(ValueError, match="32 images, the latent decodes to 33"):
        run("AVLatentToState", latent=latent, images=samples.frames(32), fps=24.0, video_overlap=9, audio_overlap=9)


@pytest.mark.skipif(not REAL, reason="needs ComfyUI's own model and sampler")
def test_native_sampling_keeps_what_the_state_knows(run, pack, folders):
    import comfy.model_base
    import comfy.model_patcher
    import comfy.ops
    import comfy.sample
    import comfy.samplers
    import comfy.supported_models

    torch.manual_seed(0)
    settings = {
        "image_model": "ltxav", "num_layers": 2, "caption_channels": 64, "positional_embedding_max_pos": [20, 2048,
        2048],
        "dtype": torch.float32, "num_attention_heads": 2, "attention_head_dim": 32, "cross_attention_dim": 64,
        "audio_num_attention_heads": 2, "audio_attention_head_dim": 16, "audio_cross_attention_dim": 32,
        # the text comes encoded, so these are never asked
        "connector_num_attention_heads": 1, "connector_attention_head_dim": 32, "connector_num_layers": 1,
    }  # fmt: skip
    config = comfy.supported_models.LTXAV(settings)
    config.custom_operations = comfy.ops.manual_cast
    network = comfy.model_base.LTXAV(config).eval()
    with torch.no_grad():
        for parameter in network.diffusion_model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    cpu = torch.device("cpu")
    model = comfy.model_patcher.ModelPatcher(network, cpu, cpu)
    (state, _), _ = segment(run, pack, audio_overlap=25)

    def sampled(moved_model, latent):
        conditioning = [[torch.ones(1, 16, 128), {"frame_rate": 24.0}]]
        guider = comfy.samplers.CFGGuider(moved_model)
        guider.set_conds(conditioning, conditioning)
        guider.set_cfg(1.0)
        noise = comfy.sample.prepare_noise(latent["samples"], 1)
        sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.6, 0.0])
        with torch.inference_mode():
            out = guider.sample(
                noise, latent["samples"], sampler, sigmas, denoise_mask=latent["noise_mask"], seed=1, disable_pbar=True
            )
        return out.unbind()

    given = {
        "state": state,
        "vae": samples.FakeVae(),
        "seconds": 1.375,
        "divide": 1,
        "strength": 1.0,
        "audio_overlap": -1,
    }
    latent, moved, _, _ = run("StateToAVLatent", model=model, **given).args
    unmoved_video, _ = sampled(model, latent)
    video, audio = sampled(moved, latent)
    start_video, start_audio = latent["samples"].unbind()
    known = int((latent["noise_mask"].unbind()[1] == 0).sum())
    assert torch.allclose(video[:, :, :2], start_video[:, :, :2], atol=1e-5)
    assert torch.allclose(audio[:, :, :known], start_audio[:, :, :known], atol=1e-5)
    still_video, _ = sampled(pack.nodes.host.with_picture_offset(model, 0.0), latent)
    assert (still_video - video)[:, :, 2:].abs().max() > 1e-3, "the moved clock must matter"
    again, _ = sampled(model, latent)
    assert torch.equal(again, unmoved_video), "the clock comes off with the clone"


def test_what_the_graph_has_fixed_already_stays_fixed(run, pack, folders):
    """Guides that the host hangs on at the end, a sound of one's own, and a mask of the picture's area."""
    (state, _), _ = segment(run, pack)
    video, audio = torch.zeros(1, 128, 7, 2, 3), torch.full((1, 8, 35, 16), 0.5)  # 5 frames and two guides
    video_mask = torch.ones(1, 1, 7, 1, 1)
    video_mask[:, :, 5:] = 0.3
    given = {
        "state": state,
        "vae": samples.FakeVae(),
        "seconds": 9.0,
        "divide": 1,
        "strength": 1.0,
        "audio_overlap": -1,
    }
    latent = {"samples": nested(pack, video, audio), "noise_mask": nested(pack, video_mask, torch.zeros(1, 1, 64, 64))}
    before = digest([video_mask, video, audio])
    made, _, frames, _ = run("StateToAVLatent", latent=latent, **given).args
    after_video, after_audio = made["noise_mask"].unbind()
    assert frames == 33 and torch.allclose(after_video.flatten(), torch.tensor([0, 0, 1, 1, 1, 0.3, 0.3]))
    assert after_audio[:, :, :35].eq(0).all() and made["samples"].unbind()[1][:, :, 20:35].eq(0.5).all(), (
        "one's own sound is kept"
    )
    assert digest([video_mask, video, audio]) == before
    area = torch.ones(1, 128, 5, 2, 3)
    area[..., 0] = 0
    latent = {
        "samples": nested(pack, video[:, :, :5], audio),
        "noise_mask": nested(pack, area, torch.ones(1, 8, 35, 16)),
    }
    made = run("StateToAVLatent", latent=latent, **given).args[0]["noise_mask"].unbind()[0]
    assert made[:, :, :2].eq(0).all() and made[:, :, 2:, :, 1:].eq(1).all() and made[:, :, 2:, :, 0].eq(0).all()
    # a plain mask is the picture's
    made = (
        run("StateToAVLatent", latent={**latent, "noise_mask": torch.ones(1, 1, 4, 6)}, **given)
        .args[0]["noise_mask"]
        .unbind()
    )
    assert made[0].amax((3, 4)).flatten().tolist() == [0, 0, 1, 1, 1] and made[1].flatten()[-1] == 1


def test_guides_are_no_frames_of_the_segment(run, pack, folders):
    video_mask = torch.ones(1, 1, 7, 1, 1)
    video_mask[:, :, 5:] = 0.3
    samples_ = nested(pack, torch.zeros(1, 128, 7, 2, 3), torch.zeros(1, 8, 35, 16))
    latent = {"samples": samples_, "noise_mask": nested(pack, video_mask, torch.ones(1, 1, 35, 1))}
    given = {"fps": 24.0, "video_overlap": 9, "audio_overlap": 9}
    _, made, images, _ = run("AVLatentToState", latent=latent, images=samples.frames(33), **given).args
    assert made.timing.frames == len(images) == 33
    with pytest.raises(ValueError, match="hold 16 frames of guides .* behind the clip's 33: put LTXVCropGuides"):
        run("AVLatentToState", latent=latent, images=samples.frames(49), **given)
    with pytest.raises(ValueError, match="41 images, the latent decodes to 33"):
        run("AVLatentToState", latent=latent, images=samples.frames(41), **given)


@pytest.mark.parametrize("known", [0, 2, 5])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_references_at_half_the_size_are_no_frames_of_the_segment(run, pack, folders, strength, known):
    """As the host lays them out for an IC-LoRA, on every second cell, at whatever strength; picture that is known
    before them stays picture."""
    video_mask = torch.ones(1, 1, 8, 2, 4)
    video_mask[:, :, :known] = 0
    video_mask[:, :, 5:] = -1 - strength
    video_mask[:, :, 5:, ::2, ::2] = 1 - strength
    video, audio = torch.randn(1, 128, 8, 2, 4), torch.zeros(1, 8, 35, 16)
    latent = {"samples": nested(pack, video, audio), "noise_mask": nested(pack, video_mask, torch.ones(1, 1, 35, 1))}
    given = {"fps": 24.0, "video_overlap": 9, "audio_overlap": 9}
    state, made, _, _ = run("AVLatentToState", latent=latent, images=samples.frames(33), **given).args
    assert made.timing.frames == 33
    # of the picture alone as well
    alone = {"samples": video, "noise_mask": video_mask}
    assert run("AVLatentToState", latent=alone, images=samples.frames(33), **given).args[1].timing.frames == 33
    begin = {"vae": samples.FakeVae(), "seconds": 9.0, "divide": 1, "strength": 1.0, "audio_overlap": -1}
    filled, _, frames, _ = run("StateToAVLatent", state=state, latent=latent, **begin).args
    samples_, mask = filled["samples"].unbind()[0], filled["noise_mask"].unbind()[0]
    assert frames == 33 and torch.equal(samples_[:, :, 5:], video[:, :, 5:])
    assert torch.equal(mask[:, :, 5:], video_mask[:, :, 5:])
