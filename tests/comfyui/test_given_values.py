"""Sound and prompts that nodes are given: what cannot work is refused before anything is sampled, what is adjusted is
told."""

import pytest
import torch


def audio_of(samples, rate=16000):
    return {"waveform": samples, "sample_rate": rate}


@pytest.mark.parametrize("channels", (1, 2, 3, 6, 9))
def test_own_sound_of_any_channels_is_mixed_down_with_a_note(run, channels):
    result = run("UseAudio", audio=audio_of(torch.rand(1, channels, 800) / 10))
    heard, notes = result.args[0].audio, result.ui["text"]
    assert heard.samples.shape == (min(channels, 2), 800)
    assert [f"has {channels} channels" in note for note in notes] == [True] * (channels > 2)


BROKEN = {
    "nan": audio_of(torch.full((1, 2, 800), float("nan"))),
    "inf": audio_of(torch.full((1, 2, 800), float("inf"))),
    "empty": audio_of(torch.zeros(1, 2, 0)),
    "no batch": audio_of(torch.zeros(0, 2, 800)),
    "flat": audio_of(torch.zeros(800)),
    "no rate": audio_of(torch.zeros(1, 2, 800), None),
    "rate 0": audio_of(torch.zeros(1, 2, 800), 0),
    "no sound": {},
    "text": "x",
}


@pytest.mark.parametrize("audio", BROKEN.values(), ids=BROKEN)
def test_sound_that_is_none_is_refused_where_it_comes_in(run, pack, made, audio):
    with pytest.raises(pack.ltx2.errors.MediaError, match="audio|sound") as caught:
        run("UseAudio", audio=audio)
    assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)
    with pytest.raises(pack.ltx2.errors.MediaError):
        run("MakeState", latent=made.finished, images=made.images, audio=audio, video_overlap=9, audio_overlap=17)


def test_a_prompt_that_is_cut_is_told_by_the_node_and_in_the_clip(run, made):
    long = "".join(f"the sea at {i} " for i in range(2000))
    result = run("EncodePrompt", text_encoder=made.parts["text_encoder"], prompt=long, negative_prompt="short")
    (note,) = result.ui["text"]
    assert note.startswith("the prompt has ") and "are not read" in note
    assert result.args[0].notes == (note,) and result.args[1].notes == ()


def test_a_prompt_with_half_a_character_is_refused(run, pack, made):
    with pytest.raises(pack.ltx2.errors.RequestError, match="half a character"):
        run("EncodePrompt", text_encoder=made.parts["text_encoder"], prompt="a \ud800 b", negative_prompt="short")
