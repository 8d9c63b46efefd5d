"""Reference voices: where their tokens lie, what they change, the pass without them, and that nothing of them is left
in the result."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from ltx2 import clock
from ltx2.checkpoint.lora import Lora
from ltx2.errors import MediaError, RequestError
from ltx2.networks.transformer.model import StreamInput
from ltx2.sampling import noise as sampling_noise
from ltx2.sampling.guidance import (
    NEGATIVE,
    POSITIVE,
    VOICELESS,
    Guidance,
    StreamGuidance,
    calls,
    combine,
    passes,
    with_identity,
)
from ltx2.sampling.tokens import patchify_audio, patchify_video
from ltx2.stages import steps
from ltx2.stages.conditioning import Conditioning
from ltx2.stages.conditioning.voices import check_voice, voice_lora_notes, voice_positions
from ltx2.stages.denoising import ClipClock, Compute, Prompts, Sampling, denoise
from ltx2.stages.given import ready_voice
from ltx2.stages.latent_preparation import draw_noise, empty_latent
from ltx2.stages.pipeline import generate
from ltx2.stages.request import Request, make_job
from ltx2.values import TextContext, VoiceCondition, Waveform

RATE = 16_000


def speech(seconds: float, channels: int = 1) -> Waveform:
    return Waveform(torch.sin(torch.arange(int(seconds * RATE)) / 20.0).repeat(channels, 1), RATE)


def lora(name: str, **metadata: str) -> Lora:
    return Lora(Path(name), MappingProxyType({}), MappingProxyType(metadata))


@pytest.mark.parametrize("latents", [1, 2, 125])
def test_a_voice_ends_one_latent_before_the_clip(latents):
    begins, ends = voice_positions(latents, device="cpu")[0, 0].unbind(-1)
    assert torch.allclose(ends[-1], torch.tensor(-0.04)) and (ends < 0).all() and (begins < ends).all()
    if latents > 1:
        # the first latent of a sound is a quarter as long as the others
        assert torch.allclose(ends - begins, torch.tensor([0.01, *[0.04] * (latents - 1)]), atol=1e-6)


def test_one_step_is_that_of_the_sequence_made_by_hand(models):
    """With the voice in front of the sound, as another implementation has it: tokens know no order but their times."""
    network = models("2.3").transformer
    config, made = network.config, torch.Generator().manual_seed(1)
    start = empty_latent(width=64, height=64, frames=9, audio_latents=clock.audio_latents(9, 24))
    voice = torch.randn(1, 8, 5, 16, generator=made)
    width = config.caption_channels or config.context_width, config.caption_channels or config.audio_context_width
    texts = [TextContext(*(torch.randn(1, 6, one, generator=made) for one in width)) for _ in range(2)]
    scales = StreamGuidance(cfg=2.0, rescale=0.5, identity=3.0)
    conditioning = Conditioning(voice=voice)
    drawn = draw_noise(start, sampling_noise.generators(7, 1), conditioning=conditioning)
    own = start.audio.shape[2]
    assert drawn.audio.shape[1] == own + 5

    def run(guidance, at_once=1):
        found = denoise(
            network, start, Prompts(*texts, guidance), Sampling((1.0, 0.0), drawn), clock=ClipClock(24),
            compute=Compute("cpu", torch.float32, at_once), conditioning=conditioning,
        )  # fmt: skip
        assert found.audio.shape == start.audio.shape
        return patchify_video(found.video), patchify_audio(found.audio)

    from ltx2.networks.layers.rope import audio_positions, video_positions

    video_places = video_positions(2, 2, 2, 24, device="cpu")
    heard_at = torch.tensor([[max(0, 4 * k - 3) / 100, (4 * k + 1) / 100] for k in range(5)]) - (17 / 100 + 0.04)

    def by_hand(text, with_voice=True):
        sound, level, places = drawn.audio[:, :own], torch.ones(1, own), audio_positions(own, device="cpu")
        if with_voice:
            sound = torch.cat([patchify_audio(voice), sound], dim=1)
            level = torch.cat([torch.zeros(1, 5), level], dim=1)
            places = torch.cat([heard_at[None, None], places], dim=2)
        one = torch.ones(1)
        with torch.no_grad():
            velocities = network(
                StreamInput(drawn.video, torch.ones(1, 1), one, video_places, text.video,
                            keyframes_mask=(torch.arange(8) < 4).float()[None]),
                StreamInput(sound, level, one, places, text.audio),
            )  # fmt: skip
        return drawn.video - velocities[0], (sound - velocities[1] * level[..., None])[:, -own:]

    positive, negative, alone = by_hand(texts[0]), by_hand(texts[1]), by_hand(texts[0], with_voice=False)
    results = run(Guidance(scales, scales), 1), run(Guidance(scales, scales), 3)
    for stream in range(2):
        p, n, without = positive[stream], negative[stream], alone[stream]
        plain = combine({POSITIVE: p, NEGATIVE: n}, replace(scales, identity=0.0))
        for found in results:
            assert torch.allclose(found[stream], plain + 3.0 * (p - without), atol=2e-4)
        assert not torch.allclose(p, without, atol=1e-4)
    silent = run(Guidance())
    assert all(torch.allclose(found, hand, atol=1e-4) for found, hand in zip(silent, positive))


def test_passes_and_calls():
    plain = Guidance(StreamGuidance(cfg=3), StreamGuidance(stg=1, stg_blocks=(1,)))
    wanted = passes(with_identity(plain, 3.0))
    assert wanted[-1] == VOICELESS and VOICELESS not in passes(with_identity(plain, 0.0))
    assert VOICELESS not in passes(with_identity(plain, 3.0), audio=False)
    # it has fewer tokens, so that it is stacked with no other
    for at_once in (1, 2, 9):
        found = calls(wanted, at_once)
        assert found[-1] == (VOICELESS,) and [name for call in found for name in call] == list(wanted)
        assert max(map(len, found)) == min(at_once, len(wanted) - 1)
    x = {POSITIVE: torch.randn(1, 3, 4), VOICELESS: torch.randn(1, 3, 4)}
    rescaled = StreamGuidance(identity=2.0, rescale=0.7)  # nothing to take back where nothing else guides
    assert torch.allclose(combine(x, rescaled), x[POSITIVE] + 2 * (x[POSITIVE] - x[VOICELESS]))


def request(**more) -> Request:
    given = {"prompt": "a lake", "width": 64, "height": 64, "frames": 9, "preset": "ltx2_fast", "seed": 3}
    return Request(**given | more)


def test_a_clip_hears_its_voice_in_both_stages_and_goes_towards_it_in_the_first(models, monkeypatch):
    seen, really = [], steps.denoise

    def denoising(*args, conditioning, **options):
        seen.append((conditioning, args[2].guidance))
        return really(*args, conditioning=conditioning, **options)

    monkeypatch.setattr(steps, "denoise", denoising)
    loaded = replace(models("2.3"), distilled_lora=None)
    voice = VoiceCondition(speech(3))
    overrides = {"denoise": {"num_inference_steps": 1}, "refine": {"num_inference_steps": 2}}
    made = generate(loaded, request(voice=voice, overrides=overrides))
    assert [one.voice.shape for one, _ in seen] == [(1, 8, 76, 16)] * 2
    assert [(g.video.identity, g.audio.identity) for _, g in seen] == [(3.0, 3.0), (0.0, 0.0)]
    assert "a voice is given but no ID-LoRA is loaded: the model was not trained to take it up" in made.notes
    ready = replace(voice, sound=None, latent=seen[0][0].voice)
    again = generate(loaded, request(voice=ready, overrides=overrides))
    assert torch.equal(made.latent.audio, again.latent.audio)
    plain = generate(loaded, request(overrides=overrides))
    assert plain.latent.audio.shape == made.latent.audio.shape
    assert not torch.allclose(plain.latent.audio, made.latent.audio, atol=1e-3)
    # dubbed: the second stage leaves the sound as it is, and hears that
    seen.clear()
    kept = generate(loaded, request(voice=replace(voice, identity=0.0, keeps_sound=True), overrides=overrides))
    first, second = (one for one, _ in seen)
    assert not first.audio_frozen and second.audio_frozen and torch.equal(second.voice, second.audio)
    assert torch.equal(kept.latent.audio, second.audio)


def test_what_cannot_be_is_said_before_anything_runs(models):
    loaded = models("2.3")
    for voice, more, said in (
        (speech(0.5), {}, r"0.50 s, expected 1 s or more: give about 5 s"),
        (speech(21), {}, r"21.00 s, expected at most 20 s: cut it"),
        (Waveform(torch.zeros(1, 5 * RATE), RATE), {}, "the voice is silent"),
        (speech(5), {"audio_latents": 0}, "silent film"),
        (speech(5), {"audio": speech(1)}, "a sound of one's own are given"),
    ):
        with pytest.raises(RequestError, match=said):
            make_job(loaded, request(voice=VoiceCondition(voice), **more))
    with pytest.raises(RequestError, match="identity of the voice is 21, expected 0"):
        make_job(loaded, request(voice=VoiceCondition(speech(5), 21)))
    assert any(
        "12.00 s, ID-LoRAs" in note for note in make_job(loaded, request(voice=VoiceCondition(speech(12)))).notes
    )


def test_what_is_no_voice_is_refused():
    for wrong, kind in (
        (speech(5), RequestError),
        (VoiceCondition(), RequestError),
        (VoiceCondition(speech(5), latent=torch.zeros(1, 8, 2, 16)), RequestError),
        (VoiceCondition(latent=torch.zeros(8, 2, 16)), RequestError),
        (VoiceCondition(latent=torch.full((1, 8, 2, 16), torch.nan)), RequestError),
        (VoiceCondition(Waveform(torch.zeros(1, 0), RATE)), MediaError),
        (VoiceCondition(speech(5), identity="much"), RequestError),
    ):
        with pytest.raises(kind):
            ready_voice(wrong)
    voice, notes = ready_voice(VoiceCondition(speech(2, channels=6)))
    assert voice.sound.samples.shape[0] == 2 and len(notes) == 1
    assert ready_voice(None) == (None, ())


def test_which_loras_take_up_a_voice():
    for name, takes in (
        ("ltx-2.3-id-lora-talkvid-3k.safetensors", True), ("ID_LoRA.safetensors", True), ("dub-it.safetensors", True),
        ("grid-lora.safetensors", False), ("ltx-2.3-22b-ic-lora-union.safetensors", False),
    ):  # fmt: skip
        assert lora(name).takes_voice == takes, name
    assert lora("renamed.safetensors", **{"modelspec.title": "My ID-LoRA"}).takes_voice
    voice = VoiceCondition(speech(5))
    assert voice_lora_notes(voice, [lora("style")]) and not voice_lora_notes(voice, [lora("id-lora")])
    dubbed = replace(voice, keeps_sound=True)
    assert voice_lora_notes(dubbed, [lora("id-lora")]) and not voice_lora_notes(dubbed, [lora("a-dubit-0.9")])
    assert not voice_lora_notes(None, []) and not check_voice(None, audio_latents=0, own_sound=True)
