"""Films written while they are made, and read back: no frame and no sample more or less."""

import json
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from ltx2.clock import parse_fps, samples_of_frames
from ltx2.errors import Ltx2Warning, MediaError, MissingPackageError, RequestError
from ltx2.media import (
    VideoWriter,
    iterate_frames,
    iterate_sound,
    read_sound,
    read_video,
    video_info,
    write_png_sequence,
    write_video,
)
from ltx2.values import Waveform


def numbered(count, height=32, width=48):
    """Frames whose grey says which frame they are."""
    return np.repeat((np.arange(count) * 2 % 256).astype(np.uint8), height * width * 3).reshape(count, height, width, 3)


def tone(samples, rate, channels=2, hertz=440):
    wave = 0.5 * torch.sin(torch.arange(samples, dtype=torch.float64) * (2 * torch.pi * hertz / rate)).float()
    return Waveform(torch.stack([wave / (c + 1) for c in range(channels)]), rate)


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize(
    "fps, rate", [(24, 24000), (24, 48000), ("24000/1001", 48000), (25, 48000), ("30000/1001", 44100), (50, 16000)]
)
def test_121_frames_keep_every_frame_and_sample(tmp_path, fps, rate):
    exact = parse_fps(fps)
    samples = samples_of_frames(121, exact, rate)
    assert samples == round(Fraction(121) / exact * rate)
    sound = tone(samples, rate)
    path = write_video(
        tmp_path / "a.mp4", numbered(121), fps=fps, sound=sound, metadata={"prompt": {"seed": 10}, "title": "ä"}
    )
    info = video_info(path)
    assert (info.frames, info.fps, info.samples, info.sample_rate, info.channels) == (121, exact, samples, rate, 2)
    assert json.loads(info.metadata["prompt"]) == {"seed": 10} and info.metadata["title"] == "ä"
    clip = read_video(path)
    assert clip.fps == exact and clip.frames.shape == (121, 32, 48, 3) and clip.sound.samples.shape == (2, samples)
    assert np.abs(clip.frames.astype(int) - numbered(121)).max() <= 2
    error = (clip.sound.samples - sound.samples).abs()
    assert error.mean() < 2e-3  # a shift by a single sample would be 0.01 and more
    assert leftovers(tmp_path) == ["a.mp4"]


def test_any_stretch_is_frame_exact(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(121), fps="24000/1001", sound=tone(242_242, 48000))
    whole = read_video(path)
    for start, count in ((0, 1), (1, 8), (60, 30), (104, 17), (-17, 17), (-1, None), (120, 1), (0, 0)):
        part = read_video(path, start, count)
        first = start % 121
        last = first + (count if count is not None else 121 - first)
        assert np.array_equal(part.frames, whole.frames[first:last])
        a, b = (samples_of_frames(i, whole.fps, 48000) for i in (first, last))
        assert part.sound.samples.shape == (2, b - a)
        assert b == a or (part.sound.samples - whole.sound.samples[:, a:b]).abs().mean() < 2e-3
    assert sum(1 for _ in iterate_frames(path, 100)) == 21
    for start, count in ((121, 1), (0, 122), (-122, 1), (5, -1)):
        with pytest.raises(MediaError, match="121 frames"):
            read_video(path, start, count)
    with pytest.raises(MediaError, match="121 frames"):
        list(iterate_frames(path, 0, 130))


def test_stretches_of_sound_join_without_a_seam(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(100), fps=24, sound=tone(200_000, 48000))
    pieces = [
        p.samples.shape[1] for s in range(0, 100, 25) for p in iterate_sound(path, Fraction(s, 24), Fraction(25, 24))
    ]
    assert sum(pieces) == 200_000
    beyond = torch.cat([p.samples for p in iterate_sound(path, 4, 3)], dim=1)
    assert beyond.shape == (2, 3 * 48000) and not beyond[:, 9000:].any()


def test_order_of_frames_and_sound_does_not_matter(tmp_path):
    sound, frames = tone(48_000, 48000), numbered(24)
    results = []
    for name, order in (("first", "sf"), ("last", "fs"), ("mixed", "mixed")):
        with VideoWriter(tmp_path / f"{name}.mp4", fps=24, sample_rate=48000) as writer:
            if order == "mixed":
                for i in range(24):
                    writer.write_frames(frames[i])
                    if i % 2:  # pieces that fit neither frames nor the encoder's blocks
                        writer.write_sound(Waveform(sound.samples[:, (i - 1) * 2000 : (i + 1) * 2000], 48000))
            for what in order if order != "mixed" else "":
                writer.write_sound(sound) if what == "s" else writer.write_frames(frames)
        results.append(read_video(tmp_path / f"{name}.mp4"))
    for clip in results:
        assert torch.equal(clip.sound.samples, results[0].sound.samples) and np.array_equal(
            clip.frames, results[0].frames
        )


def test_sound_that_waits_is_bounded(tmp_path):
    """Sound beside its frames does not pile up: an hour of film must not need an hour of sound in memory."""
    with VideoWriter(tmp_path / "a.mp4", fps=25, sample_rate=16000, channels=1) as writer:
        for _ in range(20):
            writer.write_frames(numbered(25))
            writer.write_sound(tone(16000, 16000, 1))
            assert writer._waiting_samples() < 1024
    assert video_info(tmp_path / "a.mp4").samples == 20 * 16000


def test_short_sound_becomes_silence_and_long_sound_warns(tmp_path):
    path = write_video(tmp_path / "short.mp4", numbered(24), fps=24, sound=tone(30_000, 48000))
    clip = read_video(path)
    assert clip.sound.samples.shape == (2, 48000) and clip.sound.samples[:, 33_000:].abs().max() < 1e-3
    with pytest.warns(Ltx2Warning, match=r"1\.00 s of sound"):
        path = write_video(tmp_path / "long.mp4", numbered(24), fps=24, sound=tone(96_000, 48000))
    assert video_info(path).samples == 48000 and video_info(path).frames == 24


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_very_short_films(tmp_path, frames):
    path = write_video(tmp_path / "a.mp4", numbered(frames), fps=25, sound=tone(1920 * frames, 48000, 1))
    info = video_info(path)
    assert (info.frames, info.samples, info.channels) == (frames, 1920 * frames, 1)
    assert read_video(path).frames.shape[0] == frames


def test_silent_film_and_decoder_pixels(tmp_path):
    pixels = torch.linspace(-1.2, 1.2, 9)[None, None, :, None, None].expand(1, 3, 9, 32, 32)
    with VideoWriter(tmp_path / "a.mp4", fps=24) as writer:
        for start in range(0, 9, 4):
            writer.write_frames(pixels[:, :, start : start + 4])
        assert writer.frames == 9
    clip = read_video(tmp_path / "a.mp4")
    assert clip.sound is None and video_info(tmp_path / "a.mp4").sample_rate == 0
    assert clip.frames[0].max() <= 2 and clip.frames[-1].min() >= 253 and abs(int(clip.frames[4].mean()) - 128) <= 2


def test_colours_come_back(tmp_path):
    for colour in ((200, 30, 60), (20, 180, 40), (30, 60, 220), (128, 128, 128)):
        frames = np.broadcast_to(np.array(colour, np.uint8), (2, 64, 64, 3))
        back = read_video(write_video(tmp_path / "c.mp4", frames, fps=24)).frames
        assert np.abs(back.astype(int) - colour).max() <= 4


def test_films_are_joined_without_holding_them(tmp_path):
    parts = [write_video(tmp_path / f"{i}.mp4", numbered(17), fps=24, sound=tone(34_000, 48000)) for i in range(3)]
    with VideoWriter(tmp_path / "film.mp4", fps=24, sample_rate=48000) as writer:
        for part in parts:
            for frame in iterate_frames(part):
                writer.write_frames(frame)
            for piece in iterate_sound(part):
                writer.write_sound(piece)
    info = video_info(tmp_path / "film.mp4")
    assert (info.frames, info.samples) == (51, 102_000)
    film = read_video(tmp_path / "film.mp4")
    for i in range(3):
        assert np.abs(film.frames[17 * i : 17 * i + 17].astype(int) - numbered(17)).max() <= 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interruption_leaves_no_half_file(tmp_path, error):
    (tmp_path / "kept.mp4").write_bytes(b"an earlier film")

    def frames():
        yield numbered(40)
        raise error

    for name in ("new.mp4", "kept.mp4"):
        with pytest.raises(error):
            write_video(tmp_path / name, frames(), fps=24, sound=tone(48000, 48000))
    with pytest.raises(error):
        write_png_sequence(tmp_path / "png", frames())
    assert leftovers(tmp_path) == ["kept.mp4"] and (tmp_path / "kept.mp4").read_bytes() == b"an earlier film"


def test_failure_inside_the_encoder_leaves_nothing(tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "a.mp4", fps=24)  # no with block
    monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    writer.write_frames(numbered(2))
    with pytest.raises(MediaError, match="No space left"):
        writer.close()
    assert leftovers(tmp_path) == []


def test_wrong_frames_and_sound_are_one_sentence(tmp_path):
    target = tmp_path / "a.mp4"
    nan = torch.full((1, 3, 1, 32, 32), float("nan"))
    for frames, message in (
        (numbered(1, 33, 48), "48x32"),
        (np.zeros((1, 2, 3, 32, 32, 1)), "shape"),
        (numbered(0), "no frames"),
        (nan, "NaN"),
        (torch.zeros(2, 3, 1, 32, 32), "batch"),
        ([], "no frames"),
        (np.zeros((1, 32, 32, 3), np.int64), "int64"),
        ([numbered(1), numbered(1, 64)], "begun with"),
    ):
        with pytest.raises(MediaError, match=message) as caught:
            write_video(target, frames, fps=24)
        assert "\n" not in str(caught.value)
    for sound, message in (
        (Waveform(torch.zeros(2, 9), 12345), "resample"),
        (Waveform(torch.zeros(3, 9), 48000), "channels"),
        (Waveform(torch.full((2, 9), float("nan")), 48000), "NaN"),
    ):
        with pytest.raises(MediaError, match=message):
            write_video(target, numbered(2), fps=24, sound=sound)
    with pytest.raises(MediaError, match="begun without sound"), VideoWriter(target, fps=24) as writer:
        writer.write_sound(tone(100, 48000))
    with pytest.raises(MediaError, match="begun with 2"), VideoWriter(target, fps=24, sample_rate=48000) as writer:
        writer.write_sound(tone(100, 48000, 1))
    with pytest.raises(RequestError):
        VideoWriter(target, fps=0)
    with pytest.raises(MediaError, match="folder"):
        VideoWriter(tmp_path, fps=24)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MediaError, match="folder cannot be made"):
        VideoWriter(tmp_path / "file" / "a.mp4", fps=24)
    writer = VideoWriter(target, fps=24)
    writer.abort()
    with pytest.raises(MediaError, match="closed"):
        writer.write_frames(numbered(1))
    assert leftovers(tmp_path) == ["file"]


def test_unreadable_videos_are_one_sentence(tmp_path, monkeypatch):
    good = write_video(tmp_path / "good.mp4", numbered(9), fps=24).read_bytes()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(good[: len(good) // 3])
    for name in ("text.mp4", "empty.mp4", "absent.mp4", "cut.mp4"):
        for read in (read_video, video_info, read_sound, lambda p: list(iterate_frames(p))):
            with pytest.raises(MediaError) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
    with pytest.raises(MediaError, match="no sound track"):
        read_sound(tmp_path / "good.mp4")
    monkeypatch.setattr("ltx2.media.video_reader.MAX_CLIP_BYTES", 1000)
    with pytest.raises(MediaError, match="iterate"):
        read_video(tmp_path / "good.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingPackageError, match="pip install av"):
        read_video(tmp_path / "good.mp4")


def test_png_sequence(tmp_path):
    frames = numbered(5)
    names = write_png_sequence(tmp_path / "png", (frames[i] for i in range(5)), first=3, metadata={"prompt": "a hill"})
    assert [p.name for p in names] == [f"frame_{i:06d}.png" for i in range(3, 8)] and all(
        p.parent == tmp_path / "png" for p in names
    )
    for name, frame in zip(names, frames):
        with Image.open(name) as image:
            assert np.array_equal(np.asarray(image), frame) and image.text["prompt"] == "a hill"
    with pytest.raises(MediaError, match="not an empty folder"):
        write_png_sequence(tmp_path / "png", frames)
    with pytest.raises(MediaError, match="no frames"):
        write_png_sequence(tmp_path / "none", [])
    assert leftovers(tmp_path) == ["png"]


def test_writing_is_reproducible(tmp_path):
    paths = []
    for name in "ab":
        paths.append(write_video(tmp_path / f"{name}.mp4", numbered(30), fps=24, sound=tone(60_000, 48000)))
        time.sleep(0.01)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_same_small_film_has_the_same_bytes_every_time(tmp_path):
    """libx264 by itself makes another file of these one time in twenty."""
    frames = np.random.default_rng(5).integers(0, 255, (60, 60, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    moving = np.stack([frames[3 * i : 3 * i + 96, 5 * i : 5 * i + 64] for i in range(14)])
    films = [write_video(tmp_path / "a.mp4", moving, fps=24).read_bytes() for _ in range(30)]
    assert len(set(films)) == 1
