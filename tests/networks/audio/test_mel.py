"""Waveform → log-mel: rates, channels, lengths, and sounds that are none."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ltx2 import resampling
from ltx2.config.audio import AudioVaeConfig
from ltx2.errors import MediaError
from ltx2.networks.audio.mel import log_mel, mel_filters, waveform_to_mel
from ltx2.resampling import resample
from ltx2.values import Waveform


def tone(rate, seconds=0.5, hertz=440.0, channels=2):
    t = torch.arange(int(rate * seconds), dtype=torch.float64) / rate
    return torch.sin(2 * math.pi * hertz * t).float().expand(channels, -1)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 767_999])
def test_resampled_tone_is_the_tone_at_the_new_rate(rate):
    samples = tone(rate, 0.1)
    out = resample(samples, rate, 16_000)
    assert out.shape == (2, math.ceil(samples.shape[-1] * 16_000 / rate))
    inner = slice(200, -200)  # the ends hear the silence before and after
    assert (out - tone(16_000, 0.11)[:, : out.shape[-1]])[:, inner].abs().max() < 2e-3


def test_what_lies_above_the_new_band_is_gone():
    assert resample(tone(48_000, 0.2, hertz=11_000.0), 48_000, 16_000)[:, 100:-100].abs().max() < 1e-2


def test_resampling_does_not_depend_on_its_steps(monkeypatch):
    samples = tone(44_100, 0.05)
    whole = resample(samples, 44_100, 16_000)
    monkeypatch.setattr(resampling, "_GATHERED", 3000)
    assert torch.equal(resample(samples, 44_100, 16_000), whole)


def test_equal_rates_leave_the_sound_alone():
    samples = tone(16_000)
    assert resample(samples, 16_000, 16_000) is samples


@pytest.mark.parametrize("samples", [1, 159, 160, 400, 512, 513, 16_000])
def test_frames_follow_the_length_even_below_one_window(samples):
    out = log_mel(torch.randn(1, 2, samples))
    assert out.shape == (1, 2, 1 + samples // 160, 64) and out.isfinite().all()


def test_filters_need_no_float64_of_the_device():
    class NoDoubles(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            assert out.device.type == "cpu" or out.dtype != torch.float64
            return out

    with NoDoubles():
        assert mel_filters(1024, 16000, 64, device="meta").device.type == "meta"


def test_mel_agrees_with_transformers():
    audio_utils = pytest.importorskip("transformers.audio_utils")
    samples = 0.1 * torch.randn(1, 2, 5000, generator=torch.Generator().manual_seed(5))
    bank = audio_utils.mel_filter_bank(513, 64, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    assert (mel_filters(1024, 16000, 64) - torch.tensor(bank.T)).abs().max() < 1e-6
    options = dict(power=1.0, center=True, pad_mode="reflect", mel_filters=bank, mel_floor=1e-5, log_mel="log")
    window = audio_utils.window_function(1024, "hann", periodic=True)
    wanted = [audio_utils.spectrogram(c.double().numpy(), window, 1024, 160, **options).T for c in samples[0]]
    assert (log_mel(samples)[0] - torch.stack([torch.tensor(w) for w in wanted])).abs().max() < 1e-4


def test_mono_is_heard_on_both_sides_and_further_channels_are_mixed_in():
    left, right, centre = tone(16_000), tone(16_000, hertz=500.0), tone(16_000, hertz=600.0)
    mono = waveform_to_mel(Waveform(left[:1], 16_000))
    assert mono.shape == (1, 2, 51, 64) and torch.equal(mono[:, 0], mono[:, 1])
    surround = waveform_to_mel(Waveform(torch.stack([left[0], right[0], centre[0]]) / 4, 16_000))
    mixed = torch.stack([left[0], right[0]]) / 4 + centre[:1] / 4 * 0.5**0.5
    assert torch.allclose(surround, waveform_to_mel(Waveform(mixed, 16_000)), atol=1e-3)
    assert not torch.equal(surround[:, 0], surround[:, 1])


def test_loudness_is_kept():
    quiet, loud = (waveform_to_mel(Waveform(gain * tone(16_000), 16_000)) for gain in (0.01, 1.0))
    peak = loud.amax()
    assert peak - quiet.amax() == pytest.approx(math.log(100), abs=1e-3)


def test_half_precision_and_offset_sound_are_legal():
    waveform_to_mel(Waveform(tone(16_000).half(), 16_000))
    assert waveform_to_mel(Waveform(torch.ones(2, 4000), 16_000)).isfinite().all()


def test_silence_is_the_floor():
    silent = waveform_to_mel(Waveform(torch.zeros(2, 8000), 48_000))
    assert torch.equal(silent, torch.full_like(silent, math.log(1e-5)))


@pytest.mark.parametrize("rate", [0, -44_100, 999, 10_000_000, 44_100.5, float("nan"), True, None])
def test_absurd_rates_are_refused(rate):
    with pytest.raises(MediaError, match="samples per second, expected a whole number from 1000 to 768000"):
        waveform_to_mel(Waveform(torch.zeros(2, 100), rate))
    with pytest.raises(MediaError, match="samples per second"):
        resample(torch.zeros(2, 100), rate, 16_000)


@pytest.mark.parametrize(
    "samples, words",
    [
        (torch.zeros(2, 0), "empty"),
        (torch.zeros(0, 100), "empty"),
        (torch.full((2, 100), float("nan")), "NaN or infinite"),
        (torch.full((2, 100), float("inf")), "NaN or infinite"),
        (torch.zeros(1, 2, 100), r"shape \[1, 2, 100\]"),
        (torch.zeros(2, 100, dtype=torch.int16), "torch.int16"),
    ],
)
def test_what_is_no_sound_is_refused_in_one_sentence(samples, words):
    with pytest.raises(MediaError, match=words) as caught:
        waveform_to_mel(Waveform(samples, 48_000))
    assert "\n" not in str(caught.value)


def test_input_is_not_written_to():
    samples = tone(44_100).clone()
    before = samples.clone()
    waveform_to_mel(Waveform(samples, 44_100), AudioVaeConfig())
    assert torch.equal(samples, before)
