"""A film with a new part behind it: its own part bit for bit, the new one where it belongs."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from ltx2.errors import MediaError, RequestError
from ltx2.media import FilmExtension, iterate_frames, read_sound, read_video, video_info
from ltx2.media.found.film_extension import Kept
from ltx2.media.found.parameter_sets import read_parameter_sets, split_units
from ltx2.values import Waveform

from .films import grey, make_film, number_of, sound_of, turn
from .test_found_film import click_at, loudest


def packets(path, kind):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(getattr(file.streams, kind)[0]) if packet.size]


def extended(source, target, frames, sound=None, **options):
    with FilmExtension(source, target, **options) as film:
        if sound is not None:
            film.write_sound(sound)
        film.write_frames(frames)
    return film


SOURCES = {
    "b_frames.mp4": {"options": {"bf": "3", "g": "12"}},
    "plain.mov": {"options": {"bf": "0"}},
    "matroska.mkv": {"options": {"bf": "2"}},
    "stream.ts": {"options": {"bf": "2"}},
    "baseline.mp4": {"options": {"x264-params": "cabac=0:8x8dct=0:weightp=0:bframes=0"}},
    "ten.mp4": {"pix_fmt": "yuv420p10le"},
    "full.mp4": {"pix_fmt": "yuv444p"},
    "film.mp4": {"fps": "24000/1001"},
    "slow.mp4": {"fps": 12},
    "fast.mp4": {"fps": 120},
}


@pytest.mark.parametrize("name", SOURCES)
def test_found_pictures_stay_bit_for_bit(tmp_path, name):
    fps = Fraction(SOURCES[name].get("fps", 24))
    source = make_film(tmp_path / name, grey(30), sound=sound_of(30 / fps), **SOURCES[name])
    film = extended(source, tmp_path / "out.mp4", grey(50)[30:42], sound_of(12 / film_rate(fps)))
    assert film.copied and (film.notes == () or name.endswith(".ts"))  # whose sound has no header of its own
    before, after = packets(source, "video"), packets(tmp_path / "out.mp4", "video")
    if not name.endswith(".ts"):  # where start codes become lengths
        assert after[:30] == before
    assert len(after) == 42
    for found, kept in zip(iterate_frames(source), decoded(tmp_path / "out.mp4")):
        assert np.array_equal(found, kept)
    assert [number_of(frame) for frame in decoded(tmp_path / "out.mp4")] == list(range(42))
    times = shown_times(tmp_path / "out.mp4")
    new = [30 / fps + i / film.fps for i in range(12)]
    assert np.abs(np.array(times) - [float(t) for t in [*(i / fps for i in range(30)), *new]]).max() < 2e-3


def film_rate(fps):
    return fps / 2 if fps > 60 else fps


def decoded(path):
    from ltx2.media.frames import decoded_picture

    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            yield decoded_picture(frame)


def shown_times(path):
    with av.open(str(path)) as file:
        times = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
    return [time - times[0] for time in times]


@pytest.mark.parametrize("rate, layout", [(48000, "stereo"), (44100, "mono"), (24000, "stereo"), (48000, "5.1")])
@pytest.mark.parametrize("new_rate", [48000, 24000])
def test_found_sound_stays_and_the_new_one_is_in_time(tmp_path, rate, layout, new_rate):
    channels = av.AudioLayout(layout).nb_channels
    length, added = Fraction(2), Fraction(1)
    source = make_film(tmp_path / "a.mp4", grey(48), sound=sound_of(length, rate, channels), layout=layout, fps=24)
    # the tone goes on for another quarter of a second, then comes a click half a second after the join
    new = click_at(Fraction(1, 2), added + Fraction(1, 4), new_rate)
    later = sound_of(2, new_rate).samples[:, new_rate * 7 // 4 :]
    new.samples[:, : later.shape[1]] = later
    film = extended(source, tmp_path / "out.mp4", grey(24), new, kept=Kept(sound=length - Fraction(1, 4)))
    assert film.copied and film.notes == () and (film.sample_rate, film.channels) == (rate, channels)
    before, after = packets(source, "audio"), packets(tmp_path / "out.mp4", "audio")
    kept = int((length - Fraction(1, 4)) * rate) // 1024 - 1
    assert after[:kept] == before[:kept] and kept > 15
    info = video_info(tmp_path / "out.mp4")
    assert (info.frames, info.samples) == (72, 3 * rate)
    sound = read_video(tmp_path / "out.mp4").sound
    same = kept * 1024 - 2048
    assert torch.equal(sound.samples[:, :same], read_video(source).sound.samples[:, :same])
    at = rate * 7 // 4
    assert abs(loudest(Waveform(sound.samples[:, at:], rate), at) - 2.25) < 0.002
    # at the join the tone goes on undisturbed
    near = slice(at - 8000, at + 8000)
    tone = read_video(source).sound.samples if channels > 2 else sound_of(2, rate, channels).samples
    assert (sound.samples - torch.nn.functional.pad(tone, (0, rate)))[:1, near].abs().max() < (
        0.1 if channels == 2 else 0.3
    )


@pytest.mark.parametrize(
    "name, options, kept, note",
    [
        ("a.mkv", {"audio": "libmp3lame"}, True, "mp3"),
        ("a.mkv", {"audio": "libopus"}, True, "opus"),
        ("a.mov", {"audio": "pcm_s16le"}, True, "pcm_s16le"),
        ("a.mp4", {"video": "libx265", "options": {"x265-params": "log-level=none"}}, False, "hevc"),
        ("a.mkv", {"video": "ffv1", "options": {}}, False, "ffv1"),
    ],
)
def test_what_cannot_be_kept_is_encoded_anew_and_told(tmp_path, name, options, kept, note):
    source = make_film(tmp_path / name, grey(30), sound=sound_of(Fraction(30, 24)), **options)
    film = extended(source, tmp_path / "out.mp4", grey(50)[30:42], sound_of(Fraction(12, 24)))
    assert film.copied == kept and note in film.notes[0]
    numbers = [number_of(frame) for frame in iterate_frames(tmp_path / "out.mp4")]
    assert len(numbers) == 42 and np.abs(np.array(numbers) - range(42)).max() <= 1  # encoded twice
    clip = read_video(tmp_path / "out.mp4")
    assert clip.sound.samples.shape == (2, 84000)
    tone = sound_of(Fraction(42, 24)).samples[:, 4000:58000]
    # Matroska's times are whole milliseconds
    shifts = range(-48, 49) if name.endswith("mkv") else (0,)
    errors = [(clip.sound.samples[:, 4000 + i : 58000 + i] - tone).pow(2).mean().sqrt() for i in shifts]
    assert min(errors) < 0.03


def test_films_without_times_are_encoded_anew(tmp_path):
    source = make_film(tmp_path / "a.avi", grey(30), options={"bf": "2"})
    film = extended(source, tmp_path / "out.mp4", grey(50)[30:42])
    assert not film.copied and "times" in film.notes[0]
    assert len(list(iterate_frames(tmp_path / "out.mp4"))) == 42


@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_mirrored_and_wide_pixels_go_back_as_they_came(tmp_path, mirrored):
    frames = np.repeat(grey(30)[:1], 30, axis=0).copy()
    frames[:, :24, :32] = 250  # top left of what is stored
    source = turn(make_film(tmp_path / "a.mp4", frames), 1, mirrored)
    upright = read_video(source).frames
    assert upright.shape[1:3] == (64, 48) and upright[0, -4 if mirrored else 4, -4].min() > 200
    film = extended(source, tmp_path / "out.mp4", upright[:5])
    assert film.copied and film.size == (48, 64)
    joined = read_video(tmp_path / "out.mp4").frames
    assert joined.shape == (35, 64, 48, 3) and np.abs(joined[31].astype(int) - upright[0]).mean() < 3

    wide = make_film(tmp_path / "b.mp4", grey(30), shape=Fraction(4, 3))
    film = extended(wide, tmp_path / "out2.mp4", np.full((4, 48, 85, 3), 99, np.uint8))
    info = video_info(tmp_path / "out2.mp4")
    assert (info.width, info.height, info.frames) == (85, 48, 34)
    assert abs(int(list(iterate_frames(tmp_path / "out2.mp4", -1))[0].mean()) - 99) <= 2


def test_colours_of_the_new_part_are_the_films(tmp_path):
    for matrix, height in (("ITU601", 64), ("ITU709", 64), ("ITU709", 720)):
        colour = np.array((200, 40, 60), np.uint8)
        frames = np.broadcast_to(colour, (3, height, height * 16 // 9 // 2 * 2, 3))
        source = make_film(tmp_path / "a.mp4", np.ascontiguousarray(frames), matrix=matrix)
        extended(source, tmp_path / "out.mp4", frames)
        old, new = (list(iterate_frames(tmp_path / "out.mp4", at, 1))[0].astype(int) for at in (0, 4))
        again = list(iterate_frames(source, 0, 1))[0]
        assert np.array_equal(old, again) and np.abs(new - colour).max() <= 5


def test_silent_films_and_missing_sound(tmp_path):
    silent = make_film(tmp_path / "a.mp4", grey(24))
    extended(silent, tmp_path / "b.mp4", grey(12))
    assert video_info(tmp_path / "b.mp4").sample_rate == 0
    film = extended(silent, tmp_path / "c.mp4", grey(12), sound_of(Fraction(1, 2)), sample_rate=48000)
    sound = read_sound(tmp_path / "c.mp4")
    assert film.copied and sound.samples.shape == (2, 72000)
    assert sound.samples[:, :46000].abs().max() < 1e-3 and sound.samples[0, 50000:].abs().max() > 0.4
    with pytest.raises(MediaError, match="begun without sound"), FilmExtension(silent, tmp_path / "d.mp4") as film:
        film.write_sound(sound_of(1))
    heard = make_film(tmp_path / "e.mp4", grey(24), sound=sound_of(1))
    extended(heard, tmp_path / "f.mp4", grey(12))  # the new part is silent
    assert read_sound(tmp_path / "f.mp4").samples[:, 51000:].abs().max() < 1e-3


def test_nothing_half_is_left_and_nothing_of_others_is_touched(tmp_path):
    source = make_film(tmp_path / "a.mp4", grey(24), sound=sound_of(1))
    data = source.read_bytes()
    (tmp_path / "kept.mp4").write_bytes(b"an earlier film")
    for error in (KeyboardInterrupt, RuntimeError):
        for name in ("kept.mp4", "new.mp4"):
            with pytest.raises(error), FilmExtension(source, tmp_path / name) as film:
                film.write_frames(grey(3))
                raise error
    with pytest.raises(MediaError, match="it is the film that is gone on from"):
        FilmExtension(source, source)
    with pytest.raises(MediaError, match="no new frames"), FilmExtension(source, tmp_path / "new.mp4"):
        pass
    with pytest.raises(RequestError, match="the film ends at 1.000 s"):
        FilmExtension(source, tmp_path / "new.mp4", kept=Kept(sound=2))
    with pytest.raises(MediaError, match="goes on at"), FilmExtension(source, tmp_path / "new.mp4") as film:
        film.write_sound(sound_of(1, 48000))
        film.write_sound(sound_of(1, 44100))
    with pytest.raises(MediaError, match="no such file"):
        FilmExtension(tmp_path / "absent.mp4", tmp_path / "new.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "kept.mp4"]
    assert source.read_bytes() == data and (tmp_path / "kept.mp4").read_bytes() == b"an earlier film"


def test_a_film_is_extended_again_and_again(tmp_path):
    path = make_film(tmp_path / "0.mp4", grey(24), sound=sound_of(1), tags={"title": "mine"})
    for i in range(3):
        film = extended(path, tmp_path / f"{i + 1}.mp4", grey(55)[24 + 8 * i : 32 + 8 * i], sound_of(Fraction(8, 24)))
        assert film.copied
        path = tmp_path / f"{i + 1}.mp4"
    info = video_info(path)
    assert info.frames == 48 and info.samples == 96000 and info.metadata["title"] == "mine"
    assert [number_of(frame) for frame in iterate_frames(path)] == list(range(48))
    with av.open(str(path)) as file:
        assert len(read_parameter_sets(file.streams.video[0].codec_context.extradata).sps) == 4


def test_parameter_sets_of_damaged_headers():
    for data in (None, b"", b"\1", b"\1\2\3\4\5\xff\0\xff", b"\0\0\1", bytes(50)):
        assert read_parameter_sets(data) is None
    assert split_units(b"\0\0\0\1ab\0\0\1c") == [b"ab", b"c"]
