import hashlib
import json

import pytest
import torch

from ltx2.sampling import noise
from ltx2.sampling.tokens import AVTokens, patchify_audio, patchify_video, unpatchify_audio, unpatchify_video
from tests.golden import DATA

ORDER = json.loads((DATA / "pipeline/noise_order.json").read_text("utf-8"))


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def test_official_order_video_tokens_then_audio_tokens():
    _, _, frames, height, width = ORDER["video_shape"]
    tokens = noise.draw_tokens(
        frames * height * width, 5, noise.generators(ORDER["seed"], 1), dtype=torch.float32, device="cpu"
    )
    video, audio = unpatchify_video(tokens.video, frames, height, width), unpatchify_audio(tokens.audio)
    assert list(video.shape) == ORDER["video_shape"] and list(audio.shape) == ORDER["audio_shape"]
    assert video.flatten()[:8].tolist() == pytest.approx(ORDER["video_first8"], abs=1e-6)
    assert audio.flatten()[:8].tolist() == pytest.approx(ORDER["audio_first8"], abs=1e-6)
    if torch.__version__ == ORDER["torch"]:
        assert sha256(video) == ORDER["token_order_video_sha256"]
        assert sha256(audio) == ORDER["audio_after_video_sha256"]


def test_patchify_and_back():
    video, audio = torch.randn(2, 128, 3, 2, 5), torch.randn(2, 8, 7, 16)
    assert torch.equal(unpatchify_video(patchify_video(video), 3, 2, 5), video)
    assert torch.equal(unpatchify_audio(patchify_audio(audio)), audio)
    assert torch.equal(patchify_video(video)[0, 1 * 10 + 1 * 5 + 3], video[0, :, 1, 1, 3])
    assert torch.equal(patchify_audio(audio)[0, 4], audio[0, :, 4].flatten())


def test_a_sample_draws_the_same_alone_and_in_a_batch():
    def tokens(seed, batch_size):
        return noise.draw_tokens(6, 5, noise.generators(seed, batch_size), dtype=torch.bfloat16, device="cpu")

    batch = tokens(40, 3)
    for i in range(3):
        alone = tokens(40 + i, 1)
        assert torch.equal(batch.video[i], alone.video[0]) and torch.equal(batch.audio[i], alone.audio[0])
    assert not torch.equal(batch.audio[0], batch.video[0, :5])


def test_noiser_keeps_what_is_known_and_mixes_the_rest():
    latent, clean, drawn = (torch.randn(1, 4, 8) for _ in range(3))
    mask = torch.tensor([0.0, 0.25, 1.0, 1.0])[None, :, None]
    mixed = noise.add_noise(latent, clean, mask, drawn, 0.75)
    start = 0.75 * drawn + 0.25 * latent
    assert torch.equal(mixed[:, 0], clean[:, 0])
    assert torch.allclose(mixed[:, 1], 0.25 * start[:, 1] + 0.75 * clean[:, 1])
    assert torch.allclose(mixed[:, 2:], start[:, 2:])
    assert torch.equal(noise.add_noise(latent, clean, torch.ones_like(mask), drawn, 1.0), drawn)
    assert torch.equal(noise.add_noise(latent, clean, torch.ones_like(mask), drawn, 0.0), latent)


def test_restore_and_exact_return():
    x0, clean = torch.randn(1, 3, 8).bfloat16(), torch.randn(1, 3, 8).bfloat16()
    mask = torch.tensor([0.0, 0.5, 1.0])[None, :, None]
    video = noise.restore(AVTokens(x0, None), AVTokens(clean, None), AVTokens(mask, None)).video
    assert video.dtype == torch.bfloat16
    assert torch.equal(video[:, 2], x0[:, 2])
    drifted = AVTokens(clean + 0.01, None)
    kept = noise.keep_exactly(drifted, AVTokens(clean, None), AVTokens(mask, None)).video
    assert torch.equal(kept[:, 0], clean[:, 0]) and torch.equal(kept[:, 1:], drifted.video[:, 1:])


@pytest.mark.parametrize("seed", [0, 2**64 - 1, -1])
def test_any_seed_is_taken(seed):
    assert len(noise.generators(seed, 2)) == 2
