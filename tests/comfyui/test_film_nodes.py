"""Extend Video and Retake Video: files that keep what they were, with something new."""

import torch

from ltx2 import media
from ltx2.media import VideoWriter
from ltx2.values import Waveform

from ..media.films import grey
from ..media.test_new_sound import packets_of
from .test_inputs_kept import filming


def video_in(folder, frames=40):
    from comfy_api.latest import InputImpl

    path = folder / "film.mp4"
    with VideoWriter(path, fps=24, sample_rate=48000) as writer:
        writer.write_frames(grey(frames, 64, 64))
        writer.write_sound(Waveform(torch.rand(2, frames * 2000) - 0.5, 48000))
    return InputImpl.VideoFromFile(str(path)), path


def test_a_video_is_gone_on_with_and_stays_as_it_is(run, made, folders):
    video, path = video_in(folders)
    longer, images, audio, state, info = run("ExtendVideo", **filming(made, video, seconds=1, context=9)).args
    file = longer.get_stream_source()
    shown = media.video_info(file)
    assert shown.frames == 40 + 16 and shown.samples == 56 * 2000 and images.shape == (16, 64, 64, 3)
    assert [data for data, _ in packets_of(file)][:40] == [data for data, _ in packets_of(path)]
    assert audio["waveform"].shape[2] == round(16 / 24 * audio["sample_rate"])
    assert state.segment_index == 1 and "25 frames" in info


def test_a_part_is_made_anew_inside_a_mask(run, made, folders):
    video, path = video_in(folders)
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    asked = filming(made, video, start=0.5, end=1.0, what="picture", mask=mask)
    again, info = run("Retake", **asked).args
    before, after = media.read_video(path), media.read_video(again.get_stream_source())
    change = abs(after.frames.astype(int) - before.frames.astype(int)).mean((1, 3))
    assert "made anew: frames 9 to 24" in info and len(change) == 40
    assert change[9:25, 44:].mean() > 10 > change[:, :28].max() and change[:9].max() < 10
    kept = before.sound.samples.shape[1] - 4 * 1024  # its last blocks end where the picture does
    assert torch.equal(after.sound.samples[:, :kept], before.sound.samples[:, :kept])
