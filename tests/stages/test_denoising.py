import json

import pytest
import torch

from ltx2 import clock
from ltx2.errors import RequestError
from ltx2.sampling import noise as sampling_noise
from ltx2.sampling.guidance import Guidance, StreamGuidance
from ltx2.sampling.samplers import SAMPLERS
from ltx2.sampling.tokens import AVTokens
from ltx2.stages.conditioning import Conditioning, Guide, place_audio
from ltx2.stages.denoising import ClipClock, Compute, Prompts, Sampling, denoise
from ltx2.stages.latent_preparation import draw_noise, empty_latent, noise_from_latents
from ltx2.values import AudioCondition, AVLatent, TextContext
from tests.golden import DATA, LIMIT
from tests.golden.pipeline import differences, run_stage

SIGMAS = (1.0, 0.7, 0.3, 0.0)
NOTHING = Conditioning()
CONTEXT = TextContext(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2))
NEGATIVE = TextContext(torch.ones(1, 4, 2), torch.ones(1, 4, 2))
FULL = StreamGuidance(cfg=3, modality=3, stg=1, rescale=0.7, stg_blocks=(1,))


class Model:
    """A stand-in for the transformer that remembers what it was given; its velocity depends on every input."""

    def __init__(self):
        self.calls = []

    def __call__(self, video, audio, perturbations):
        self.calls.append((video, audio, perturbations))
        both = 0.0
        if video is not None and audio is not None:
            isolated = (
                [p.skip_audio_to_video is None for p in perturbations] if perturbations else [False] * len(video.latent)
            )
            weight = torch.tensor([0.0 if skip else 1.0 for skip in isolated])[:, None, None]
            both = weight * audio.latent.mean((1, 2), keepdim=True)

        def velocity(given, skipped, other):
            if given is None or not given.enabled:
                return None
            skips = [bool(getattr(p, skipped)) for p in perturbations] if perturbations else [False] * len(given.latent)
            shift = torch.tensor([0.3 if s else 0.0 for s in skips])[:, None, None]
            x0 = 0.5 * given.latent + 0.1 * given.context.mean((1, 2), keepdim=True) + shift + 0.2 * other
            return (given.latent - x0) * (0.5 + given.timesteps)

        return velocity(video, "skip_video_self_attention", both), velocity(audio, "skip_audio_self_attention", 0.0)


def start(batch_size=1, **kwargs):
    return empty_latent(
        width=96, height=64, frames=17, audio_latents=clock.audio_latents(17, 24), batch_size=batch_size, **kwargs
    )


def run(model=None, latent=None, *, seed=5, conditioning=NOTHING, **settings):
    latent = start() if latent is None else latent
    batch = len(latent.video if latent.video is not None else latent.audio)
    settings.setdefault("noise", draw_noise(latent, sampling_noise.generators(seed, batch), conditioning=conditioning))
    prompts = {"positive": CONTEXT} | {
        n: settings.pop(n) for n in ("positive", "negative", "guidance") if n in settings
    }
    offset, at_once = settings.pop("video_offset_seconds", 0), settings.pop("passes_at_once", 1)
    progress = settings.pop("progress", None)
    return denoise(
        model or Model(),
        latent,
        Prompts(**prompts),
        Sampling(**{"sigmas": SIGMAS, "seeds": range(seed, seed + batch), **settings}),
        clock=ClipClock(24, offset),
        compute=Compute("cpu", torch.float32, at_once),
        conditioning=conditioning,
        progress=progress,
    )


@pytest.mark.parametrize("path", sorted((DATA / "pipeline").iterdir()), ids=lambda p: p.stem)
def test_golden(path):
    for name, difference in differences(path):
        assert difference <= LIMIT / 5, name


def test_stacked_passes_give_the_golden_too():
    data = json.loads((DATA / "pipeline/denoise_golden.json").read_text("utf-8"))
    case = data["cases"]["conditioned_base_guidance_10_steps"]
    one, _ = run_stage(data, case)
    stacked, passes = run_stage(data, case, passes_at_once=4)
    assert passes == case["model_calls"]
    assert torch.allclose(one.video, stacked.video, atol=1e-6) and torch.allclose(one.audio, stacked.audio, atol=1e-6)


@pytest.mark.parametrize("at_once, calls", [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_passes_are_stacked_or_not_with_one_result(at_once, calls):
    guidance = Guidance(FULL, FULL)
    model = Model()
    result = run(model, start(2), guidance=guidance, negative=NEGATIVE, passes_at_once=at_once)
    assert len(model.calls) == calls * (len(SIGMAS) - 1)
    alone = run(Model(), start(2), guidance=guidance, negative=NEGATIVE)
    assert torch.allclose(result.video, alone.video, atol=1e-6) and torch.allclose(result.audio, alone.audio, atol=1e-6)


def test_distilled_is_one_pass_a_step():
    model = Model()
    run(model)
    assert [len(video.latent) for video, _, _ in model.calls] == [1] * 3
    assert all(perturbations is None for _, _, perturbations in model.calls)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_known_tokens_come_back_bit_for_bit(sampler):
    latent = start(dtype=torch.bfloat16)
    video = torch.randn(1, 128, 3, 2, 3).bfloat16()
    mask = torch.ones(1, 1, 3, 2, 3)
    mask[:, :, :2] = 0
    sound = torch.randn(1, 8, 6, 16).bfloat16()
    conditioning = place_audio(
        Conditioning(video=video, video_mask=mask), AudioCondition(sound), audio_latents=latent.audio.shape[2]
    )
    result = run(latent=latent, conditioning=conditioning, sampler=sampler)
    assert result.video.dtype == torch.bfloat16
    assert torch.equal(result.video[:, :, :2], video[:, :, :2]) and not torch.equal(
        result.video[:, :, 2], video[:, :, 2]
    )
    assert torch.equal(result.audio[:, :, :6], sound)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_result_and_each_sample_by_itself(sampler):
    guidance = Guidance(FULL, FULL)
    settings = {"sampler": sampler, "guidance": guidance, "negative": NEGATIVE}
    both, again = run(latent=start(2), **settings), run(latent=start(2), **settings)
    assert torch.equal(both.video, again.video) and torch.equal(both.audio, again.audio)
    second = run(latent=start(1), seed=6, **settings)
    assert torch.allclose(both.video[1:], second.video, atol=1e-6) and torch.allclose(
        both.audio[1:], second.audio, atol=1e-6
    )
    assert not torch.equal(both.video[0], both.video[1])


def test_token_timesteps_are_mask_times_sigma():
    mask = torch.ones(1, 1, 3, 2, 3)
    mask[:, :, 0] = 0.25
    model = Model()
    run(model, conditioning=Conditioning(video=torch.zeros(1, 128, 3, 2, 3), video_mask=mask))
    for (video, audio, _), sigma in zip(model.calls, SIGMAS):
        assert torch.allclose(video.timesteps[0, :6], torch.tensor(0.25 * sigma))
        assert torch.allclose(video.timesteps[0, 6:], torch.tensor(sigma))
        assert torch.allclose(audio.timesteps, torch.tensor(sigma)) and video.sigma.item() == pytest.approx(sigma)


def test_frozen_sound_is_noiseless_and_returns_as_given():
    sound = torch.randn(1, 8, start().audio.shape[2], 16)
    conditioning = place_audio(Conditioning(), AudioCondition(sound, frozen=True), audio_latents=sound.shape[2])
    model = Model()
    result = run(model, conditioning=conditioning)
    assert torch.equal(result.audio, sound)
    for _, audio, _ in model.calls:
        assert not audio.timesteps.any() and not audio.sigma.any()
        assert torch.equal(audio.latent, sound.transpose(1, 2).flatten(2))


def test_frozen_sound_is_not_guided():
    sound = torch.randn(1, 8, start().audio.shape[2], 16)
    conditioning = place_audio(Conditioning(), AudioCondition(sound, frozen=True), audio_latents=sound.shape[2])
    model = Model()
    run(
        model,
        conditioning=conditioning,
        guidance=Guidance(StreamGuidance(stg=1, stg_blocks=(1,)), FULL),
        negative=NEGATIVE,
    )
    assert len(model.calls) == 2 * 3
    assert model.calls[1][2][0].skip_video_self_attention == (1,) and not model.calls[1][2][0].skip_audio_self_attention


def test_guides_are_seen_and_dropped():
    latent = torch.randn(1, 128, 1, 2, 3)
    conditioning = Conditioning(guides=(Guide(latent, 9, 1.0), Guide(latent, 12, 0.5)))
    model = Model()
    result = run(model, conditioning=conditioning)
    assert result.video.shape == start().video.shape
    video = model.calls[0][0]
    assert video.latent.shape[1] == 18 + 12 and video.positions.shape == (1, 3, 30, 2)
    assert torch.equal(video.latent[0, 18:24], latent[0].flatten(1).T)
    assert not video.timesteps[0, 18:24].any() and torch.allclose(video.timesteps[0, 24:], torch.tensor(0.5))
    assert video.keyframes_mask[0, :6].all() and not video.keyframes_mask[0, 6:].any()


def test_offset_moves_the_picture_only():
    model = Model()
    run(model, video_offset_seconds=1.5)
    video, audio, _ = model.calls[0]
    assert video.positions[0, 0].min() == 1.5 and audio.positions.min() == 0
    assert video.positions[0, 1].min() == 0


def test_one_stream_alone():
    video_only = run(
        latent=AVLatent(start().video, None),
        positive=TextContext(CONTEXT.video, None),
        guidance=Guidance(FULL, FULL),
        negative=TextContext(NEGATIVE.video, None),
    )
    assert video_only.audio is None and video_only.video.shape == start().video.shape
    sound_only = run(latent=AVLatent(None, start().audio))
    assert sound_only.video is None and sound_only.audio.shape == start().audio.shape


def test_skipped_steps_reuse_the_last_prediction():
    skipping = Guidance(StreamGuidance(cfg=3, skip_step=1), StreamGuidance(cfg=7))
    model = Model()
    run(model, guidance=skipping, negative=NEGATIVE, sigmas=(1.0, 0.8, 0.6, 0.3, 0.0))
    assert [video.enabled for video, _, _ in model.calls[::2]] == [True, False, True, False]
    both = Guidance(StreamGuidance(cfg=3, skip_step=1), StreamGuidance(cfg=7, skip_step=1))
    model = Model()
    run(model, guidance=both, negative=NEGATIVE, sigmas=(1.0, 0.8, 0.6, 0.3, 0.0))
    assert len(model.calls) == 2 * 2


def test_guidance_by_noise_level():
    model = Model()
    run(model, guidance={1.0: Guidance(StreamGuidance(cfg=3)), 0.5: Guidance()}, negative=NEGATIVE)
    assert len(model.calls) == 2 + 2 + 1


def test_refining_starts_from_the_latents_given():
    latent = AVLatent(torch.randn_like(start().video), torch.randn_like(start().audio))
    model = Model()
    drawn = draw_noise(latent, sampling_noise.generators(1, 1))
    run(model, latent, sigmas=(0.9, 0.4, 0.0), noise=drawn)
    expected = 0.9 * drawn.video + 0.1 * latent.video.flatten(2).transpose(1, 2)
    assert torch.allclose(model.calls[0][0].latent, expected, atol=1e-6)
    model = Model()
    run(model, latent, sigmas=(0.9, 0.4, 0.0), noise=drawn, noise_scale=0.0)
    assert torch.allclose(model.calls[0][1].latent, latent.audio.transpose(1, 2).flatten(2), atol=1e-6)


def test_progress_reports_each_step_with_the_picture_so_far():
    seen = []
    run(conditioning=Conditioning(guides=(Guide(torch.zeros(1, 128, 1, 2, 3), 9),)), progress=seen.append)
    assert [(p.stage, p.done, p.total) for p in seen] == [("denoising", i, 3) for i in range(4)]
    assert seen[0].preview is None and seen[1].preview.video.shape == start().video.shape


def test_raising_from_progress_interrupts():
    def stop(report):
        if report.done == 1:
            raise KeyboardInterrupt

    model = Model()
    with pytest.raises(KeyboardInterrupt):
        run(model, progress=stop)
    assert len(model.calls) == 1


def test_noise_of_a_host_in_latent_layout():
    latent = start()
    video, audio = torch.randn_like(latent.video), torch.randn_like(latent.audio)
    conditioning = Conditioning(guides=(Guide(torch.zeros(1, 128, 1, 2, 3), 9, 0.5),))
    tokens = noise_from_latents(AVLatent(video, audio), conditioning=conditioning, guide_seed=3)
    assert tokens.video.shape == (1, 24, 128)
    model = Model()
    run(model, conditioning=conditioning, noise=tokens)
    assert torch.equal(model.calls[0][0].latent[0, 7], video[0, :, 1, 0, 1])


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"sampler": "dpm"}, "euler, euler_ancestral"),
        ({"sampler": "res_2s", "seeds": None}, "needs a seed"),
        ({"guidance": Guidance(FULL, FULL)}, "no negative prompt"),
        ({"positive": TextContext(CONTEXT.video, None)}, "no audio part"),
        ({"sigmas": (0.5, 0.9, 0.0)}, "does not descend"),
        ({"noise": AVTokens(torch.zeros(1, 3, 128), None)}, "video noise is for"),
        (
            {"conditioning": Conditioning(video=torch.zeros(1, 128, 2, 2, 3), video_mask=torch.zeros(1, 1, 2, 2, 3))},
            "of one size",
        ),
    ],
)
def test_what_does_not_fit_is_told(settings, sentence):
    with pytest.raises(RequestError, match=sentence):
        run(**settings)


def test_nothing_to_denoise():
    nothing = AVTokens(None, None)
    with pytest.raises(RequestError, match="nothing to denoise"):
        denoise(
            Model(),
            AVLatent(None, None),
            Prompts(CONTEXT),
            Sampling(SIGMAS, nothing),
            clock=ClipClock(24),
            compute=Compute("cpu", torch.float32),
        )


def test_generators_must_be_one_a_sample():
    with pytest.raises(RequestError, match="give one each"):
        draw_noise(start(2), sampling_noise.generators(0, 1))
