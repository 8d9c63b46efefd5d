import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltx2 import clock
from ltx2.errors import Ltx2Warning, RequestError
from ltx2.stages.conditioning import (
    Conditioning,
    add_guide,
    condition_video,
    encode_own_audio,
    latent_mask,
    place_audio,
    place_latent,
)
from ltx2.stages.conditioning.positions import Guide, guide_positions
from ltx2.stages.conditioning.references import ReferenceLatent
from ltx2.stages.denoising.streams import ClipClock, streams
from ltx2.values import AudioCondition, AVLatent, ClipCondition, ImageCondition, LatentCondition, Waveform

SHAPE = (2, 4, 5, 2, 3)
FRAMES = clock.frames_of_latents(SHAPE[2])


def encode(pixels):
    """Mean colour per latent cell, so that a test can tell pictures apart."""
    _, _, count, height, width = pixels.shape
    mean = pixels.mean()
    return torch.full((1, SHAPE[1], clock.latent_frames(count), height // 32, width // 32), float(mean))


def picture(level):
    return np.full((64, 96, 3), level, dtype=np.uint8)


def known(**conditions):
    return condition_video(SHAPE, encode, image_crf=0, **conditions)


def test_a_picture_at_the_start_is_put_in_place():
    result = known(images=[ImageCondition(picture(255), strength=0.75)])
    assert result.video.shape == (1, *SHAPE[1:]) and not result.guides
    assert torch.allclose(result.video[:, :, 0], torch.tensor(1.0)) and not result.video[:, :, 1:].any()
    assert (result.video_mask[:, :, 0] == 0.25).all() and (result.video_mask[:, :, 1:] == 1).all()


def test_a_picture_later_on_becomes_a_guide():
    result = known(images=[ImageCondition(picture(0), frame=20, strength=0.5)])
    assert result.video is None and result.extra_tokens(1) == 6
    assert (result.guides[0].frame, result.guides[0].strength) == (20, 0.5)


def test_what_is_looked_at_by_less_is_a_guide_wherever_it_stands():
    clip = np.zeros((9, 64, 96, 3), np.uint8)
    result = known(
        images=[ImageCondition(picture(255), strength=0.7, attention=0.5), ImageCondition(picture(0), frame=20)],
        clips=[ClipCondition(clip, attention=0.25), ClipCondition(clip[:8], frame=9, attention=0.0)],
    )
    assert result.video is None
    found = [(guide.frame, guide.strength, guide.attention, guide.latent.shape[2]) for guide in result.guides]
    assert found == [(20, 1.0, 1.0, 1), (0, 0.7, 0.5, 1), (0, 1.0, 0.25, 2), (9, 1.0, 0.0, 1)]
    for wrong, words in (
        (ClipCondition(np.zeros((FRAMES, 64, 96, 3), np.uint8), frozen=True, attention=0.5), "it is put in place"),
        (ClipCondition(clip, attention=1.5), "clip condition has attention 1.5, expected 0"),
    ):
        with pytest.raises(RequestError, match=words):
            known(clips=[wrong])


@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), max_size=4), st.booleans())
def test_rows_of_guides_are_the_matrix(attentions, with_reference):
    """Clip and guide look at each other by the guide's attention; guides, and guides and references, in full."""
    latents = torch.zeros(1, 4, 1, 2, 3)
    reference = (ReferenceLatent(latents, attention=0.6),) if with_reference else ()
    guides = tuple(Guide(latents, 8 * i + 1, attention=a) for i, a in enumerate(attentions))
    found = streams(
        AVLatent(torch.zeros(1, 4, 2, 2, 3), None), Conditioning(guides=guides, references=reference), ClipClock(24)
    ).video
    weights = torch.cat([torch.ones(12), *(torch.full((6,), a) for a in sorted(attentions, key=lambda a: a != 1))])
    front = 12 + 6 * sum(a == 1 for a in attentions)
    weights = torch.cat([weights, torch.full((6,), 0.6)] if with_reference else [weights])
    wanted = torch.ones(len(weights), len(weights))
    wanted[:front, front:], wanted[front:, :front] = weights[front:], weights[front:, None]
    assert found.positions.shape[2] == len(weights)
    if found.attention is None:
        assert bool((wanted == 1).all())
        return
    assert [row.start for row in found.attention[1:]] == [row.stop for row in found.attention[:-1]]
    matrix = torch.cat([row.strengths.expand(row.stop - row.start, -1) for row in found.attention])
    assert torch.equal(matrix, wanted)


def test_later_writes_win():
    latent = torch.full((1, 4, 2, 2, 3), 7.0)
    result = known(
        latent=LatentCondition(latent),
        images=[
            ImageCondition(picture(255)),
            ImageCondition(picture(255), frame=9),
            ImageCondition(picture(0), frame=9),
        ],
    )
    assert torch.allclose(result.video[:, :, 0], torch.tensor(1.0)) and (result.video[:, :, 1] == 7).all()
    assert [(g.frame, float(g.latent.mean())) for g in result.guides] == [(9, -1.0)]
    clips = [ClipCondition(np.stack([picture(0)] * 17))]
    result = known(images=[ImageCondition(picture(255)), ImageCondition(picture(255), frame=9)], clips=clips)
    assert (result.video[:, :, :3] == -1).all() and not result.guides


def test_each_picture_is_encoded_once():
    calls = []

    def counting(pixels):
        calls.append(pixels.shape)
        return encode(pixels)

    image = picture(10)
    images = [ImageCondition(image, frame=k) for k in (0, 5, 9)]
    condition_video(SHAPE, counting, images=images, image_crf=0)
    assert len(calls) == 1


def test_a_clip_later_on_becomes_guides_on_the_latent_grid():
    frames = np.stack([picture(9)] * 9)
    assert known(clips=[ClipCondition(frames, frame=17)]).guides[0].frame == 17
    with pytest.warns(Ltx2Warning, match="begins at frame 9"):
        result = known(clips=[ClipCondition(frames, frame=12)])
    assert result.guides[0].frame == 9 and result.guides[0].latent.shape[2] == 2 and result.video is None


@pytest.mark.parametrize(
    "conditions, sentence",
    [
        ({"images": [ImageCondition(picture(0), frame=FRAMES)]}, "frames 0 to"),
        ({"images": [ImageCondition(picture(0), frame=-1)]}, "frames 0 to"),
        ({"images": [ImageCondition(picture(0), strength=1.5)]}, "expected 0"),
        ({"clips": [ClipCondition(np.stack([picture(0)] * 8))]}, "8k\\+1"),
        ({"clips": [ClipCondition(np.stack([picture(0)] * 9), strength=3)]}, "expected 0"),
        ({"clips": [ClipCondition(np.stack([picture(0)] * 17), frame=25)]}, "the clip has frames 0 to 32"),
        ({"latent": LatentCondition(torch.zeros(1, 4, 2, 2, 2))}, "same picture size"),
        ({"latent": LatentCondition(torch.zeros(3, 4, 2, 2, 3))}, "same picture size"),
        ({"latent": LatentCondition(torch.zeros(1, 4, 2, 2, 3), latent_frame=4)}, "latent frames 4 to 5"),
    ],
)
def test_what_does_not_fit_is_told(conditions, sentence):
    with pytest.raises(RequestError, match=sentence):
        known(**conditions)


def test_ranks_and_batches_of_latents():
    for latent in (torch.ones(4, 2, 3), torch.ones(4, 1, 2, 3), torch.ones(1, 4, 1, 2, 3)):
        result = place_latent(Conditioning(), latent, latent_frame=1, strength=1.0, shape=SHAPE)
        assert result.video.shape == (1, *SHAPE[1:]) and (result.video[:, :, 1] == 1).all()
    first = place_latent(Conditioning(), torch.ones(1, 4, 1, 2, 3), latent_frame=0, strength=1.0, shape=SHAPE)
    before = first.video.clone()
    both = place_latent(first, torch.full((2, 4, 1, 2, 3), 2.0), latent_frame=4, strength=1.0, shape=SHAPE)
    assert both.video.shape == SHAPE and (both.video[:, :, 0] == 1).all() and (both.video[:, :, 4] == 2).all()
    assert torch.equal(first.video, before)


def test_guide_positions():
    still = guide_positions(Guide(torch.zeros(1, 4, 1, 2, 3), 20), 25, video_offset_seconds=2, device="cpu")
    assert still.shape == (1, 3, 6, 2)
    assert torch.allclose(still[0, 0, 0], torch.tensor([2 + 20 / 25, 2 + 21 / 25]))
    assert still[0, 1, 5].tolist() == [32, 64] and still[0, 2, 5].tolist() == [64, 96]
    clip = guide_positions(Guide(torch.zeros(1, 4, 2, 1, 1), 9), 25, device="cpu")
    assert torch.allclose(clip[0, 0], torch.tensor([[9.0, 17], [17, 25]]) / 25)
    start = guide_positions(Guide(torch.zeros(1, 4, 2, 1, 1), 0), 25, device="cpu")
    assert torch.allclose(start[0, 0], torch.tensor([[0.0, 1], [1, 9]]) / 25)


def test_audio_prefix():
    latent = torch.randn(1, 8, 5, 16)
    result = place_audio(Conditioning(), AudioCondition(latent, mask=0.25), audio_latents=9)
    assert torch.equal(result.audio[:, :, :5], latent) and not result.audio[:, :, 5:].any()
    assert result.audio_mask.flatten().tolist() == [0.25] * 5 + [1.0] * 4 and not result.audio_frozen
    with pytest.raises(RequestError, match="5 audio latents are given, the clip has 4"):
        place_audio(Conditioning(), AudioCondition(latent), audio_latents=4)
    with pytest.raises(RequestError, match="expected 0"):
        place_audio(Conditioning(), AudioCondition(latent, mask=2.0), audio_latents=9)


def test_own_sound_fills_the_clip():
    rate, wanted, heard = 16000, 9, []

    def encoder(waveform):
        heard.append(waveform.samples)
        return torch.zeros(1, 8, int(waveform.seconds * 25) + 1, 16)

    for seconds in (0.1, 1.0):
        sound = Waveform(torch.randn(2, int(rate * seconds)), rate)
        condition = encode_own_audio(sound, encoder, audio_latents=wanted)
        given = min(sound.samples.shape[1], 33 * 160)  # 9 latents are 33 mel frames
        assert heard[-1].shape == (2, 33 * 160) and not heard[-1][:, given:].any()
        assert torch.equal(heard[-1][:, :given], sound.samples[:, :given])
        assert condition.frozen and condition.waveform is sound and condition.latent.shape[2] == wanted
        placed = place_audio(Conditioning(), condition, audio_latents=wanted)
        assert placed.audio_frozen and not placed.audio_mask.any()
    with pytest.warns(Ltx2Warning, match="silent .16000 samples"):
        encode_own_audio(Waveform(torch.zeros(2, rate), rate), encoder, audio_latents=wanted)
    with pytest.raises(RequestError, match="pad it with silence"):
        place_audio(Conditioning(), AudioCondition(torch.zeros(1, 8, 3, 16), frozen=True), audio_latents=wanted)


@pytest.mark.parametrize("size", [(4, 6), (10, 9), (2, 3)])
def test_a_latent_is_made_anew_as_far_as_any_pixel_of_it(size):
    mask = torch.zeros(17, *size)
    mask[0, 0, 0], mask[8, -1, -1], mask[9, 0, -1] = 0.03, 1.0, 0.5
    found = latent_mask(mask, 2, 3)
    assert found.shape == (1, 1, 3, 2, 3) and found.count_nonzero() == 3
    # in steps of 1/16, upwards
    assert [float(one) for one in (found[0, 0, 0, 0, 0], found[0, 0, 1, -1, -1], found[0, 0, 2, 0, -1])] == [
        1 / 16,
        1,
        0.5,
    ]


def test_says_what_it_holds():
    conditioning = add_guide(
        known(images=[ImageCondition(picture(0))]), torch.zeros(1, 4, 1, 2, 3), frame=5, strength=1
    )
    assert str(conditioning) == "conditioning: 1 latent frames, 1 guides"
    assert str(Conditioning()) == "conditioning: nothing"
