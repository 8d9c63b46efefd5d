from fractions import Fraction

import numpy as np
import pytest
import torch

from ltx2.config.versions import release
from ltx2.errors import CheckpointError, Ltx2Warning, RequestError
from ltx2.stages.geometry import size_for
from ltx2.stages.models import Models, PipelineConfig
from ltx2.stages.request import Request, make_job
from ltx2.values import LAST, AudioCondition, ClipCondition, ImageCondition, LatentCondition, TextContext

PICTURE = np.zeros((8, 8, 3), dtype=np.uint8)


def check(preset="ltx2_base", **fields):
    models = Models(PipelineConfig(), release((2, 3)), ("x.safetensors",), None)
    job = make_job(models, Request(**{"prompt": "a lake", "preset": preset, **fields}), parts=())
    return job.geometry, job.notes


def test_the_preset_fills_what_is_not_said():
    geometry, notes = check()
    assert (geometry.width, geometry.height, geometry.frames, geometry.fps, geometry.audio_latents) == (
        768,
        512,
        121,
        24,
        127,
    )
    assert not notes and geometry.video_tokens == 16 * 16 * 24
    assert str(geometry) == "768x512, 121 frames at 24 fps (5.04 s)"


def test_seconds_go_to_the_nearest_possible_length_and_say_so():
    geometry, notes = check(seconds=5, fps=24)
    assert geometry.frames == 121 and notes == ("5 s became 121 frames, 5.042 s",)
    geometry, notes = check(seconds=Fraction(121, 24))
    assert geometry.frames == 121 and not notes
    geometry, _ = check(seconds=2.0, fps="30000/1001")
    assert geometry.frames == 57 and geometry.fps == Fraction(30000, 1001)


def test_frames_are_snapped_on_request_only():
    with pytest.raises(RequestError, match="100 frames, expected 8k.1: use 97 or 105"):
        check(frames=100)
    geometry, notes = check(frames=100, snap=True)
    assert geometry.frames == 97 and notes == ("100 frames became 97",)


@pytest.mark.parametrize("preset, multiple, near", [("ltx2_base", 32, "800x512"), ("ltx2_fast", 64, "832x512")])
def test_sizes_are_snapped_on_request_only(preset, multiple, near):
    with pytest.raises(RequestError, match=f"multiples of {multiple}.*use {near}"):
        check(preset, width=810, height=520)
    geometry, notes = check(preset, width=810, height=520, snap=True)
    assert f"{geometry.width}x{geometry.height}" == near and notes == (f"810x520 became {near}",)
    assert not check(preset, width=768, height=512)[1]


@pytest.mark.parametrize("rule, latents", [("round", 126), ("ceil", 127), ("cover", 127)])
def test_length_of_the_sound(rule, latents):
    assert check(audio_rule=rule)[0].audio_latents == latents
    assert check(audio_rule=rule, audio_latents=0)[0].audio_latents == 0
    assert check(audio_latents=200)[0].audio_latents == 200


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": None}, "prompt is empty"),
        ({"batch_size": 0}, "batch size is 0, expected 1 or more"),
        ({"seed": -1}, "from 0"),
        ({"seed": 1.5}, "from 0"),
        ({"seed": 2**64}, "from 0 to 2\\^64 - 1"),
        ({"width": 64}, "both sides"),
        ({"width": 0, "height": 64}, "whole numbers? of pixels"),
        ({"width": -64, "height": 64, "snap": True}, "whole numbers? of pixels"),
        ({"width": 64.5, "height": 64}, "whole numbers? of pixels"),
        ({"frames": 0}, "from 1"),
        ({"frames": 9, "seconds": 1}, "give one of them"),
        ({"seconds": 0}, "more than 0"),
        ({"seconds": float("nan")}, "number of seconds"),
        ({"fps": 0}, "fps"),
        ({"audio_latents": -1}, "or more"),
        ({"audio_rule": "long"}, "round, ceil, cover"),
        ({"audio": AudioCondition(torch.zeros(1, 8, 300, 16))}, "300 audio latents are given, the clip has 127"),
        ({"audio": AudioCondition(torch.zeros(1, 8, 3, 16)), "audio_latents": 0}, "silent film"),
        ({"video_offset_seconds": -1}, "0 or more"),
        ({"images": (ImageCondition(PICTURE, frame=121),)}, "frames 0 to 120"),
        ({"images": (ImageCondition(PICTURE, strength=-0.1),)}, "expected 0"),
        ({"images": (ImageCondition(PICTURE), ImageCondition(PICTURE))}, "two images stand at frame 0: keep one"),
        ({"images": (ImageCondition(PICTURE, LAST), ImageCondition(PICTURE, 120))}, "frame 120, the last one: keep"),
        ({"clips": (ClipCondition(np.zeros((8, 8, 8, 3))),)}, "such as 1 or 9"),
        ({"clips": (ClipCondition(np.zeros((9, 8, 8, 3)), frame=113),)}, "frames 113 to 121"),
        ({"clips": (ClipCondition(np.zeros((9, 8, 8, 3)), strength=3),)}, "expected 0"),
    ],
)
def test_bad_requests_are_told_in_a_sentence(fields, sentence):
    with pytest.raises(RequestError, match=sentence) as caught:
        check(**fields)
    assert "\n" not in str(caught.value)


def test_latents_for_both_stages():
    known = LatentCondition(torch.zeros(1, 128, 1, 2, 2))
    with pytest.raises(RequestError, match="second stage too"):
        check("ltx2_fast", latents=(known, None))
    check("ltx2_base", latents=(known, None))


def test_an_encoded_prompt_replaces_the_text():
    check(prompt="", positive=TextContext(torch.zeros(1, 4, 8), None))


@pytest.mark.parametrize(
    "asked, says",
    [
        (dict(frames=481, video_offset_seconds=1), "reaches 21.04 s"),
        (dict(frames=121, fps=120), "120 frames per second"),
    ],
)
def test_what_the_models_were_not_trained_on_is_a_warning_of_the_job_that_is_done(recwarn, asked, says):
    check(**asked)  # a look at the size alone
    assert not recwarn.list
    models = Models(PipelineConfig(), release((2, 3)), ("x.safetensors",), None)
    with pytest.warns(Ltx2Warning, match=says), pytest.raises(CheckpointError):
        make_job(models, Request(prompt="a lake", preset="ltx2_base", **asked))


@pytest.mark.parametrize(
    "aspect, pixels, multiple, expected",
    [
        ((16, 9), 2_073_600, 64, (1920, 1088)),
        ((3, 2), 393_216, 64, (768, 512)),
        ((1, 1), 1, 32, (32, 32)),
        ((9, 16), 921_600, 64, (704, 1280)),
    ],
)
def test_sizes_of_a_shape_and_an_area(aspect, pixels, multiple, expected):
    width, height = size_for(Fraction(*aspect), pixels, multiple)
    assert width % multiple == height % multiple == 0
    assert (width, height) == expected


@pytest.mark.parametrize(
    "shape, told",
    [
        ((512, 768), ()),
        ((1024, 1536), ()),  # the same shape
        (
            (512, 512),
            ("the picture at frame 0 is 512x512, the clip 768x512: 33.3 % of it are cut off above and below",),
        ),
        ((64, 256), ("the picture at frame 0 is 256x64, the clip 768x512: 62.5 % of it are cut off at the sides",)),
    ],
)
def test_how_much_of_a_picture_of_another_shape_is_not_seen_is_told(shape, told):
    for picture in (np.zeros((*shape, 3), np.uint8), torch.zeros(*shape, 3)):
        assert check(images=(ImageCondition(picture, 0),))[1] == told


@pytest.mark.parametrize("one", [{"width": 64}, {"height": 64}])
def test_a_size_of_one_side_is_refused(one):
    with pytest.raises(RequestError, match=f"{next(iter(one))} is 64, .* is left open: give both sides, or neither"):
        check(**one)


FAR_TOO_MUCH = (
    ({"width": 12800, "height": 9600}, "size is 12800x9600, expected sides up to 8192 pixels: use at most 8192x6144"),
    ({"width": 32 * 10**9, "height": 64}, "expected sides up to 8192 pixels: use at most 8192x64"),
    ({"seconds": 200}, r"200.042 s \(4801 frames at 24 fps\), expected at most 60 s.*make segments"),
    ({"frames": 961, "fps": 2}, "480.5 s.*expected at most 60 s"),
    ({"seconds": 1e300}, "expected at most 60 s"),
    ({"seconds": 4000, "sound_only": True}, "the sound would last 4000.* s, expected at most 3600: make it in parts"),
)


@pytest.mark.parametrize("asked, told", FAR_TOO_MUCH)
def test_what_nobody_can_mean_is_refused_before_anything_is_computed(asked, told):
    sound = asked.get("sound_only", False)
    with pytest.raises(RequestError, match=told) as refused:
        check("ltx2_sound" if sound else "ltx2_quality", **asked)
    assert len(str(refused.value)) <= 300


@pytest.mark.parametrize("asked", [{"width": 8192, "height": 8192}, {"seconds": 59.9}, {"frames": 961, "fps": 60}])
def test_what_is_large_but_possible_is_left_to_who_asks(asked):
    check("ltx2_quality", **asked)
