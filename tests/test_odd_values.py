"""Names and values that nobody meant, at the doors of the Python interface: one sentence of ours, or it works."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2 import clock, media
from ltx2.checkpoint.lora import read_lora
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.continuation import load_attachment
from ltx2.errors import Ltx2Error
from ltx2.media.found.film_picture import film_picture
from ltx2.stages.models import PipelineConfig, load_models
from ltx2.stages.presets import parse_override
from ltx2.story.script import parse_script, read_script
from ltx2.story.takes import parse_pick, parse_redo
from ltx2.text.gemma import load_text_encoder

NAMES = (
    "",
    ".",
    "/",
    "none",
    "x" * 300,
    "é" * 300,
    "a\0b",
    "a\nb",
    "\ud800",
    "~",
    "C:x",
    "a/" * 3000,
    "none.mp4",
    "\x1b[31m",
)
names = st.one_of(st.sampled_from(NAMES), st.text(st.characters(), max_size=12), st.sampled_from(NAMES[:3]).map(Path))
# a door that takes a name of a file → what is called
OF_FILES = {
    "load_models": load_models,
    "open_checkpoint": open_checkpoint,
    "load_text_encoder": load_text_encoder,
    "read_lora": read_lora,
    "load_attachment": load_attachment,
    "read_script": read_script,
    "open_image": media.open_image,
    "read_sound": media.read_sound,
    "read_video": media.read_video,
    "video_info": media.video_info,
    "read_found_film": media.read_found_film,
    "film_picture": lambda name: film_picture(name, most_pixels=1024),
}
numbers = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.fractions(), st.text(max_size=9), st.none(),
    st.sampled_from([np.int64(3), np.float32(2.5), torch.tensor(3), "24000/1001", "1/0", (24, 1), (1, 0), (), b"2"]),
)  # fmt: skip
OF_NUMBERS = {
    "parse_fps": clock.parse_fps,
    "exact_seconds": clock.exact_seconds,
    "latent_frames": lambda value: clock.latent_frames(value) if isinstance(value, int) else None,
}
TEXTS = {
    "parse_script": parse_script,
    "parse_redo": parse_redo,
    "parse_pick": parse_pick,
    "parse_override": parse_override,
}
FEW = settings(max_examples=60, deadline=None, derandomize=True)


def only_ours(call):
    try:
        call()
    except Ltx2Error as error:
        assert str(error) and len(str(error)) <= 300 and str(error).isprintable()


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No name means a file by chance."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("door", OF_FILES)
def test_odd_names_of_files(door):
    @FEW
    @given(names)
    def check(name):
        only_ours(lambda: OF_FILES[door](name))

    check()


@pytest.mark.parametrize("door", OF_NUMBERS)
def test_odd_numbers(door):
    @FEW
    @given(numbers)
    def check(value):
        only_ours(lambda: OF_NUMBERS[door](value))

    check()


@pytest.mark.parametrize("door", TEXTS)
def test_odd_texts(door):
    @FEW
    @given(names.map(str))
    def check(text):
        only_ours(lambda: TEXTS[door](text))

    check()


@FEW
@given(
    st.sampled_from(
        ["device", "transformer", "latents", "offload", "video_decoding", "quantized", "noise_device", "pass_batching"]
    ),
    st.one_of(numbers, names.map(str), st.sampled_from(["bfloat16", "torch.bfloat16", torch.int8, np.float32, object])),
)
def test_odd_settings_of_a_pipeline(name, value):
    only_ours(lambda: PipelineConfig(**{name: value}))


def test_seconds_and_rates_of_other_libraries():
    assert clock.parse_fps(np.int64(24)) == clock.parse_fps(torch.tensor(24)) == Fraction(24)
    assert clock.exact_seconds(np.float64(0.1)) == Fraction(1, 10)
