"""Every writer of films, sounds and pictures on a disk that refuses: one sentence, and never half a file."""

import numpy as np
import pytest
import torch

from ltx2.errors import MediaError
from ltx2.media import FilmExtension, VideoWriter, write_png_sequence, write_video, write_wav
from ltx2.media.found.new_sound import write_with_sound
from ltx2.values import Waveform

from ..fuzz.faults import CODES, PLACE, STEPS, failing

FRAMES = np.full((3, 32, 48, 3), 90, np.uint8)
SOUND = Waveform(torch.zeros(2, 6000), 48000)


def extended(folder, target):
    with FilmExtension(folder / "found.mp4", target, fps=24) as film:
        film.write_frames(FRAMES)
        film.write_sound(SOUND)


WRITERS = {
    "film.mp4": lambda folder, target: write_video(target, FRAMES, fps=24, sound=SOUND),
    "sound.wav": lambda folder, target: write_wav(target, SOUND),
    "frames": lambda folder, target: write_png_sequence(target, FRAMES, sound=SOUND),
    "kept.mp4": extended,
    "anew.mp4": extended,
    "sounded.mp4": lambda folder, target: write_with_sound(folder / "found.mp4", target, [SOUND]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_half_and_one_sentence(tmp_path, name, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    write = WRITERS[name]
    write_video(tmp_path / "found.mp4", FRAMES, fps=24, sound=SOUND)
    if name == "anew.mp4":
        monkeypatch.setattr("ltx2.media.found.film_extension.picture_copy", lambda *_: "it is of another kind")
    write(tmp_path, tmp_path / "warm" / name)
    with failing(STEPS, 0) as disk:
        write(tmp_path, tmp_path / "first" / name)
    for number, (call, lasting) in enumerate(
        (call, lasting) for call in range(1, 1 + len(disk.done)) for lasting in (0, 1)
    ):
        target = tmp_path / "out" / name
        with failing(STEPS, call, CODES[number % len(CODES)], bool(lasting)) as now:
            try:
                write(tmp_path, target)
            except MediaError as error:
                assert PLACE not in str(error) and ".ltx2-" not in str(error) and str(error).isprintable()
            else:
                may_fail = ("unlink", "rmdir") if lasting else ("unlink", "rmdir", "mkdir")
                assert len(now.done) < call or now.done[call - 1] in may_fail, now.done[call - 1]
        # what could not be removed then is removed by the next one
        write(tmp_path, tmp_path / "out" / f"next-{name}")
        assert {p.name for p in target.parent.iterdir()} <= {name, f"next-{name}"}, now.done[call - 1]
        assert whole(target) in (None, whole(tmp_path / "out" / f"next-{name}")), now.done[call - 1]
        remove(target), remove(tmp_path / "out" / f"next-{name}")


def whole(path):
    """The content of what was written; None where there is nothing."""
    if path.is_dir():
        return {p.name: p.read_bytes() for p in path.iterdir()}
    return path.read_bytes() if path.exists() else None


def remove(path):
    if path.is_dir():
        for entry in path.iterdir():
            entry.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("begun", (False, True))
def test_a_writer_that_gave_up_says_that_it_is_closed(tmp_path, begun):
    write_video(tmp_path / "found.mp4", FRAMES, fps=24, sound=SOUND)
    for film in (
        VideoWriter(tmp_path / "a.mp4", fps=24, sample_rate=48000),
        FilmExtension(tmp_path / "found.mp4", tmp_path / "b.mp4"),
    ):
        if begun:
            film.write_frames(FRAMES)
        film.abort()
        for write, given in ((film.write_frames, FRAMES), (film.write_sound, SOUND)):
            with pytest.raises(MediaError, match="closed already"):
                write(given)
        film.close()
    assert [p.name for p in tmp_path.iterdir()] == ["found.mp4"]
