"""Encoder and convolutional decoder: goldens, the traps that give plausible but wrong pictures, order, sizes,
errors."""

import math
import re

import pytest
import torch

from ltx2.clock import frames_of_latents, latent_frame_span
from ltx2.config.video_vae import VideoBlock, video_vae_config
from ltx2.errors import CheckpointError, RequestError
from ltx2.networks.layers.ops import TORCH_OPS
from ltx2.networks.layers.statistics import PerChannelStatistics
from ltx2.networks.video_vae.model import (
    CausalConv,
    ResBlock,
    VideoDecoder,
    VideoDownsample,
    VideoEncoder,
    VideoUpsample,
    activate_into,
    patchify,
    unpatchify,
)
from ltx2.networks.video_vae.streaming import stream_decode, stream_encode
from tests.golden import DATA
from tests.golden.video_vae import differences

from .samples import compress, decoder, encoder, fill, noise, released, res, vae_config


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("path", sorted((DATA / "video_vae").glob("*.safetensors")), ids=lambda path: path.stem)
def test_goldens(path):
    found = dict(differences(path))
    assert len(found) == 2 and max(found.values()) <= 1e-5


# --- traps ---------------------------------------------------------------------------------------------------------


def test_patches_put_the_width_offset_before_the_height_offset():
    picture = torch.arange(3 * 2 * 8 * 12, dtype=torch.float32).view(1, 3, 2, 8, 12)
    patches = patchify(picture, 4)
    for channel, across, down in ((0, 0, 1), (1, 1, 0), (2, 3, 2)):
        assert torch.equal(patches[:, channel * 16 + across * 4 + down], picture[:, channel, :, down::4, across::4])
    assert torch.equal(unpatchify(patches, 4), picture)


@pytest.mark.parametrize("stride, multiplier", [((1, 2, 2), 2), ((2, 1, 1), 2), ((2, 2, 2), 2), ((2, 2, 2), 1)])
def test_downsampling_averages_consecutive_channels(stride, multiplier):
    channels, (t, h, w) = 8, stride
    block = VideoDownsample(VideoBlock(stride=stride, multiplier=multiplier), channels, "zeros", ops=TORCH_OPS)
    for parameter in block.parameters():
        parameter.zero_()
    x = noise(1, channels, 3 if t == 2 else 2, 4, 4)
    out = block(x)
    doubled = torch.cat([x[:, :, :1], x], 2) if t == 2 else x
    folded = [
        doubled[:, c, i::t, j::h, k::w] for c in range(channels) for i in range(t) for j in range(h) for k in range(w)
    ]
    group = len(folded) // (channels * multiplier)
    wanted = torch.stack([torch.stack(folded[n : n + group], 1).mean(1) for n in range(0, len(folded), group)], 1)
    torch.testing.assert_close(out, wanted)


def test_residual_upsampling_repeats_all_channels_as_a_block_and_drops_the_first_frame():
    block = VideoUpsample(VideoBlock(stride=(2, 2, 2), multiplier=2, residual=True), 16, "zeros", ops=TORCH_OPS)
    for parameter in block.parameters():
        parameter.zero_()
    x = noise(1, 16, 2, 2, 2)
    out = block(x, False)
    assert out.shape == (1, 8, 3, 4, 4)
    for channel in range(8):
        for frame in range(3):  # output frame n is upsampled frame n + 1
            source = (channel % 2) * 8 + 4 * ((frame + 1) % 2)
            assert torch.equal(out[:, channel, frame, 1::2, 0::2], x[:, source + 2, (frame + 1) // 2])
    plain = VideoUpsample(VideoBlock(stride=(1, 2, 2), multiplier=2), 16, "zeros", ops=TORCH_OPS)
    assert plain(x, False).shape == (1, 8, 2, 4, 4)


@pytest.mark.parametrize("causal", (False, True))
def test_time_is_padded_by_repeating_frames(causal):
    conv = fill(CausalConv(3, 4, "zeros", ops=TORCH_OPS), 1)
    still = noise(1, 3, 1, 4, 4).expand(-1, -1, 5, -1, -1)
    out = conv.whole(still, causal)
    torch.testing.assert_close(out, out[:, :, 2:3].expand_as(out))
    moving = noise(1, 3, 5, 4, 4, seed=2)
    front, back = (2, 0) if causal else (1, 1)
    padded = torch.cat([moving[:, :, :1]] * front + [moving] + [moving[:, :, -1:]] * back, 2)
    torch.testing.assert_close(conv.whole(moving, causal), conv.conv(padded))


def test_space_is_padded_as_the_mode_says():
    zeros, mirrored = (fill(CausalConv(3, 4, mode, ops=TORCH_OPS), 1) for mode in ("zeros", "reflect"))
    x = noise(1, 3, 3, 4, 5)
    time = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
    plain = torch.nn.functional.conv3d
    weight, bias = zeros.conv.weight, zeros.conv.bias
    torch.testing.assert_close(zeros.whole(x, False), plain(time, weight, bias, padding=(0, 1, 1)))
    padded = torch.nn.functional.pad(time, (1, 1, 1, 1, 0, 0), mode="reflect")
    torch.testing.assert_close(mirrored.whole(x, False), plain(padded, weight, bias))


def test_norm_uses_its_small_epsilon():
    x = 1e-4 * noise(1, 8, 2, 3, 3)
    out = torch.empty_like(x)
    activate_into(out, x)
    torch.testing.assert_close(out, torch.nn.functional.silu(x / torch.sqrt(x.square().mean(1, keepdim=True) + 1e-8)))


def test_inputs_are_not_written_to():
    block = fill(ResBlock(4, "reflect", ops=TORCH_OPS), 1)
    x = noise(1, 4, 3, 4, 4)
    before = x.clone()
    block(x, False)
    model, latent = decoder("2.0"), noise(1, 4, 2, 2, 2)
    kept = latent.clone()
    list(stream_decode(model, latent, piece_frames=1))
    model(latent)
    assert torch.equal(x, before) and torch.equal(latent, kept)


# --- order and counts ----------------------------------------------------------------------------------------------


def transparent(module):
    """Weights that only let the mean brightness of a frame through: its sign survives every norm."""
    for name, tensor in module.state_dict().items():
        tensor.zero_()
        if name == "per_channel_statistics.std-of-means":
            tensor.fill_(1)
        if name in ("conv_in.conv.weight", "conv_out.conv.weight"):
            tensor[:, :, 2 if isinstance(module, VideoEncoder) else 1, 1, 1] = 1 / tensor.shape[1]
    return module


@pytest.mark.parametrize("version", ("2.0", "2.3"))
@pytest.mark.parametrize("frames", (1, 9, 17, 121, 257))
def test_frames_keep_their_count_and_order_there_and_back(version, frames):
    latents = (frames - 1) // 8 + 1
    signs = torch.where(noise(latents, seed=frames) > 0, 1.0, -1.0)
    clip = torch.cat([signs[n].expand(1, 3, len(range(*latent_frame_span(n))), 64, 64) for n in range(latents)], 2)
    # Only the residual decoder has a path that convolutions of zero leave open.
    there, back = transparent(encoder(version)), transparent(decoder("2.0"))
    latent = torch.cat(list(stream_encode(there, clip)), 2)
    assert latent.shape == (1, 4, latents, 2, 2)
    assert torch.equal(latent.sign(), signs.view(1, 1, -1, 1, 1).expand_as(latent))
    pixels = torch.cat(list(stream_decode(back, latent)), 2)
    assert pixels.shape == clip.shape
    assert torch.equal(pixels.sign(), clip)


def test_encoder_is_causal_and_decoder_keeps_time():
    model, clip = encoder(), noise(1, 3, 33, 32, 32).clamp(-1, 1)
    changed = clip.clone()
    changed[:, :, 17:] = 0  # frames of latent 3 on
    same = (model(clip) - model(changed)).abs().amax((0, 1, 3, 4)) == 0
    assert same.tolist() == [True, True, True, False, False]
    assert torch.allclose(model(clip)[:, :, :1], model(clip[:, :, :1]), atol=1e-6)
    model, latent = decoder(layers=(1, 1, 1, 1, 1)), noise(1, 4, 24, 1, 1)
    end = latent.clone()
    end[:, :, -1] += 1
    difference = (model(latent) - model(end)).abs().amax((0, 1, 3, 4))
    assert difference[:40].max() == 0 and difference[-8:].min() > 0


# --- real sizes, configs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version, tensors, millions", [("2.0", 184, 1222.480), ("2.3", 170, 726.106)])
def test_real_sizes(version, tensors, millions):
    config = released(version)
    halves = VideoEncoder(config, device="meta"), VideoDecoder(config, device="meta")
    shapes = {}
    for half, module in zip(("encoder", "decoder"), halves):
        shapes |= {
            (n if n.startswith("per_channel") else f"{half}.{n}"): tuple(t.shape)
            for n, t in module.state_dict().items()
        }
    assert len(shapes) == tensors
    assert round(sum(map(math.prod, shapes.values())) / 1e6, 3) == millions
    assert (config.time_compression, config.space_compression, config.bottleneck_channels) == (8, 32, 1024)
    # The same without metadata, whichever prefix the names have.
    assert video_vae_config(None, shapes) == config
    assert video_vae_config(None, {f"vae.{name}": shape for name, shape in shapes.items()}) == config
    bare = {name: tuple(t.shape) for name, t in halves[1].state_dict().items()}
    assert VideoDecoder(video_vae_config(None, bare), device="meta").state_dict().keys() == bare.keys()
    wanted = {"2.0": [64, 256, 128, 256, 4096, 2048, 1024], "2.3": [64, 256, 128, 128, 4096, 4096, 512, 512]}[version]
    assert [shape[0] for name, shape in shapes.items() if re.search(r"blocks\.\d+\.conv\.conv\.weight", name)] == wanted


def test_padding_modes_follow_the_metadata():
    old, new = (video_vae_config(vae_config(version), {}) for version in ("2.0", "2.3"))
    assert (old.encoder_padding, old.decoder_padding) == ("zeros", "reflect")
    assert (new.encoder_padding, new.decoder_padding) == ("zeros", "zeros")
    chosen = video_vae_config(vae_config("2.3", encoder_spatial_padding_mode="reflect"), {})
    assert chosen.encoder_padding == "reflect"
    both = video_vae_config(vae_config("2.0", spatial_padding_mode="reflect"), {})
    assert (both.encoder_padding, both.decoder_padding) == ("reflect", "reflect")


def test_encoder_beside_a_diffusion_decoder():
    flat = vae_config("2.3", base=128, latent=128)
    nested = {
        "_class_name": "CausalDiffusionVAE",
        "encoder": {
            "dims": 3,
            "in_channels": 3,
            "out_channels": 128,
            "blocks": flat["encoder_blocks"],
            "patch_size": 4,
            "latent_log_var": "constant",
            "norm_layer": "pixel_norm",
            "base_channels": 128,
            "spatial_padding_mode": "zeros",
        },
        "decoder": {"_class_name": "NADiffusionDecoder"},
    }
    config = video_vae_config(nested, {})
    assert config.encoder_blocks == video_vae_config(flat, {}).encoder_blocks and not config.decoder_blocks
    assert (config.time_compression, config.space_compression) == (8, 32)


def test_the_first_release_has_latents_of_its_own():
    for halves in ({}, {"encoder_blocks": []}, {"decoder_blocks": []}):
        assert video_vae_config({**vae_config("2.0"), **halves}, {}).first_latent_space
        assert not video_vae_config({**vae_config("2.3"), **halves}, {}).first_latent_space
    assert released("2.0").first_latent_space and not released("2.3").first_latent_space


def test_timestep_conditioning_shows_in_the_tensors():
    model = decoder(timestep_conditioning=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert video_vae_config(None, shapes).timestep_conditioning
    unsaid = {key: value for key, value in vae_config("2.3").items() if key != "timestep_conditioning"}
    assert video_vae_config(unsaid, shapes).timestep_conditioning
    assert not video_vae_config(unsaid, {}).timestep_conditioning


def test_old_block_lists_give_layers_as_a_number():
    config = video_vae_config(vae_config("2.3", decoder_blocks=[["res_x", 3], compress("all", 2), ["res_x", 1]]), {})
    assert config.decoder_blocks == (
        VideoBlock(layers=1),
        VideoBlock(stride=(2, 2, 2), multiplier=2),
        VideoBlock(layers=3),
    )


@pytest.mark.parametrize(
    "change, words",
    [
        ({"encoder_blocks": [res(1), ["res_x_y", {"multiplier": 2}]]}, "res_x_y"),
        ({"decoder_blocks": [["attn_res_x", {"num_layers": 1}]]}, "attn_res_x"),
        ({"norm_layer": "group_norm"}, "group_norm"),
        ({"dims": 2}, "dims"),
        ({"latent_log_var": "odd"}, "latent_log_var"),
        ({"spatial_padding_mode": "circular"}, "circular"),
    ],
)
def test_foreign_configs_are_refused(change, words):
    with pytest.raises(CheckpointError, match=words):
        video_vae_config(vae_config("2.3", **change), {})


def test_foreign_tensors_are_refused():
    for shapes in ({}, {"decoder.conv_in_x_t.weight": (256, 48)}):
        with pytest.raises(CheckpointError, match="video VAE file"):
            video_vae_config(None, shapes)


# --- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, words",
    [
        ((1, 3, 10, 32, 32), "10 frames, expected 8k.1: use 9 or 17"),
        ((1, 3, 9, 32, 40), "40 × 32 px.*multiples of 32.*32 × 32"),
        ((1, 4, 9, 32, 32), r"\[1, 4, 9, 32, 32\].*\[B, 3"),
        ((3, 9, 32, 32), r"\[B, 3"),
        ((1, 3, 0, 32, 32), "0 frames, expected 8k.1: use 1 or 9"),
    ],
)
def test_pictures_that_do_not_fit(shape, words):
    model = encoder()
    for run in (model, lambda x: list(stream_encode(model, x))):
        with pytest.raises(RequestError, match=words):
            run(torch.zeros(shape))


@pytest.mark.parametrize(
    "version, shape, words",
    [
        ("2.3", (1, 5, 2, 2, 2), r"\[1, 5, 2, 2, 2\].*\[B, 4"),
        ("2.3", (4, 2, 2, 2), r"\[B, 4"),
        ("2.3", (1, 4, 0, 2, 2), r"\[B, 4"),
        ("2.0", (1, 4, 2, 1, 2), "needs 2 of each"),
    ],
)
def test_latents_that_do_not_fit(version, shape, words):
    model = decoder(version)
    for run in (model, lambda x: stream_decode(model, x)):
        with pytest.raises(RequestError, match=words):
            run(torch.zeros(shape))


def test_statistics_are_inverse_of_each_other():
    statistics = fill(PerChannelStatistics(6), 1)
    assert list(statistics.state_dict()) == ["std-of-means", "mean-of-means"]
    x = noise(2, 6, 3, 2, 2)
    torch.testing.assert_close(statistics.normalize(statistics.un_normalize(x)), x)
    tokens = x.flatten(2).transpose(1, 2)
    torch.testing.assert_close(statistics.normalize(tokens, -1), statistics.normalize(x).flatten(2).transpose(1, 2))


def test_halves_are_usable_in_bfloat16():
    model = decoder("2.3", seed=3)
    latent = noise(1, 4, 2, 2, 2)
    exact = model(latent)
    rough = model.to(torch.bfloat16)(latent.bfloat16())
    assert rough.dtype == torch.bfloat16 and rough.shape == (1, 3, frames_of_latents(2), 64, 64)
    assert (rough.float() - exact).abs().mean() < 0.1 * exact.abs().mean()
