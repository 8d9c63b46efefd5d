"""Generate LTX-2 Sound: for a video, whose picture stays as it is, and going on from what it left."""

import pytest
import torch

from ltx2 import media
from ltx2.media import VideoWriter

from ..media.films import grey
from ..media.test_new_sound import packets_of
from .test_inputs_kept import sounding

pytestmark = pytest.mark.usefixtures("few_steps")


def test_a_video_gets_a_sound_of_its_length(run, made, folders):
    from comfy_api.latest import InputImpl

    with VideoWriter(folders / "film.mp4", fps=24) as writer:
        writer.write_frames(grey(20))
    video = InputImpl.VideoFromFile(str(folders / "film.mp4"))
    asked = sounding(made, video=video, video_vae=made.parts["video_vae"], seconds=3.0)
    audio, heard, state, info = run("GenerateSound", **asked).args
    assert audio["waveform"].shape == (1, 2, 40000) and audio["sample_rate"] == 48000
    path = heard.get_stream_source()
    assert [data for data, _ in packets_of(path)] == [data for data, _ in packets_of(folders / "film.mp4")]
    assert media.video_info(path).samples == 40000
    assert "0.83 s of sound" in info and "seconds 3 has no effect" in info and state.video_frames is None


def test_sound_alone_leaves_a_state_that_sound_goes_on_from(run, made):
    audio, video, state, _ = run("GenerateSound", **sounding(made)).args
    assert video is None and audio["waveform"].shape[2] == 34000  # 17 frames
    more, _, after, info = run("GenerateSound", **sounding(made, state=state, seed=7)).args
    assert "seed: 8" in run("InspectState", state=after).args[0].splitlines()  # of the film's second segment
    assert after.segment_index == state.segment_index + 1 and more["waveform"].shape == audio["waveform"].shape
    assert not torch.equal(more["waveform"], audio["waveform"])


@pytest.mark.parametrize("change, sentence", [({"prompt": " "}, "prompt is empty"), ({"audio_vae": None}, "audio_vae")])
def test_what_is_missing_is_said_before_anything_is_made(run, pack, made, change, sentence):
    with pytest.raises(pack.ltx2.errors.Ltx2Error, match=sentence):
        run("GenerateSound", **sounding(made, **change))


def test_a_video_without_its_vae_is_refused(run, pack, made, folders):
    from comfy_api.latest import InputImpl

    with VideoWriter(folders / "film.mp4", fps=24) as writer:
        writer.write_frames(grey(9))
    video = InputImpl.VideoFromFile(str(folders / "film.mp4"))
    with pytest.raises(pack.ltx2.errors.Ltx2Error, match="connect video_vae"):
        run("GenerateSound", **sounding(made, video=video))
