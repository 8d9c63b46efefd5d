"""Films, sounds and pictures as other programs write them: read as they are meant, or refused in one sentence."""

import re
import struct
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ltx2.errors import Ltx2Warning, MediaError
from ltx2.media import (
    iterate_frames,
    iterate_sound,
    mix_to_stereo,
    open_image,
    read_sound,
    read_video,
    video_info,
    write_wav,
)
from ltx2.media.film_clock import FilmClock
from ltx2.values import Waveform

from .films import grey, make_film, make_sound, number_of, sound_of, turn, write_track


def wav(samples, rate=44100, tag=b"", kind=1, channels=1):
    """A WAV file's bytes with a LIST/INFO tag of raw bytes."""
    width = samples.dtype.itemsize
    layout = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * width * channels, width * channels, 8 * width
    )
    info = b"INFO" + b"ICOP" + struct.pack("<I", len(tag)) + tag + b"\0" * (len(tag) % 2)
    body = b"WAVE" + layout + struct.pack("<4sI", b"LIST", len(info)) + info
    body += struct.pack("<4sI", b"data", samples.nbytes) + samples.tobytes()
    return struct.pack("<4sI", b"RIFF", len(body)) + body


# --- tags and names ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(tag=st.binary(min_size=1, max_size=30))
def test_any_bytes_as_a_tag(tmp_path_factory, tag):
    path = tmp_path_factory.mktemp("tags") / "a.wav"
    samples = (8000 * np.sin(np.arange(4410) / 7)).astype("<i2")
    path.write_bytes(wav(samples, tag=tag))
    sound = read_sound(path)
    assert sound.sample_rate == 44100 and torch.equal(sound.samples[0], torch.from_numpy(samples / 32768).float())


@pytest.mark.parametrize("share", (0.6, 0.9, 1))
def test_a_film_that_is_cut_off_behind_its_index_is_told(tmp_path, share):
    """As a download or a copy leaves it that ended early: it opens, and has fewer frames than it says."""
    made = make_film(tmp_path / "made.mp4", np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8))
    whole, path = tmp_path / "whole.mp4", tmp_path / "a.mp4"
    with av.open(str(made)) as source, av.open(str(whole), "w", options={"movflags": "+faststart"}) as copy:
        (stream,) = source.streams
        track = copy.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = track
                copy.mux(packet)
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    info = video_info(path)
    if share == 1:
        assert info.frames == 30 and not info.notes
        return
    lost = int(re.fullmatch(rf"{path} is cut off, (\d+) of its 30 frames are missing or broken: .*", *info.notes)[1])
    assert 0 < lost < 30 and 30 - info.frames in (lost, lost - 1)  # a decoder may still take the one that is broken


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov"])
def test_films_whose_tags_are_not_utf8(tmp_path, suffix):
    path = make_film(tmp_path / f"a.{suffix}", grey(10), sound=sound_of(1), tags={"title": "XXTITLEXX"})
    data = path.read_bytes()
    assert b"XXTITLEXX" in data
    path.write_bytes(data.replace(b"XXTITLEXX", b"\xe9\xff\x81TLE\xa9\xf0\xc3"))
    assert video_info(path).frames == 10 and read_sound(path).samples.shape[0] == 2
    assert [number_of(frame) for frame in iterate_frames(path)] == list(range(10))


def test_names_that_are_not_text(tmp_path):
    raw = tmp_path / "caf\udce9.wav"  # how a name in Latin-1 is seen on a UTF-8 system
    try:
        raw.write_bytes(wav(np.zeros(100, "<i2") + 5))
    except OSError:
        pytest.skip("this file system holds UTF-8 names alone")
    assert read_sound(raw).samples.shape == (1, 100)
    for name in ("lone \ud800.wav", "nul\0.wav", "x" * 300 + ".wav", "line\nbreak.wav"):
        for use in (read_sound, open_image, video_info, lambda p: write_wav(p, sound_of(1))):
            if name.startswith("line") and use not in (read_sound, open_image, video_info):
                continue  # a name that a file may have
            with pytest.raises(MediaError) as caught:
                use(tmp_path / name)
            message = str(caught.value).replace(str(tmp_path), "")
            assert len(message) <= 300 and message.isprintable() and message.encode("utf-8")
    for name in (7, None, b""):
        with pytest.raises(MediaError):
            read_sound(name)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
def test_damage_is_one_sentence(tmp_path_factory, good_film, cuts):
    data = bytearray(good_film.read_bytes())
    for place, bytes_ in cuts:
        at = int(place * (len(data) - 1))
        data[at : at + len(bytes_)] = bytes_
    path = tmp_path_factory.mktemp("damage") / "a.mp4"
    path.write_bytes(bytes(data))
    for read in (read_video, read_sound, video_info):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except MediaError as error:
            assert "\n" not in str(error) and len(str(error)) < 400


@pytest.fixture(scope="module")
def good_film(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "a.mp4"
    return make_film(path, grey(12, 32, 32), sound=sound_of(0.5, 16000))


# --- sound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout, centre",
    [("3.0", 2), ("quad", None), ("4.0", 2), ("5.0", 2), ("5.1", 2), ("6.1", 2), ("7.1", 2), ("5.1(side)", 2)],
)
def test_more_than_two_channels_are_heard_on_both_sides(tmp_path, layout, centre):
    import av

    count = av.AudioLayout(layout).nb_channels
    voice = sound_of(0.5, channels=1).samples
    samples = torch.zeros(count, voice.shape[1])
    samples[0 if centre is None else centre] = voice[0]
    path = make_sound(tmp_path / "a.wav", Waveform(samples, 48000), layout=layout)
    with pytest.warns(Ltx2Warning, match=f"{count} channels"):
        sound = read_sound(path)
    assert sound.samples.shape == (2, voice.shape[1])
    loud = sound.samples.abs().max(dim=1).values
    if centre is None:
        assert loud[0] > 0.45 and loud[1] == 0
    else:
        assert (loud - 0.5 * 0.5**0.5).abs().max() < 1e-3
    # reading in pieces, as films are joined, keeps what the file holds
    assert next(iterate_sound(path)).samples.shape[0] == count


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 20), seed=st.integers(0, 1000), loud=st.floats(0.01, 1))
def test_a_mix_never_clips_and_loses_no_side(count, seed, loud):
    samples = loud * (torch.rand(count, 300, generator=torch.Generator().manual_seed(seed)) * 2 - 1)
    mixed = mix_to_stereo(Waveform(samples, 8000)).samples
    assert mixed.shape == (min(count, 2), 300) and mixed.abs().max() <= 1 + 1e-6
    if count <= 2:
        assert mixed is samples
    else:
        assert mixed.abs().amax(dim=1).min() > 0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_lost_samples_are_told_with_file_and_time(tmp_path, wrong):
    samples = np.full(44100 + 10, 0.1, "<f4")
    samples[44100] = wrong
    (tmp_path / "a.wav").write_bytes(wav(samples, kind=3))
    with pytest.raises(MediaError, match=r"a\.wav holds NaN or infinite samples at 1 s"):
        read_sound(tmp_path / "a.wav")


# --- time --------------------------------------------------------------------------------------------------------


def shown_at(times, seconds):
    return max((i for i, t in enumerate(times) if t <= seconds + 1e-6), default=0)


@settings(max_examples=25, deadline=None)
@given(
    intervals=st.lists(st.sampled_from([1, 2, 3, 6]), min_size=4, max_size=24),
    offset=st.sampled_from([0, 0, 7]),
)
def test_a_varying_rate_is_read_on_a_constant_clock(tmp_path_factory, intervals, offset):
    """Frame i shows what the film shows at i / fps, within half a frame."""
    times = [(offset + t) / 60 for t in np.cumsum([0, *intervals])]
    path = make_film(
        tmp_path_factory.mktemp("vfr") / "a.mp4", grey(len(times), 32, 32), times=times, sound=sound_of(times[-1] + 0.1)
    )
    info = video_info(path)
    start = [t - times[0] for t in times]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clip = read_video(path)
    assert len(clip.frames) == info.frames and clip.notes == info.notes
    for i, frame in enumerate(clip.frames):
        at = i / float(info.fps)
        near = {shown_at(start, at + shift / float(info.fps)) for shift in np.linspace(-0.5, 0.5, 9)}
        assert number_of(frame) in near, (i, at)
    if info.notes:
        assert "variable frame rate" in info.notes[0]
        assert abs(info.frames / info.fps - start[-1] - Fraction(1, 10)) < Fraction(1, 2)
        part = list(iterate_frames(path, 1, 4))
        assert all(np.array_equal(a, b) for a, b in zip(part, clip.frames[1:5]))
    else:
        assert info.frames == len(times)


def test_a_varying_rate_is_told(tmp_path):
    times = [i / 30 for i in range(30)] + [1 + i / 10 for i in range(10)]
    path = make_film(tmp_path / "a.mp4", grey(40), times=times)
    with pytest.warns(Ltx2Warning, match="variable frame rate: it is read at 30 frames per second"):
        clip = read_video(path)
    assert clip.fps == 30 and len(clip.frames) in (58, 59, 60)


@pytest.mark.parametrize("fps", [8, "24000/1001", 25, "30000/1001", 50, "60000/1001", 120])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_constant_rate_stays_as_it_is(tmp_path, fps, suffix):
    """Also where the container rounds times to milliseconds, and with frames of a millisecond's jitter."""
    path = make_film(tmp_path / f"a.{suffix}", grey(40, 32, 32), fps=Fraction(fps))
    info = video_info(path)
    assert info.frames == 40 and not info.notes and abs(info.fps - Fraction(fps)) < Fraction(1, 100)
    assert [number_of(frame) for frame in iterate_frames(path, -9)] == list(range(31, 40))


def test_jitter_is_not_a_varying_rate(tmp_path):
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, 60)
    times = [max(0.0, i / 30 + jitter[i]) for i in range(60)]
    times[0] = 0.0
    info = video_info(make_film(tmp_path / "a.mp4", grey(60), times=times))
    assert info.frames == 60 and not info.notes and abs(info.fps - 30) < 1


def test_frames_without_times_are_counted(tmp_path):
    path = make_film(tmp_path / "a.avi", grey(30), options={"bf": "2"})
    assert video_info(path).frames == 30
    assert [number_of(frame) for frame in iterate_frames(path)] == list(range(30))
    assert [number_of(frame) for frame in iterate_frames(path, -5, 2)] == [25, 26]


def test_the_clock_finds_every_frame():
    starts = np.array([0, 0.1, 0.15, 0.9])
    clock = FilmClock(Fraction(20), 20, starts, Fraction(1), False, None)
    assert [clock.shown_at(t) for t in (-1, 0, 0.05, 0.1, 0.12, 0.5, 0.9, 7)] == [0, 0, 0, 1, 1, 2, 3, 3]


# --- picture -----------------------------------------------------------------------------------------------------

COLOURS = ((200, 30, 60), (20, 180, 40), (30, 60, 220))


@pytest.mark.parametrize("size, matrix", [((720, 1280), "ITU709"), ((480, 640), "ITU601"), ((1024, 600), "ITU709")])
def test_untagged_colours_are_taken_by_size(tmp_path, size, matrix):
    for colour in COLOURS:
        frames = np.broadcast_to(np.array(colour, np.uint8), (2, *size, 3))
        path = make_film(
            tmp_path / "a.mp4", np.ascontiguousarray(frames), matrix=matrix, options={"preset": "ultrafast"}
        )
        assert np.abs(read_video(path).frames.astype(int) - colour).max() <= 6


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_films_are_read_upright(tmp_path, quarter, mirrored):
    frames = grey(3, 32, 64).copy()
    frames[:, :16, :32] = 255  # top left
    path = turn(make_film(tmp_path / "a.mp4", frames), quarter, mirrored)
    info = video_info(path)
    frame = read_video(path).frames[0]
    expected = np.rot90(frames[0, :, ::-1] if mirrored else frames[0], -quarter)
    assert (info.height, info.width) == frame.shape[:2] == expected.shape[:2]
    assert np.abs(frame.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    "shape, size", [(Fraction(4, 3), (85, 48)), (Fraction(16, 15), (68, 48)), (Fraction(1, 2), (64, 96))]
)
def test_pixels_become_square(tmp_path, shape, size):
    path = make_film(tmp_path / "a.mp4", grey(3), shape=shape)
    info = video_info(path)
    assert (info.width, info.height) == size and "as wide as high" in info.notes[0]
    with pytest.warns(Ltx2Warning, match="as wide as high"):
        clip = read_video(path)
    assert clip.frames.shape == (3, size[1], size[0], 3) and [number_of(f) for f in clip.frames] == [0, 1, 2]


def test_ten_bits_and_other_codecs(tmp_path):
    for name, options in (
        ("ten.mp4", {"pix_fmt": "yuv420p10le", "options": {"crf": "0"}}),
        ("wide.mp4", {"pix_fmt": "yuv444p"}),
        ("old.avi", {"video": "mpeg4", "options": {"qmin": "1", "qmax": "1"}}),
        ("lossless.mkv", {"video": "ffv1", "options": {}}),
        ("stills.mov", {"video": "mjpeg", "pix_fmt": "yuvj420p"}),
    ):
        path = make_film(tmp_path / name, grey(8), **options)
        assert [number_of(frame) for frame in iterate_frames(path)] == list(range(8)), name


def test_pictures_of_floats_and_32_bits(tmp_path):
    for value, expected in ((0.5, 128), (1.0, 255), (0.0, 0)):
        Image.fromarray(np.full((8, 8), value, np.float32), "F").save(tmp_path / "f.tiff")
        assert (open_image(tmp_path / "f.tiff") == expected).all()
    for values, kind, message in (
        (np.full((8, 8), 100, np.float32), "F", "a.tiff holds floats up to 100"),
        (np.full((8, 8), np.nan, np.float32), "F", "a.tiff holds NaN"),
        (np.full((8, 8), -1, np.float32), "F", "a.tiff holds floats from -1 on, expected 0…1"),
        (np.full((8, 8), 100, np.int32), "I", "32-bit whole numbers up to 100"),
    ):
        Image.fromarray(values, kind).save(tmp_path / "a.tiff")
        with pytest.raises(MediaError, match=message):
            open_image(tmp_path / "a.tiff")
    for name in ("a.png", "a.tiff", "a.pgm"):
        Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(tmp_path / name)
        assert (open_image(tmp_path / name) == 128).all()


@pytest.mark.parametrize(
    "options, told",
    [
        ({}, None),
        ({"flags": "+ildct+ilme"}, r"combs: deinterlace it first \(ffmpeg -i"),
        ({"x264-params": "colorprim=bt2020:transfer=bt709:colormatrix=bt709"}, "has the wide colours of BT.2020"),
        ({"x264-params": "colorprim=bt2020:transfer=smpte2084:colormatrix=bt709"}, r"is HDR \(PQ\)"),
    ],
)
def test_what_is_not_seen_as_it_is_meant_is_told(tmp_path, options, told):
    notes = video_info(make_film(tmp_path / "f.mp4", grey(3), options=options)).notes
    assert len(notes) == bool(told) and (not told or re.search(told, notes[0]))


@pytest.mark.parametrize("fps", ("24000/1001", "25", "30000/1001", "60000/1001"))
@pytest.mark.parametrize("ticks", (600, 1000, 90000))
def test_a_usual_rate_is_found_on_a_coarse_clock(tmp_path, fps, ticks):
    """QuickTime counts in 600ths of a second, Matroska in milliseconds: 29.97 is still 30000/1001."""
    fps, path = Fraction(fps), tmp_path / "f.mp4"
    with av.open(str(path), "w", options={"video_track_timescale": str(ticks)}) as file:
        track = file.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        track.width = track.height = 16
        track.codec_context.time_base = Fraction(1, ticks)
        for index in range(60):
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.pts, frame.time_base = round(index / fps * ticks), Fraction(1, ticks)
            file.mux(track.encode(frame))
        file.mux(track.encode())
    assert (video_info(path).fps, video_info(path).frames, video_info(path).notes) == (fps, 60, ())


def test_pictures_that_ffmpeg_cannot_decode_are_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    with pytest.raises(MediaError, match=r"of a kind that cannot be decoded \(webp\): convert it to MP4|damaged"):
        video_info(tmp_path / "a.webp")


def test_of_several_tracks_that_which_players_take_is_seen_and_heard(tmp_path):
    path, heard = tmp_path / "a.mkv", sound_of(1, rate=16000)
    with av.open(str(path), "w") as file:
        tracks = [file.add_stream("ffv1", rate=24) for _ in range(2)]
        sounds = [file.add_stream("pcm_s16le", rate=16000, layout=layout) for layout in ("mono", "stereo")]
        for track, side in zip(tracks, (16, 32)):
            track.width, track.height, track.pix_fmt = side, side, "gray"
        for first, second in (tracks, sounds):
            first.disposition, second.disposition = av.stream.Disposition(0), av.stream.Disposition.default
        for track in tracks:
            for index in range(24):
                frame = av.VideoFrame.from_ndarray(np.full((track.height, track.width), index, np.uint8), format="gray")
                frame.pts, frame.time_base = index, Fraction(1, 24)
                file.mux(track.encode(frame))
            file.mux(track.encode())
        write_track(file, sounds[0], Waveform(torch.zeros(1, 16000), 16000), "mono")
        write_track(file, sounds[1], heard, "stereo")
    info, clip = video_info(path), read_video(path)
    assert (info.width, info.height, info.channels) == (32, 32, 2)
    assert clip.frames.shape[1:3] == (32, 32) and torch.allclose(clip.sound.samples, heard.samples, atol=1e-3)


def test_a_recording_whose_size_changes_keeps_that_of_its_first_picture(tmp_path):
    """As browsers record a window that is drawn larger."""
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as file:
        track = file.add_stream("mpeg2video", rate=24, options={"qmin": "1", "qmax": "2"})
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for part, (height, width) in enumerate(((48, 64), (96, 128))):
            encoder = av.CodecContext.create("mpeg2video", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.options = Fraction(1, 24), {"qmin": "1", "qmax": "2"}
            for index, pixels in enumerate(grey(12, height, width)):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
                frame.pts = 12 * part + index
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = track, Fraction(1, 24)
                    file.mux(packet)
            for packet in encoder.encode():
                packet.stream, packet.time_base = track, Fraction(1, 24)
                file.mux(packet)
    for start in (0, 15):
        frames = read_video(path, start).frames
        assert frames.shape == (24 - start, 48, 64, 3)
        found = {index: number_of(frame) for index, frame in enumerate(frames, start)}
        found.pop(11, None)  # a decoder keeps the last picture before a change for itself
        assert found == {index: index % 12 for index in found} and len(found) >= 9


def test_the_end_of_a_flash_film_is_found_without_its_index(tmp_path):
    path = make_film(tmp_path / "a.flv", grey(30, 16, 16), sound=sound_of(2, rate=44100), options={"g": "6"})
    assert [number_of(frame) for frame in iterate_frames(path, 24)] == list(range(24, 30))
    assert sum(piece.samples.shape[1] for piece in iterate_sound(path, 1, 1)) == 44100


def test_a_film_with_transparent_parts_says_so(tmp_path):
    for alpha, told in ((255, 0), (90, 1)):
        frames = [Image.fromarray(np.full((16, 16, 4), (9, 9, 9, alpha), np.uint8)) for _ in range(2)]
        frames[0].putpixel((3, 3), (80, 0, 0, alpha))
        frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=40)
        notes = video_info(tmp_path / "a.png").notes
        assert len([note for note in notes if "transparent parts" in note]) == told
