"""Sound by itself, for a film, and going on from sound: on the tiny models, through the road that all doors take."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.checkpoint.models import load_transformer
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.continuation import load_attachment, save_attachment
from ltx2.errors import Ltx2Error
from ltx2.media import VideoWriter
from ltx2.media.found.film_picture import film_picture
from ltx2.stages.pipeline import generate, make_job
from ltx2.stages.request import Request
from ltx2.story.sound import make_sound, sound_job, state_of_sound
from ltx2.values import AudioCondition, AVLatent, ClipCondition

from ..media.films import grey

pytestmark = pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
ONE_STEP = {"denoise": {"num_inference_steps": 1}}
FAST = {"prompt": "rain", "preset": "ltx2_sound_fast", "seed": 3, "overrides": ONE_STEP}


def made(models, job):
    windows = []
    pieces = list(make_sound(models, job, made=lambda *one: windows.append(one)))
    return torch.cat([piece.samples for piece in pieces], dim=1), pieces[0].sample_rate, windows


def clip_of(frames, count=9):
    return ClipCondition(np.broadcast_to(np.array(frames, np.uint8), (count, 64, 64, 3)), frozen=True)


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
def test_half_of_the_transformer_makes_the_same_sound(models, tiny, version):
    from dataclasses import replace

    whole = models(version)
    half = load_transformer(open_checkpoint(tiny(version)["transformer"]), dtype=torch.float32, sound_only=True)
    count = [sum(weight.numel() for weight in network.parameters()) for network in (half, whole.transformer)]
    assert count[0] * 3 < count[1]
    request = Request(prompt="rain", preset="ltx2_sound", frames=9, seed=2, overrides=ONE_STEP, sound_only=True)
    found = [generate(one, request) for one in (whole, replace(whole, transformer=half))]
    assert found[0].latent.video is None and torch.equal(found[0].latent.audio, found[1].latent.audio)
    assert found[0].sound.samples.shape == found[1].sound.samples.shape and found[0].sound.samples.abs().max() > 0


def test_a_known_picture_is_heard_and_stays_as_it_is(models):
    loaded, sizes = models("2.3"), {"width": 64, "height": 64, "frames": 9, "sound_only": True}

    def run(level, **changed):
        return generate(loaded, Request(**FAST, **sizes, clips=(clip_of(level),), **changed))

    dark, bright = run(10), run(240)
    assert not torch.equal(dark.latent.audio, bright.latent.audio)
    assert torch.equal(dark.latent.audio, run(10).latent.audio)
    assert not torch.equal(dark.latent.video, bright.latent.video)
    # it is not noised: another seed sees the same picture bit for bit
    other = generate(loaded, Request(**{**FAST, "seed": 4}, **sizes, clips=(clip_of(10),)))
    assert torch.equal(other.latent.video, dark.latent.video)
    assert not torch.equal(other.latent.audio, dark.latent.audio)
    known = AudioCondition(torch.randn(1, 8, 4, 16))
    assert torch.equal(run(10, audio=known).latent.audio[:, :, :4].float(), known.latent)


def test_a_stream_that_is_known_has_noise_level_0_throughout(models):
    from ltx2.stages.conditioning import Conditioning
    from ltx2.stages.denoising import ClipClock, streams

    video = torch.zeros(1, 128, 2, 2, 2)
    start = AVLatent(video, torch.zeros(1, 8, 3, 16))
    known = Conditioning(video=video, video_mask=torch.zeros(1, 1, 2, 2, 2), video_frozen=True)
    found = streams(start, known, ClipClock(24))
    assert found.video.level(0.7) == 0 and found.audio.level(0.7) == 0.7


@pytest.mark.parametrize("seconds, windows", [(0.3, 1), (1.7, 2)])
def test_a_sound_of_any_length_is_as_long_as_it_says(models, monkeypatch, seconds, windows):
    monkeypatch.setattr("ltx2.film.sound_windows.WINDOW_SECONDS", 1.5)
    monkeypatch.setattr("ltx2.film.sound_windows.OVERLAP_SECONDS", 0.5)
    job = sound_job(models("2.3"), Request(**FAST, seconds=seconds))
    samples, rate, made_windows = made(models("2.3"), job)
    assert len(made_windows) == windows and samples.shape[1] == round(job.seconds * rate)
    assert float(job.seconds) == pytest.approx(seconds, abs=0.35) and torch.isfinite(samples).all()
    assert job.notes or job.seconds == seconds
    for (timing, segment), (following, after) in zip(made_windows, made_windows[1:]):
        shared = following.audio_overlap_latents
        assert shared >= 10
        before = segment.latent.audio[:, :, following.audio_shift : following.audio_shift + shared]
        assert torch.equal(after.latent.audio[:, :, :shared], before) and after.seed == segment.seed + 1
        assert following.picture_start == timing.picture_end


def test_sound_goes_on_from_sound_through_a_card(models, tmp_path):
    job = sound_job(models("2.3"), Request(**FAST, seconds=2.5))
    _, _, windows = made(models("2.3"), job)
    state = state_of_sound(job, *windows[-1])
    assert state.video_frames is None and state.audio_latents.shape[2] >= 48
    card = load_attachment(save_attachment(state, tmp_path / "sound.png")).state
    following = sound_job(models("2.3"), Request(**{**FAST, "seed": None}, seconds=1), state=card)
    _, _, after = made(models("2.3"), following)
    shared = after[0][0].audio_overlap_latents
    assert torch.equal(after[0][1].latent.audio[:, :, :shared], state.audio_latents[:, :, -shared:].float())
    assert after[0][1].seed == windows[-1][1].seed + 1
    from PIL import Image

    assert len(np.unique(np.asarray(Image.open(tmp_path / "sound.png")))) > 1  # something to look at


@pytest.mark.parametrize("fps, count", [(24, 30), (Fraction(30000, 1001), 11), (100, 60)])
def test_the_sound_of_a_film_is_as_long_as_the_film(models, tmp_path, fps, count):
    with VideoWriter(tmp_path / "film.mp4", fps=fps) as writer:
        writer.write_frames(grey(count))
    film = film_picture(tmp_path / "film.mp4", most_pixels=64 * 64)
    job = sound_job(models("2.3"), Request(**FAST), film=film)
    samples, rate, _ = made(models("2.3"), job)
    assert samples.shape[1] == round(Fraction(count) / Fraction(fps) * rate)


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"clips": (clip_of(1, 8),)}, "one frozen clip of all 9 frames"),
        ({"clips": (ClipCondition(np.zeros((9, 64, 64, 3), np.uint8)),)}, "one frozen clip"),
        ({"audio_latents": 0}, "silent or given"),
        ({"audio": AudioCondition(torch.zeros(1, 8, 99, 16), frozen=True)}, "silent or given"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(models, changed, sentence):
    asked = {**FAST, "width": 64, "height": 64, "frames": 9, "sound_only": True, **changed}
    with pytest.raises(Ltx2Error, match=sentence):
        make_job(models("2.3"), Request(**asked))


@pytest.mark.parametrize("changed, sentence", [({"seconds": 0}, "more than 0"), ({"seconds": 1, "frames": 9}, "both")])
def test_lengths_that_are_none(models, changed, sentence):
    with pytest.raises(Ltx2Error, match=sentence):
        sound_job(models("2.3"), Request(**FAST, **changed))
