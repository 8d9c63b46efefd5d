"""Audio VAE: goldens, sizes of the released one, and the mistakes that would still sound plausible."""

import pytest
import torch

from ltx2 import clock
from ltx2.config.audio import AudioVaeConfig, audio_vae_config
from ltx2.errors import RequestError
from ltx2.networks.audio.codec import decode_mel, encode_mel
from ltx2.networks.audio.vae import AudioDecoder, AudioEncoder, pixel_norm
from tests.golden import DATA, audio

from .references import audio_metadata, build, random_weights

SMALL = audio_metadata(16, (2, 1, 1), 1, latent_channels=1)


def small(component, seed=1):
    module = build(component, SMALL)
    module.load_state_dict(random_weights(component, SMALL, seed))
    return module.eval()


@torch.no_grad()
def test_goldens():
    for name in ("audio_encoder", "audio_decoder"):
        for case, difference in audio.differences(DATA / "sound" / f"{name}.safetensors"):
            assert difference < 1e-5, case


def test_released_size():
    config = audio_vae_config(audio_metadata()["audio_vae"], {})
    assert config == AudioVaeConfig()
    encoder, decoder = (kind(config, device="meta").state_dict() for kind in (AudioEncoder, AudioDecoder))
    # both halves carry the statistics; the file holds them once
    together = {f"encoder.{name}": t for name, t in encoder.items() if "statistics" not in name}
    together |= {name if "statistics" in name else f"decoder.{name}": t for name, t in decoder.items()}
    assert len(together) == 102
    assert sum(t.numel() for t in together.values()) * 2 == 106_496_804
    assert together["encoder.down.0.downsample.conv.weight"].shape == (128, 128, 3, 3)
    assert together["decoder.up.1.upsample.conv.conv.weight"].shape == (256, 256, 3, 3)
    assert together["per_channel_statistics.mean-of-means"].shape == (128,)


def test_config_from_shapes_alone():
    for metadata in (audio_metadata(), SMALL):
        config = audio_vae_config(metadata["audio_vae"], {})
        with torch.device("meta"):
            halves = {
                name: kind(config).state_dict() for name, kind in (("encoder", AudioEncoder), ("decoder", AudioDecoder))
            }
        prefixed = {
            f"audio_vae.{half}.{name}": tuple(t.shape) for half, state in halves.items() for name, t in state.items()
        }
        assert audio_vae_config(None, prefixed) == config
        for state in halves.values():
            assert audio_vae_config(None, {name: tuple(t.shape) for name, t in state.items()}) == config


def test_small_signals_meet_the_larger_epsilon():
    # 1e-8, the video VAE's, would give 0.995 here
    x = torch.full((1, 4, 1, 1), 1e-3)
    assert torch.allclose(pixel_norm(x), torch.full_like(x, 0.5**0.5), atol=1e-4)


@torch.no_grad()
def test_first_latent_stands_for_one_mel_frame_and_every_other_for_four():
    decoder = small("audio_decoder")
    latent = torch.randn(1, 1, 4, 16, generator=torch.Generator().manual_seed(0))
    mel = decoder(latent)
    assert mel.shape == (1, 2, 13, 64)
    for index in range(1, 4):
        changed = latent.clone()
        changed[:, :, index] += 1
        same = (decoder(changed) == mel).all(dim=3).all(dim=1)[0]
        # keeping the first row after upsampling instead of dropping it would shift this edge
        assert same[: 4 * index - 3].all() and not same[4 * index - 3]


@torch.no_grad()
def test_encoder_is_causal_and_counts_up():
    encoder = small("audio_encoder")
    mel = torch.randn(1, 2, 13, 64, generator=torch.Generator().manual_seed(0))
    latent = encoder(mel)
    assert latent.shape == (1, 1, 4, 16)
    for frames in range(1, 13):
        part = encoder(mel[:, :, :frames])
        assert part.shape[2] == -(-frames // 4)
        whole = (frames + 3) // 4  # latents whose last mel frame is there
        assert torch.allclose(part[:, :, :whole], latent[:, :, :whole], atol=1e-6)


@torch.no_grad()
def test_latents_are_normalised_by_channel_and_then_row():
    config = audio_vae_config(audio_metadata(32, (1, 1, 1), 1, latent_channels=2)["audio_vae"], {})
    encoder, decoder = AudioEncoder(config), AudioDecoder(config)
    mel, latent = torch.randn(1, 2, 5, 64), torch.randn(1, 2, 2, 16)
    raw, decoded = encoder(mel), decoder(latent)
    mean, std = torch.randn(32), 0.5 + torch.rand(32)
    statistics = {"mean-of-means": mean, "std-of-means": std}
    for half in (encoder, decoder):
        half.per_channel_statistics.load_state_dict(statistics)
    mean, std = mean.view(2, 1, 16), std.view(2, 1, 16)
    assert torch.allclose(encoder(mel), (raw - mean) / std, atol=1e-5)
    assert torch.allclose(decoder((latent - mean) / std), decoded, atol=1e-4)


@torch.no_grad()
def test_windows_give_the_whole():
    decoder = small("audio_decoder")
    assert decoder.latents_seen < 40
    latent = torch.randn(1, 1, 90, 16, generator=torch.Generator().manual_seed(2))
    whole = decoder(latent)
    assert whole.shape[2] == clock.mel_frames_of_latents(90)
    for window in (7, 30, 89, 90, 500):
        assert (decode_mel(decoder, latent, window) - whole).abs().max() < 1e-5 * whole.abs().max()


@torch.no_grad()
def test_encoding_in_windows_gives_the_whole():
    encoder = small("audio_encoder")
    assert encoder.latents_seen < 40
    for frames in (353, 355, 356):
        mel = torch.randn(1, 2, frames, 64, generator=torch.Generator().manual_seed(2)) - 4
        whole = encoder(mel)
        for window in (7, 30, 89, 500):
            parts = encode_mel(encoder, mel, window)
            assert parts.shape == whole.shape and (parts - whole).abs().max() < 1e-5 * whole.abs().max()


@torch.no_grad()
def test_sixteen_bit_weights_compute_in_float32():
    decoder = small("audio_decoder")
    stored = build("audio_decoder", SMALL, dtype=torch.bfloat16)
    stored.load_state_dict({name: t.bfloat16() for name, t in decoder.state_dict().items()}, assign=True)
    latent = torch.randn(1, 1, 3, 16)
    assert next(stored.parameters()).dtype == torch.bfloat16
    assert torch.equal(stored(latent), decoder(latent)) and stored(latent.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    "half, shape",
    [(AudioEncoder, s) for s in ((1, 2, 5, 32), (1, 1, 5, 64), (2, 5, 64), (1, 2, 0, 64))]
    + [(AudioDecoder, s) for s in ((1, 3, 5, 16), (1, 8, 0, 16))],
)
def test_other_shapes_are_one_sentence(half, shape):
    with pytest.raises(RequestError, match=r"has shape \[.*\], expected \[B"):
        half(AudioVaeConfig(channels=8, res_blocks=1), device="meta")(torch.zeros(shape))
