"""Where each sample of a found track stands: gaps, rounded and jittering times, places that are sought, damage."""

import re
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.errors import Ltx2Warning, MediaError
from ltx2.media import read_sound, write_wav
from ltx2.media.sound_reader import iterate_sound
from ltx2.values import Waveform

from .films import make_sound, sound_of

RATE, BLOCK = 16000, 512


def track(path, *, moved=(), options=None):
    """A track of noise, so that every stretch of it is like no other. moved: (from this block on, up to that one,
    samples by which the times of these blocks are off)."""
    samples = np.random.default_rng(7).integers(-20000, 20000, (100, BLOCK)).astype(np.int16)
    with av.open(str(path), "w", options=options or {}) as file:
        stream = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for index, block in enumerate(samples):
            for packet in stream.encode(_frame(block)):
                off = sum(by for begin, end, by in moved if begin <= index < end)
                packet.pts = packet.dts = index * BLOCK + off
                packet.time_base = Fraction(1, RATE)
                file.mux(packet)
    return torch.from_numpy(samples.reshape(1, -1).astype(np.float32) / 32768)


def _frame(block):
    frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
    frame.sample_rate = RATE
    return frame


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from((".mkv", ".nut")),
    st.integers(1, 90),
    st.integers(-140, 2000).filter(lambda n: n < 140 or n > 200),
)
def test_a_gap_is_silence_where_the_file_says_so_and_less_is_rounding(tmp_path_factory, suffix, at, by):
    """Gaps from 12 ms on are kept to the clock of the file; what is less than 9 ms shifts nothing."""
    path = tmp_path_factory.mktemp("gap") / f"t{suffix}"
    want = track(path, moved=((at, 100, by),))
    found = read_sound(path).samples
    silent = by if by > 150 else 0
    tick = 1 if suffix == ".nut" else RATE // 1000
    assert abs(found.shape[1] - want.shape[1] - silent) <= tick
    cut = at * BLOCK
    assert torch.equal(found[:, :cut], want[:, :cut])
    assert torch.equal(found[:, found.shape[1] - (want.shape[1] - cut) :], want[:, cut:])
    assert not found[:, cut : found.shape[1] - (want.shape[1] - cut)].any()


def test_one_time_that_is_wrong_shifts_nothing(tmp_path):
    want = track(tmp_path / "t.mkv", moved=((20, 21, 400), (60, 61, -300)))
    assert torch.equal(read_sound(tmp_path / "t.mkv").samples, want)


@pytest.mark.parametrize("suffix", (".mkv", ".nut"))
@pytest.mark.parametrize("gap", (0, 1000))
def test_any_stretch_is_the_same_as_in_the_whole(tmp_path, suffix, gap):
    """However coarse the file's clock is: a millisecond is 16 samples here."""
    path = tmp_path / f"t{suffix}"
    track(path, moved=((1, 100, gap),))
    whole = read_sound(path).samples
    for begin in (Fraction(1), Fraction(11, 10), Fraction(5, 3), Fraction(47, 20), Fraction(3)):
        found = torch.cat([piece.samples for piece in iterate_sound(path, begin, Fraction(1, 10))], dim=1)
        first = round(begin * RATE)
        assert torch.equal(found[:, : whole.shape[1] - first], whole[:, first : first + found.shape[1]]), begin


def test_a_track_that_breaks_off_is_told(tmp_path):
    """A recording that was cut off within its last fragment, whose length its head states."""
    path = tmp_path / "t.mov"
    want = track(path, options={"movflags": "empty_moov+frag_keyframe+default_base_moof", "frag_duration": "2000000"})
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"mdat") + 4 + 8 * BLOCK])
    with pytest.warns(Ltx2Warning, match=r"breaks off at \d\.\d\d s, \d\.\d\d s before its stated end: silence stands"):
        found = read_sound(path).samples
    heard = int(found.nonzero()[-1, 1]) + 1
    assert found.shape == want.shape and torch.equal(found[:, :heard], want[:, :heard]) and heard < 0.9 * want.shape[1]


def test_half_a_block_where_a_place_is_sought_is_passed_over(tmp_path, monkeypatch):
    """Such as in MPEG program streams; within what is heard it is damage, and told with its time."""
    path = tmp_path / "t.mkv"
    track(path)
    whole = read_sound(path).samples
    real, count = av.Packet.decode, 0

    def decode(packet):
        nonlocal count
        count += 1
        if count in wrong:
            raise av.error.InvalidDataError(1094995529, "invalid")
        return real(packet)

    monkeypatch.setattr("ltx2.media.sound_reader._decoded", decode)
    wrong: tuple | range = (3,)  # two blocks tell the grid of times
    found = torch.cat([piece.samples for piece in iterate_sound(path, 2, Fraction(1, 2))], dim=1)
    assert torch.equal(found, whole[:, 2 * RATE : 2 * RATE + RATE // 2])
    count, wrong = 0, range(50, 60)
    with pytest.raises(MediaError, match=r"is damaged: its sound cannot be decoded from 1\.57 s on"):
        read_sound(path)
    count, wrong = 0, (50, 51)  # a moment stays silent, and what comes after it stays in its place
    with pytest.warns(
        Ltx2Warning, match=r"0\.06 s of the sound of .* cannot be decoded from 1\.57 s on and are silent"
    ):
        found = read_sound(path).samples
    place = slice(49 * BLOCK, 51 * BLOCK)
    assert not found[:, place].any() and found.shape == whole.shape
    found[:, place] = whole[:, place]
    assert torch.equal(found, whole)
    count, wrong = 0, (100,)  # the last one: less than a player would miss
    assert torch.equal(read_sound(path).samples, whole[:, : 99 * BLOCK])


@pytest.mark.parametrize("suffix", (".ogg", ".mp3"))
def test_files_one_behind_the_other_are_all_heard(tmp_path, suffix):
    """Whose times begin anew with each."""
    part = make_sound(tmp_path / f"a{suffix}", sound_of(2), audio={".ogg": "libopus", ".mp3": "libmp3lame"}[suffix])
    both = tmp_path / f"b{suffix}"
    both.write_bytes(part.read_bytes() * 2)
    one, found = read_sound(part).samples, read_sound(both).samples
    assert abs(found.shape[1] - 2 * one.shape[1]) < 4000
    loud = found.abs().max(dim=0).values.unfold(0, 4800, 4800).amax(dim=1)
    assert (loud > 0.3).all()


@pytest.mark.parametrize("peak, told", [(1.2, None), (4.0, "goes up to 4 times full scale"), (30000.0, "up to 3e+04")])
def test_sound_that_is_too_loud_is_told(tmp_path, peak, told):
    write_wav(tmp_path / "a.wav", Waveform(torch.full((1, 800), peak), 8000), format="float32")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if peak > 100:
            with pytest.raises(MediaError, match=re.escape(told)):
                read_sound(tmp_path / "a.wav")
        else:
            read_sound(tmp_path / "a.wav")
            assert len(found) == bool(told) and all(told in str(one.message) for one in found)


def test_rates_that_no_sound_has_are_refused(tmp_path):
    data = bytearray(write_wav(tmp_path / "a.wav", Waveform(torch.zeros(1, 800), 8000)).read_bytes())
    data[24:28] = (1).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(MediaError, match="states 1 samples per second, expected 1000 to 768000"):
        read_sound(tmp_path / "a.wav")
