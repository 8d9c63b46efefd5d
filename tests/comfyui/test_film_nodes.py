"""Extend Video and Retake Video: files, and frames with a sound, that keep what they were, with something new."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from ltx2 import media
from ltx2.media import VideoWriter
from ltx2.story.found import FilmInMemory
from ltx2.values import Waveform

from ..media.films import grey
from ..media.test_new_sound import packets_of
from . import samples
from .test_inputs_kept import HOLD, filming

pytestmark = pytest.mark.usefixtures("few_steps")


def video_in(folder, frames=40):
    from comfy_api.latest import InputImpl

    path = folder / "film.mp4"
    with VideoWriter(path, fps=24, sample_rate=48000) as writer:
        writer.write_frames(grey(frames, 64, 64))
        writer.write_sound(Waveform(torch.rand(2, frames * 2000) - 0.5, 48000))
    return InputImpl.VideoFromFile(str(path)), path


def test_a_video_is_gone_on_with_and_stays_as_it_is(run, made, folders):
    video, path = video_in(folders)
    output = run("ExtendVideo", **filming(made, video, seconds=1, context=9))
    longer, images, audio, state, info = output.args
    assert output.ui["text"] == info.split("\n")
    file = longer.get_stream_source()
    shown = media.video_info(file)
    assert shown.frames == 40 + 16 and shown.samples == 56 * 2000 and images.shape == (16, 64, 64, 3)
    assert [data for data, _ in packets_of(file)][:40] == [data for data, _ in packets_of(path)]
    assert audio["waveform"].shape[2] == round(16 / 24 * audio["sample_rate"])
    assert state.segment_index == 1 and "25 frames" in info


def test_what_comes_before_a_video_is_put_in_front_of_it(run, made, folders):
    video, path = video_in(folders)
    asked = filming(made, video, seconds=1, context=9, direction="backward")
    output = run("ExtendVideo", **asked)
    longer, images, audio, state, info = output.args
    assert output.ui["text"] == info.split("\n") and str(folders) not in info
    file = longer.get_stream_source()
    shown = media.video_info(file)
    assert shown.frames == 17 + 40 and images.shape == (17, 64, 64, 3) and "17 frames" in info
    assert [data for data, _ in packets_of(file)][17:] == [data for data, _ in packets_of(path)]
    assert audio["waveform"].shape[2] == round(17 / 24 * audio["sample_rate"])
    # goes on from where the video ends
    assert abs(state.video_frames[-1].astype(int) - media.read_video(path).frames[-1]).max() == 0
    with pytest.raises(ValueError, match="8 of which are the film's"):
        run("ExtendVideo", **{**asked, "seconds": 0.4})


def test_a_part_is_made_anew_inside_a_mask(run, made, folders):
    video, path = video_in(folders)
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    asked = filming(made, video, start=0.5, end=1.0, what="picture", mask=mask, fps=30.0)
    again, info, *none = run("Retake", **asked).args
    assert none == [None, None] and "fps 30 has no effect: the video has its own" in info
    before, after = media.read_video(path), media.read_video(again.get_stream_source())
    change = abs(after.frames.astype(int) - before.frames.astype(int)).mean((1, 3))
    assert "made anew: frames 9 to 24" in info and len(change) == 40
    assert change[9:25, 44:].mean() > 10 > change[:, :28].max() and change[:9].max() < 10
    kept = before.sound.samples.shape[1] - 4 * 1024  # its last blocks end where the picture does
    assert torch.equal(after.sound.samples[:, :kept], before.sound.samples[:, :kept])


def test_a_part_of_frames_and_a_sound_is_made_anew_and_all_else_is_kept_exactly(run, made, folders):
    images, sound = torch.rand(40, 66, 70, 3), torch.rand(1, 1, round(1.5 * 44100)) - 0.5
    mask = torch.zeros(40, 66, 70)
    mask[:, :, 35:] = 1
    given = {"images": images, "audio": {"waveform": sound, "sample_rate": 44100}, "mask": mask, "fps": 25.0}
    kept = images.clone(), sound.clone()
    video, info, frames, audio = run(
        "Retake", **filming(made, None, start=0.5, end=0.9, what="picture and sound", **given)
    ).args
    assert "made anew: frames 9 to 24" in info and torch.equal(images, kept[0]) and torch.equal(sound, kept[1])
    change = (frames - images).abs().amax((1, 3))
    assert not change[:9].any() and not change[25:].any() and not change[:, :35].any()
    assert change[9:25, 50:].mean() > 0.05
    off = (audio["waveform"] - sound).abs()[0, 0]
    assert audio["sample_rate"] == 44100 and len(off) == sound.shape[2] and off[22050:39000].mean() > 0.01
    assert not off[: int(0.47 * 44100)].any() and not off[int(0.95 * 44100) :].any()
    parts = video.get_components()
    assert parts.frame_rate == 25 and torch.equal(parts.images, frames)
    silent = run(
        "Retake", **filming(made, None, start=0.5, end=0.9, what="picture and sound", images=images, mask=mask[:1])
    ).args
    assert silent[3] is None and not (silent[2] - images).abs().amax((1, 3))[:, :35].any()


@pytest.mark.parametrize(
    "given, words",
    [
        ({"mask": torch.ones(39, 64, 64)}, "the mask has 39 frames, the film has 40: make them equal, or give one"),
        ({"mask": torch.ones(40, 64, 96)}, "the mask is 96x64, the film 64x64: give a mask of the film's shape"),
        ({"mask": torch.zeros(1, 64, 64)}, "the mask is black in the part"),
        ({"end": 9.0}, "0.5 to 9 s are to be made anew, the film lasts 1.67 s"),
        ({"what": "sound"}, "the film has no sound that could be made anew: ask for the picture"),
        ({"video": "a video"}, "video and images are both connected: leave one of them out"),
        ({"images": None}, "nothing is connected that a part could be made anew of: connect video, or images"),
        ({"images": None, "video": "a video", "audio": {}}, "audio is connected with a video"),
        ({"images": torch.rand(0, 64, 64, 3)}, "the film has frames of shape"),
        ({"mask": torch.full((1, 64, 64), float("nan"))}, "the mask holds NaN or infinity"),
    ],
)
def test_what_is_no_film_or_no_part_of_it_is_refused(run, made, folders, given, words):
    asked = {
        "images": torch.rand(40, 64, 64, 3),
        "start": 0.5,
        "end": 1.0,
        "what": "picture and sound",
        "video": None,
        **given,
    }
    with pytest.raises(Exception, match=words) as refused:
        run("Retake", **filming(made, asked.pop("video"), **asked))
    assert type(refused.value).__name__ in ("RequestError", "MediaError")


def test_messages_name_the_film_that_was_given(run, made, folders, pack):
    from comfy_api.latest import InputImpl

    for separator in "/\\":  # as systems write it
        path = separator.join(("continuum", "given_00012_", "film.mp4"))
        assert pack.nodes.host.without_folders(f"{path} has no sound") == "film.mp4 has no sound"
    video, path = video_in(folders, 5)
    with VideoWriter(folders / "quiet.mp4", fps=24) as writer:
        writer.write_frames(grey(9, 64, 64))
    quiet = InputImpl.VideoFromFile(str(folders / "quiet.mp4"))
    short = {"seconds": 1, "context": 9}
    for node, film, asked, words in (
        ("ExtendVideo", video, short, "film.mp4 has 5 frames, going on from it needs 9: use a longer film"),
        ("ExtendVideo", video, {**short, "direction": "backward"}, "film.mp4 has 5 frames, leading to it needs 8"),
        (
            "Retake",
            video,
            {"start": 0.0, "end": 9.0, "what": "picture"},
            "0 to 9 s are to be made anew, film.mp4 lasts",
        ),
        ("Dub", quiet, {}, "quiet.mp4 has no sound: dubbing takes the voice from it"),
        ("Dub", None, {}, "video holds nothing: connect a node that gives a video"),
        ("ExtendVideo", quiet, {"seconds": 0.1, "context": 9}, "the segment has 1 frames, 9 of which are the film's"),
        ("ExtendVideo", quiet, {**short, "preset": "ltx2_sound"}, "preset ltx2_sound makes sound alone, pictures are"),
    ):
        with pytest.raises(ValueError) as refused:
            run(node, **filming(made, film, **asked))
        assert str(refused.value).startswith(words), node


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("film.mp4", b"\0\0\0\x20ftypisom" + b"\0" * 99, "film.mp4 is a film, .*: go on from a film with Extend Video"),
        ("a.png", b"", "a.png is empty, expected a state: copy or send the file again"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "a.png is a truncated PNG, .*: copy or send the file again"),
        ("workflow.json", b'{"nodes": [], "links": []}', "workflow.json is JSON without a state, .*: choose the file"),
        ("a.txt", b"hello world", "a.txt is no state, it begins with 68656c6c6f20776f, .*: choose the file"),
        ("folder", None, "folder/state.json is not there, .*: choose what was saved as a state"),
        ("gone.png [output]", None, "no 'gone.png' in ComfyUI's output folder: choose a file that is, or upload it$"),
    ],
)
def test_what_is_no_state_is_told_with_what_to_do(run, folders, name, data, words):
    (folders / "input/folder").mkdir(parents=True)
    if data is not None:
        (folders / "input" / name).write_bytes(data)
    with pytest.raises(ValueError, match=words) as refused:
        run("LoadState", file=name)
    assert str(folders) not in str(refused.value)


def test_frames_and_sound_that_are_not_taken_as_they_are_are_told():
    def notes(channels, seconds):
        return FilmInMemory(
            torch.rand(24, 64, 64, channels), Fraction(24), Waveform(torch.rand(1, seconds), 1000)
        ).notes

    assert notes(3, 1000) == ()
    assert notes(4, 3000)[0].startswith("the images have a channel of transparency")
    assert notes(3, 3000) == ("2.00 s of sound after the last frame are left out",)
    assert notes(3, 200) == ("the sound ends 0.80 s before the last frame: silence follows it",)


def test_sound_that_no_mp4_holds_is_converted_for_the_video_alone_and_told(pack):
    sound = samples.sound(1, 22000)
    with pytest.warns(pack.ltx2.errors.Ltx2Warning, match="2 channels at 22000 Hz, video has it with 2 .* 22050 Hz"):
        video = pack.nodes.shown.video_of(samples.frames(24), sound, Fraction(24))
    assert video.get_components().audio["sample_rate"] == 22050 and sound["sample_rate"] == 22000
    usual = samples.sound(1)
    assert pack.nodes.shown.video_of(samples.frames(24), usual, Fraction(24)).get_components().audio is usual


@pytest.fixture
def yesterday(run, made, folders):
    """A state that was saved with its film, as a loader takes it."""
    return run("SaveState", state=made.state, filename_prefix="day/film", form="PNG card", video=made.segment).args[1]


def test_a_loaded_state_brings_its_film_into_the_join(run, made, folders, yesterday, nodes):
    loaded = run("LoadState", file=yesterday)
    state, before = loaded.args[0], folders / "output/day/film_00001_.mp4"
    assert loaded.ui["states"][0]["notes"] == ["its film: day/film_00001_.mp4"]
    # no folder of this machine is in what is sent to others
    assert str(folders) not in str(state.metadata) and state.metadata["comfy_ltx2"]["film"]["frames"] == 25
    join = {"segment_1": made.next_segment, "state": state, **dict.fromkeys(HOLD, 0.0)}
    assert nodes["JoinSegments"].check_lazy_status(state=state, segment_1=None, segment_2=1) == ["segment_1"]
    images, audio, fps, report, video = run("JoinSegments", **join).args
    assert len(images) == 16 and audio["waveform"].shape[-1] == round(16 / 24 * audio["sample_rate"]) and fps == 24
    assert report.startswith("day/film_00001_.mp4 and 1 segment behind it, 16 new frames\nseam before segment 2")
    again = run("SaveState", state=made.state, filename_prefix="day/film", form="PNG card", video=video).args[0]
    assert again.metadata["comfy_ltx2"]["film"] == {"file": "day/film_00002_.mp4 [output]", "frames": 25 + 16}
    second = folders / "output/day/film_00002_.mp4"
    assert packets_of(second)[:25] == packets_of(before)
    sound = media.read_sound(second)
    assert abs(sound.samples.shape[-1] / sound.sample_rate - 41 / 24) < 0.03
    kept = run("LoadState", file="day/film_00002_.png [output]").args[0]
    assert kept.metadata["comfy_ltx2"] == again.metadata["comfy_ltx2"]


def test_joins_that_nobody_means_are_refused_as_early_as_can_be(run, made, folders, yesterday, nodes, pack):
    join, check = nodes["JoinSegments"], pack.nodes.joined.check_links
    with pytest.raises(
        ValueError, match="segment_3 is the same segment as segment_2: connect the one that goes on from"
    ):
        run("JoinSegments", segment_1=made.segment, segment_2=made.next_segment, segment_3=made.next_segment, **HOLD)
    # a scene may be seen again
    again = run("JoinSegments", segment_1=made.segment, segment_2=made.next_segment, segment_3=made.segment, **HOLD)
    assert "segment_3 is the same segment as segment_1: it is seen again" in again.ui["text"]
    assert (
        len(again.args[0]) == 25 + 16 + 25 and "segment 3 goes on from nothing: it begins with a cut" in again.args[3]
    )
    state = run("LoadState", file=yesterday).args[0]
    # a state of another place, loaded for the segment alone
    ours = {**made.state.metadata["comfy_ltx2"], "segment_start_sec": [3, 1]}
    elsewhere = replace(made.state, metadata={"comfy_ltx2": ours})
    other = run("SaveState", state=elsewhere, filename_prefix="other", form="PNG card").args[1]

    def prompt(file, second):
        return SimpleNamespace(
            unique_id="9",
            prompt={
                "1": {"class_type": "LTX2ContinuumLoadState", "inputs": {"file": file}},
                "2": {"class_type": "LTX2ContinuumGenerate", "inputs": {"state": ["1", 0]}},
                "9": {
                    "class_type": "LTX2ContinuumJoinSegments",
                    "inputs": {"segment_1": ["2", 3], "segment_2": second},
                },
            },
        )

    for fine in (prompt(yesterday, ["3", 3]), prompt("gone.png", ["3", 3]), None):
        check(fine, state)
    check(prompt(other, ["3", 3]), None)
    with pytest.raises(ValueError, match="segment_2 is the same segment as segment_1"):
        check(prompt(yesterday, ["2", 3]), None)
    scenes = prompt(yesterday, ["2", 3])
    scenes.prompt["2"]["inputs"] = {}
    check(scenes, None)
    scenes.prompt["9"]["inputs"]["segment_3"] = ["5", 3]
    scenes.prompt["5"] = {"class_type": "LTX2ContinuumGenerate", "inputs": {"state": ["4", 2]}}
    with pytest.raises(ValueError, match="segment_2 is the same segment as segment_1"):
        check(scenes, None)
    with pytest.raises(
        ValueError, match=r"state ends at 1.04 s of its film, segment_1 goes on from other_00001_.png \[out"
    ):
        check(prompt(other, ["3", 3]), state)
    # what only the segments tell is told once the first is there
    assert join.check_lazy_status(state=state, segment_1=made.next_segment, segment_2=None) == ["segment_2"]
    late = replace(made.next_segment, timing=replace(made.next_segment.timing, start=Fraction(9)))
    with pytest.raises(ValueError, match="segment 2 begins at 9.* s, the state ends at 1.042 s: put together"):
        join.check_lazy_status(state=state, segment_1=late, segment_2=None)


def test_a_state_that_is_saved_with_another_film_is_told(run, made, folders):
    dark = replace(made.segment, frames=torch.zeros_like(made.segment.frames))
    saved = run("SaveState", state=made.state, filename_prefix="day/film", form="PNG card", video=dark)
    words = "film_00001_.mp4 ends with another picture than the state: save a state with the film that it goes on from"
    assert saved.ui["text"] == [words]
    loaded = run("LoadState", file=saved.args[1])
    assert loaded.ui["states"][0]["notes"][1:] == [words]
    report = run("JoinSegments", segment_1=made.next_segment, state=loaded.args[0], **HOLD).args[3]
    assert words in report.split("\n")


def test_a_film_that_was_moved_with_its_state_is_found_and_one_that_is_gone_is_told_before_anything_is_made(
    run, made, folders, yesterday, nodes
):
    (folders / "input").mkdir(exist_ok=True)
    before = (folders / "output/day/film_00001_.mp4").rename(folders / "input/film_00001_.mp4")
    (folders / "input/card.png").write_bytes((folders / "output/day/film_00001_.png").read_bytes())
    moved = run("LoadState", file="card.png").args[0]
    assert moved.metadata["comfy_ltx2"]["film"]["file"] == "film_00001_.mp4"
    assert len(run("JoinSegments", segment_1=made.next_segment, state=moved, **dict.fromkeys(HOLD, 0.0)).args[0]) == 16
    # another film of its name is not taken for it
    before.write_bytes(made.card)
    for name in ("card.png", yesterday):
        loaded = run("LoadState", file=name)
        assert "is not in ComfyUI's output folder nor beside" in loaded.ui["states"][0]["notes"][0]
        for asked in (nodes["JoinSegments"].check_lazy_status, lambda **inputs: run("JoinSegments", **inputs)):
            with pytest.raises(ValueError, match="day/film_00001_.mp4, the film that was saved with the state, is not"):
                asked(segment_1=made.next_segment, state=loaded.args[0], **dict.fromkeys(HOLD, 0.0))
    with pytest.raises(ValueError, match="the state knows no film"):
        nodes["JoinSegments"].check_lazy_status(state=made.state)


def test_a_film_that_the_command_line_saved_with_a_state_is_found_where_both_lie(
    run, made, folders, yesterday, nodes, pack
):
    saving = pack.nodes.continuation
    film = (folders / "output/day/film_00001_.mp4").read_bytes()
    other = folders / "input/film.mp4"  # of the same name, uploaded for something else
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(b"no film")
    for number, (kind, below, mark) in enumerate((("output", "", " [output]"), ("input", "cut [2]/", ""))):
        card = folders / kind / f"cli{number}/film.state.png"
        place = card.parent / below / "film.mp4"
        place.parent.mkdir(parents=True)
        place.write_bytes(film)
        saving.save_attachment(pack.ltx2.film.saved_film.with_film_beside(made.state, place, card)[0], card)
        loaded = run("LoadState", file=f"cli{number}/film.state.png{mark}")
        assert loaded.ui["states"][0]["notes"] == [f"its film: cli{number}/{below}film.mp4"]
        state = loaded.args[0]
        assert nodes["JoinSegments"].check_lazy_status(state=state, segment_1=None) == ["segment_1"]
        video = run("JoinSegments", segment_1=made.next_segment, state=state, **dict.fromkeys(HOLD, 0.0)).args[4]
        assert media.video_info(video.get_stream_source()).frames == 25 + 16
    # without its own folder only what fits is taken
    other.write_bytes(film)
    (folders / "input/card.png").write_bytes(card.read_bytes())
    assert run("LoadState", file="card.png").ui["states"][0]["notes"] == ["its film: film.mp4"]
    other.write_bytes(b"no film")
    told = run("LoadState", file="card.png").ui["states"][0]["notes"]
    assert told[0].startswith("its film cut [2]/film.mp4 is not in ComfyUI's input folder nor beside")
