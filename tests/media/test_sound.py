"""WAV files."""

import struct
import wave

import av
import numpy as np
import pytest
import torch

from ltx2.errors import MediaError
from ltx2.media import read_sound, write_video, write_wav
from ltx2.media.channels import Resampler
from ltx2.media.sound_frames import frame_of, samples_of
from ltx2.media.sound_reader import iterate_sound
from ltx2.values import Waveform


def noise(samples=5001, channels=2, rate=48000):
    return Waveform(torch.rand(channels, samples, generator=torch.Generator().manual_seed(0)) * 2 - 1, rate)


@pytest.mark.parametrize("format, bound", [("pcm16", 0.5 / 32768), ("pcm24", 0.5 / 8388608), ("float32", 0)])
@pytest.mark.parametrize("channels, rate", [(1, 24000), (2, 48000), (2, 44100)])
def test_what_is_written_comes_back(tmp_path, format, bound, channels, rate):
    sound = noise(channels=channels, rate=rate)
    back = read_sound(write_wav(tmp_path / "a.wav", sound, format=format))
    assert (
        back.sample_rate == rate and back.samples.shape == sound.samples.shape and back.samples.dtype == torch.float32
    )
    assert (back.samples - sound.samples).abs().max() <= bound + 1e-7 * (bound > 0)
    again = read_sound(write_wav(tmp_path / "b.wav", back, format=format))
    assert torch.equal(again.samples, back.samples)  # a second trip changes nothing


def test_the_standard_library_reads_it(tmp_path):
    with wave.open(str(write_wav(tmp_path / "a.wav", noise(101, 1)))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes(), file.getsampwidth()) == (1, 48000, 101, 2)
    path = write_wav(tmp_path / "b.wav", noise(101, 1), format="pcm24")  # 303 bytes: padded to an even size
    data = path.read_bytes()
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8 and len(data) % 2 == 0


def test_full_scale_does_not_wrap(tmp_path):
    loud = Waveform(torch.tensor([[1.0, -1.0, 1.7, -1.7]]), 48000)
    back = read_sound(write_wav(tmp_path / "a.wav", loud)).samples
    assert torch.allclose(back, torch.tensor([[1.0, -1.0, 1.0, -1.0]]), atol=1e-4)


def test_pieces_are_one_file(tmp_path):
    sound = noise()
    pieces = (Waveform(part, 48000) for part in sound.samples.split(777, dim=1))
    assert torch.equal(read_sound(write_wav(tmp_path / "a.wav", pieces, format="float32")).samples, sound.samples)


def test_wrong_sound_is_one_sentence(tmp_path):
    for sound, message in (
        (Waveform(torch.zeros(5), 48000), "channels, samples"),
        (Waveform(torch.zeros(2, 5), 3), "samples per second"),
        (Waveform(torch.full((1, 5), float("inf")), 48000), "infinite"),
        ([], "no sound"),
        ([noise(5, 1), noise(5, 2)], "differ"),
        (Waveform(torch.zeros(1, 5, dtype=torch.int16), 48000), "float"),
    ):
        with pytest.raises(MediaError, match=message):
            write_wav(tmp_path / "a.wav", sound)
    with pytest.raises(MediaError, match="pcm16, pcm24, float32"):
        write_wav(tmp_path / "a.wav", noise(), format="mp3")

    def interrupted():
        yield noise()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_wav(tmp_path / "a.wav", interrupted())
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.wav").write_text("not sound")
    with pytest.raises(MediaError, match="text.wav"):
        read_sound(tmp_path / "text.wav")


@pytest.mark.parametrize("layout", ("mono", "stereo", "5.1", "7.1", "hexadecagonal"))
@pytest.mark.parametrize("kind", ("u8", "s16", "s32", "flt", "dbl"))
def test_blocks_of_every_kind_are_read_channel_by_channel(kind, layout):
    """Of eight planes PyAV's own way ends the process."""
    count = av.AudioLayout(layout).nb_channels
    want = torch.arange(count * 1000).reshape(count, 1000) / (count * 1000) - 0.5
    for planar in ("", "p"):
        resampler = av.AudioResampler(format=f"{kind}{planar}", layout=layout)
        (block,) = resampler.resample(frame_of(want, layout, 48000))
        found = samples_of(block)
        assert found.shape == want.shape and (found - want).abs().max() <= (2**-7 if kind == "u8" else 2**-14)


@pytest.mark.parametrize("channels", (1, 2, 6, 8))
def test_every_channel_of_a_film_comes_back_as_itself(tmp_path, channels):
    """Encoded, decoded and at another rate. The low frequency channel (3) passes nothing but low tones."""
    hertz = torch.tensor([60.0 if channel == 3 else 500.0 + 250 * channel for channel in range(channels)])
    tones = 0.3 * torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(48000) / 48000)
    write_video(tmp_path / "f.mp4", np.zeros((24, 16, 16, 3), np.uint8), fps=24, sound=Waveform(tones, 48000))
    found = torch.cat([piece.samples for piece in iterate_sound(tmp_path / "f.mp4")], dim=1)
    resampler = Resampler(48000, 24000, channels)
    half = torch.cat([resampler.take(found), resampler.rest()], dim=1)
    for samples, rate in ((found, 48000), (half, 24000)):
        assert samples.shape == (channels, rate)
        assert torch.equal(torch.fft.rfft(samples).abs().argmax(dim=1).float(), hertz)
