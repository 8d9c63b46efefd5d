"""Latent upsamplers: goldens, both key forms, every direction, sizes of the released ones."""

import pytest
import torch
import torch.nn.functional as F

from ltx2.config.upsampler import UpsamplerConfig, upsampler_config
from ltx2.errors import CheckpointError, RequestError
from ltx2.networks.layers.statistics import PerChannelStatistics
from ltx2.networks.video_vae.latent_upsampler import LatentUpsampler, upsample
from tests.golden import DATA
from tests.golden import upsampler as golden

from ..audio.references import UPSAMPLERS, build, random_weights, upsampler_metadata


def small(kind, seed=1):
    metadata = upsampler_metadata(4, 32, 1, **UPSAMPLERS[kind])
    module = build("upsampler", metadata)
    module.load_state_dict(random_weights("upsampler", metadata, seed))
    return module.eval()


def latent_of(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_golden():
    for case, difference in golden.differences(DATA / "upsampler" / "upsampler_x1.5.safetensors"):
        assert difference < 1e-5, case


@pytest.mark.parametrize(
    "kind, width, count, size",
    [
        ("x2_plain", 1024, 72, 995_735_808),
        ("x2_rational", 1024, 73, 995_735_858),
        ("x1.5", 1024, 73, 1_090_117_938),
        ("temporal_x2", 512, 72, 261_936_384),
    ],
)
def test_released_size(kind, width, count, size):
    metadata = upsampler_metadata(width=width, **UPSAMPLERS[kind])
    tensors = build("upsampler", metadata, device="meta", dtype=torch.bfloat16).state_dict()
    assert len(tensors) == count and sum(t.nbytes for t in tensors.values()) == size


@pytest.mark.parametrize("kind", UPSAMPLERS)
def test_config_from_shapes_alone(kind):
    metadata = upsampler_metadata(**UPSAMPLERS[kind])
    config = upsampler_config(metadata, {})
    shapes = {name: tuple(t.shape) for name, t in LatentUpsampler(config, device="meta").state_dict().items()}
    assert upsampler_config(None, shapes) == config


@torch.no_grad()
@pytest.mark.parametrize(
    "kind, shape",
    [
        ("x2_plain", (2, 4, 3, 8, 10)),
        ("x2_rational", (2, 4, 3, 8, 10)),
        ("x1.5", (2, 4, 3, 6, 8)),
        ("temporal_x2", (2, 4, 5, 4, 5)),
        ("both_x2", (2, 4, 5, 8, 10)),
    ],
)
def test_shapes(kind, shape):
    assert small(kind)(latent_of(2, 4, 3, 4, 5)).shape == shape


@torch.no_grad()
def test_single_picture_stays_single():
    assert small("temporal_x2")(latent_of(1, 4, 1, 4, 4)).shape == (1, 4, 1, 4, 4)


@torch.no_grad()
def test_both_key_forms_of_twice_are_the_same_maths():
    plain, rational = small("x2_plain"), small("x2_rational")
    state = {name.replace("upsampler.0.", "upsampler.conv."): t for name, t in plain.state_dict().items()}
    rational.load_state_dict(state | {"upsampler.blur_down.kernel": rational.upsampler.blur_down.kernel})
    x = latent_of(1, 4, 2, 3, 4)
    assert torch.equal(plain(x), rational(x))


@torch.no_grad()
@pytest.mark.parametrize("kind, time, side", [("temporal_x2", 2, 1), ("both_x2", 2, 2)])
def test_channels_spread_slowest_first_and_the_first_frame_is_dropped(kind, time, side):
    module = small(kind)
    x = latent_of(1, 32, 3, 2, 2)
    spread = module.upsampler[0](x)
    out = module._upsample(x)
    assert out.shape == (1, 32, 5, 2 * side, 2 * side)
    for c, f, h, w in ((0, 0, 0, 0), (5, 2, 1, 0), (31, 4, 1, 1)):
        at = f + 1  # before the drop
        channel = ((c * time + at % time) * side + h % side) * side + w % side
        assert out[0, c, f, h, w] == spread[0, channel, at // time, h // side, w // side]


@torch.no_grad()
def test_res_block_activates_after_the_addition():
    block = small("x2_plain").res_blocks[0]
    block.conv2.weight.zero_(), block.norm2.weight.zero_(), block.norm2.bias.zero_()
    x = latent_of(1, 32, 2, 3, 3)
    before = x.clone()
    assert torch.allclose(block(x), F.silu(before), atol=1e-6) and torch.equal(x, before)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_network_sees_un_normalised_latents_and_the_caller_normalised_ones(dtype):
    module, statistics = small("x2_plain"), PerChannelStatistics(4)
    mean, std = torch.randn(4), 0.5 + torch.rand(4)
    statistics.load_state_dict({"mean-of-means": mean, "std-of-means": std})
    x = latent_of(1, 4, 2, 3, 4)
    mean, std = mean.view(4, 1, 1, 1), std.view(4, 1, 1, 1)
    wanted = (module(x * std + mean) - mean) / std
    out = upsample(module.to(dtype), x, statistics)
    assert out.dtype == x.dtype and torch.allclose(out, wanted, atol=1e-5 if dtype == torch.float32 else 0.2)


@pytest.mark.parametrize("shape", [(1, 5, 2, 3, 4), (1, 4, 3, 4)])
def test_other_latents_are_refused(shape):
    with pytest.raises(RequestError, match=r"expected \[batch, 4, frames, rows, columns\]"):
        upsample(small("x2_plain"), torch.zeros(shape), PerChannelStatistics(4))


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(spatial_scale=1.7, rational_resampler=True), "spatial_scale 1.7, expected one of 0.75, 1.5, 2.0, 4.0"),
        (dict(spatial_upsample=False), "neither space nor time"),
        (dict(dims=2), "dims 2, expected 3"),
    ],
)
def test_unknown_configs_are_named(change, words):
    with pytest.raises(CheckpointError, match=words):
        upsampler_config(upsampler_metadata() | change, {})


def test_other_tensors_are_named():
    with pytest.raises(CheckpointError, match="no latent upsampler"):
        upsampler_config(None, {"conv.weight": (1, 1)})
    shapes = {"initial_conv.weight": (32, 4, 3, 3, 3), "final_conv.weight": (4, 32, 3, 3, 3)}
    with pytest.raises(CheckpointError, match="upsampler.0 of shape"):
        upsampler_config(None, shapes | {"upsampler.0.weight": (96, 32, 3, 3)})
    with pytest.raises(CheckpointError, match="shuffles 5 times"):
        upsampler_config(None, shapes | {"upsampler.conv.weight": (800, 32, 3, 3)})


def test_metadata_defaults_are_the_official_ones():
    assert upsampler_config({"_class_name": "LatentUpsampler"}, {}) == UpsamplerConfig(mid_channels=512)
