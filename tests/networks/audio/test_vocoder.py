"""Vocoders of 2.0 and 2.3 on: goldens, sizes of the released ones, and the mistakes that would still sound
plausible."""

import pytest
import torch
import torch.nn.functional as F

from ltx2.config.audio import vocoder_config
from ltx2.errors import CheckpointError, RequestError
from ltx2.networks.audio.codec import vocode
from ltx2.networks.audio.snake import AntiAliasedSnake, low_pass_filter
from ltx2.networks.audio.vocoder import BandwidthExtensionVocoder, Vocoder, interpolate, make_vocoder
from tests.golden import DATA, audio

from .references import build, random_weights, short_vocoder_23_metadata, vocoder_20_metadata, vocoder_23_metadata

SMALL_20, SMALL_23 = vocoder_20_metadata(32), short_vocoder_23_metadata()


def small(metadata, seed=1, **options):
    module = build("vocoder", metadata, **options)
    module.load_state_dict(random_weights("vocoder", metadata, seed))
    return module.eval()


def mel_of(frames, seed=0):
    return torch.randn(1, 2, frames, 64, generator=torch.Generator().manual_seed(seed)) - 2


@torch.no_grad()
@pytest.mark.parametrize("name", ["vocoder_2.0", "vocoder_bwe_2.3"])
def test_goldens(name):
    for case, difference in audio.differences(DATA / "sound" / f"{name}.safetensors"):
        assert difference < 1e-5, case


@pytest.mark.parametrize(
    "metadata, count, size, rate",
    [(vocoder_20_metadata(), 194, 111_185_604, 24_000), (vocoder_23_metadata(), 1227, 258_170_064, 48_000)],
)
def test_released_size(metadata, count, size, rate):
    module = build("vocoder", metadata, device="meta", dtype=torch.bfloat16)
    tensors = module.state_dict()
    assert len(tensors) == count and sum(t.nbytes for t in tensors.values()) == size
    assert module.sample_rate == rate and module.samples_per_frame * 100 == rate
    config = vocoder_config(metadata["vocoder"], {})
    assert vocoder_config(metadata, {}) == config  # the whole of a file's metadata
    assert vocoder_config(None, {name: tuple(t.shape) for name, t in tensors.items()}) == config


def test_official_names():
    names = build("vocoder", vocoder_23_metadata(), device="meta").state_dict()
    assert names["vocoder.conv_post.weight"].shape == (2, 24, 7) and "vocoder.conv_post.bias" not in names
    assert names["bwe_generator.act_post.downsample.lowpass.filter"].shape == (1, 1, 12)
    assert names["vocoder.resblocks.17.acts2.2.act.beta"].shape == (24,)
    assert names["mel_stft.stft_fn.inverse_basis"].shape == (514, 1, 512) and names["mel_stft.mel_basis"].shape == (
        64,
        257,
    )


@torch.no_grad()
@pytest.mark.parametrize("metadata", [SMALL_20, SMALL_23])
def test_every_mel_frame_is_ten_milliseconds(metadata):
    module = small(metadata)
    for frames in (1, 2, 5):
        out = module(mel_of(frames))
        assert out.shape == (1, 2, frames * module.sample_rate // 100) and out.dtype == torch.float32


@torch.no_grad()
def test_last_slope_before_conv_post_is_a_hundredth():
    module = small(SMALL_20)
    blocks, last = [], []
    for block in module.resblocks[-3:]:
        block.register_forward_hook(lambda m, args, out: blocks.append(out.clone()))
    module.conv_post.register_forward_pre_hook(lambda m, args: last.append(args[0]))
    module(mel_of(4))
    mean = torch.stack(blocks).mean(0)
    assert (mean < 0).any() and torch.allclose(last[0], F.leaky_relu(mean, 0.01), atol=1e-6)
    assert not torch.allclose(last[0], F.leaky_relu(mean, 0.1), atol=1e-3)


@torch.no_grad()
def test_upsampling_weights_are_input_by_output_by_tap():
    module = small(SMALL_20)
    up, x = module.ups[0], torch.randn(1, 32, 5)  # 32 → 16 channels, kernel 16, stride 6, padding 5
    wanted = torch.zeros(1, 16, 6 * 4 + 16)
    for i in range(5):
        wanted[..., 6 * i : 6 * i + 16] += torch.einsum("bi,iok->bok", x[..., i], up.weight)
    assert torch.allclose(up(x), wanted[..., 5:-5] + up.bias[:, None], atol=1e-5)


@torch.no_grad()
def test_first_stage_is_clamped_before_it_is_read():
    module = small(SMALL_23)
    module.vocoder.conv_post.weight *= 300
    heard = []
    module.mel_stft.register_forward_pre_hook(lambda m, args: heard.append(args[0]))
    module(mel_of(6))
    beyond = (heard[0].abs() == 1).float().mean()
    assert heard[0].abs().max() == 1 and 0.05 < beyond < 0.95


@torch.no_grad()
def test_second_stage_is_not_bounded_on_its_own():
    module = small(SMALL_23)
    module.bwe_generator.conv_post.weight *= 300
    high = []
    module.bwe_generator.register_forward_hook(lambda m, args, out: high.append(out.abs().max().item()))
    assert module(mel_of(6)).abs().max() == 1 and high[0] > 1


@torch.no_grad()
@pytest.mark.parametrize("metadata", [SMALL_20, SMALL_23])
def test_sixteen_bit_weights_and_mel_compute_in_float32(metadata):
    wide = small(metadata)
    state = {name: t.bfloat16() for name, t in wide.state_dict().items()}
    wide.load_state_dict(state)  # filters are not exact in 16 bits
    stored = build("vocoder", metadata, dtype=torch.bfloat16)
    stored.load_state_dict(state)
    mel = mel_of(3).bfloat16()
    assert {t.dtype for t in stored.state_dict().values()} == {torch.bfloat16}
    assert torch.equal(stored(mel), wide(mel.float())) and stored(mel).dtype == torch.float32


@torch.no_grad()
def test_stored_filters_are_used():
    module = small(SMALL_23)
    mel = mel_of(3)
    before = module(mel)
    for name in (
        "vocoder.act_post.upsample.filter",
        "bwe_generator.act_post.downsample.lowpass.filter",
        "mel_stft.mel_basis",
    ):
        buffer = module.get_buffer(name)
        kept = buffer.clone()
        buffer *= 0.5
        assert not torch.equal(module(mel), before), name
        buffer.copy_(kept)


def test_default_filter_is_symmetric_and_sums_to_one():
    taps = low_pass_filter()[0, 0]
    assert taps.sum().item() == pytest.approx(1) and torch.allclose(taps, taps.flip(0), atol=1e-7)


@torch.no_grad()
def test_snake_keeps_length_and_a_constant():
    act = AntiAliasedSnake(3)
    for samples in (1, 2, 7, 100):
        out = act(torch.full((1, 3, samples), 0.4))
        assert out.shape == (1, 3, samples)
        assert torch.allclose(out, torch.tensor(0.4 + torch.sin(torch.tensor(0.4)).square().item()), atol=2e-3)


def test_interpolated_tone_is_the_tone():
    t = torch.arange(600) / 16_000
    out = interpolate(torch.sin(2 * torch.pi * 500 * t)[None, None], 3)
    assert out.shape == (1, 1, 1800)
    wanted = torch.sin(2 * torch.pi * 500 * torch.arange(1800) / 48_000)
    assert (out[0, 0] - wanted)[60:-60].abs().max() < 2e-3


@torch.no_grad()
@pytest.mark.parametrize("metadata, frames", [(SMALL_20, 130), (SMALL_23, 260)])
def test_windows_give_the_whole(metadata, frames):
    module = small(metadata)
    mel = mel_of(frames)
    whole = module(mel)
    assert module.frames_seen < 110
    for window in (50, frames - 1):
        parts = vocode(module, mel, window)
        assert parts.shape == whole.shape and (parts - whole).abs().max() < 1e-5 * whole.abs().max()


def test_reach_of_the_released_vocoders_is_short():
    assert make_vocoder(vocoder_config(vocoder_20_metadata()["vocoder"], {}), device="meta").frames_seen < 30
    assert make_vocoder(vocoder_config(vocoder_23_metadata()["vocoder"], {}), device="meta").frames_seen < 110


@torch.no_grad()
@pytest.mark.parametrize("metadata", [SMALL_20, SMALL_23])
def test_silence_is_finite(metadata):
    floor = torch.full((1, 2, 4, 64), -11.512925)
    assert small(metadata)(floor).isfinite().all()


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(resblock="2"), "resblock '2', expected '1'"),
        (dict(stereo=False), "stereo False"),
        (dict(upsample_rates=[6, 5]), "2 and 5 upsample_rates"),
    ],
)
def test_unknown_layouts_are_named(change, words):
    with pytest.raises(CheckpointError, match=words):
        vocoder_config(vocoder_20_metadata()["vocoder"] | change, {})


def test_rates_that_do_not_fit_are_named():
    options = vocoder_23_metadata()["vocoder"]
    options["bwe"]["output_sampling_rate"] = 44_100
    with pytest.raises(CheckpointError, match="44100 Hz"):
        vocoder_config(options, {})


def test_no_vocoder_and_unknown_kernels():
    with pytest.raises(CheckpointError, match="no vocoder among these tensors"):
        vocoder_config(None, {"encoder.conv_in.weight": (1, 1)})
    shapes = {name: tuple(t.shape) for name, t in build("vocoder", SMALL_20, device="meta").state_dict().items()}
    shapes["ups.4.weight"] = (2, 1, 6)
    with pytest.raises(CheckpointError, match="use a file with its metadata"):
        vocoder_config(None, shapes)


def test_kind_follows_the_config():
    assert isinstance(build("vocoder", SMALL_20), Vocoder) and isinstance(
        build("vocoder", SMALL_23), BandwidthExtensionVocoder
    )


@pytest.mark.parametrize("metadata", [SMALL_20, SMALL_23])
@pytest.mark.parametrize("shape", [(1, 2, 5, 32), (1, 1, 5, 64), (2, 5, 64), (1, 2, 0, 64)])
def test_other_mels_are_one_sentence(metadata, shape):
    with pytest.raises(RequestError, match=r"mel to turn into sound has shape \["):
        make_vocoder(vocoder_config(metadata, {}), device="meta")(torch.zeros(shape))
