"""WAV files."""

import struct
import wave

import pytest
import torch

from ltx2.errors import MediaError
from ltx2.media import read_sound, write_wav
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
