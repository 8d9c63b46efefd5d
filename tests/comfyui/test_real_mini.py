"""What templates show and sound like on a real ComfyUI, with the trained demonstration model."""

import numpy as np
import pytest

from ltx2.media import read_sound, read_video
from training import meaning

from . import make_pictures, mini_templates, real
from .mini_templates import BALL, BOX, FRAMES, STAR

pytestmark = real.pytestmark
FIRST, LATER = (FRAMES - 1) // 8, (FRAMES - 9) // 8  # steps of a segment from nothing, and of one that repeats 9 frames
STORY = [STAR, STAR.but(motion="up"), STAR.but(motion="round", colour="blue")]
# the subjects of a template's segments
EXPECTED = {
    "text_to_video_two_stages": [STAR],
    "first_steps": STORY,
    "story": STORY,
    "continue_from_state": [BALL, BALL.but(motion="side")],
    "yesterdays_film": [BALL, BALL.but(motion="side")],
    "native_continuation": [BOX, BOX.but(motion="round", colour="red")],
}


@pytest.fixture(autouse=True)
def own_inputs_again(host):
    """The host's input folder as it was, for the tests that share it."""
    files = [path for path in (host.base / "input").iterdir() if path.is_file()]
    there = {path: path.read_bytes() for path in files}
    yield
    for path, data in there.items():
        path.write_bytes(data)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_template_on_the_demonstration_model(host, name):
    films = make_pictures.films_of(host, name)
    frames = np.concatenate([np.asarray(read_video(film).frames, np.float32) / 255 for film in films])
    sounds = [read_sound(film) for film in films]
    # a file's sound may be longer than its picture by what is left of a packet
    counts = [round(len(read_video(film).frames) / 24 * one.sample_rate) for film, one in zip(films, sounds)]
    sound = np.concatenate([one.samples.mean(0).numpy()[:count] for one, count in zip(sounds, counts)])
    subjects = EXPECTED[name]
    truth = meaning.story_truth(subjects, [FIRST, *[LATER] * (len(subjects) - 1)])
    assert len(frames) == truth.frames
    verdict = meaning.judge(frames, sound, sounds[0].sample_rate, truth)
    for segment in verdict.segments:
        assert min(segment[part] for part in ("cell", "motion", "colour", "shape", "scene", "tone")) == 1
    assert all(verdict.clean)


def test_templates_for_the_demonstration_model_lack_nothing():
    """Every link leads to a node that is there, and nothing that mini has not is asked for."""
    for path in (real.WORKFLOWS / "api").glob("*.json"):
        form = mini_templates.with_mini(path.stem, real.api_workflow(path.stem))
        links = [value[0] for node in form.values() for value in node["inputs"].values() if isinstance(value, list)]
        assert form and set(links) <= set(form), path.stem
        kinds = {node["class_type"] for node in form.values()}
        assert not kinds & {*mini_templates.BYPASSED, *mini_templates.UPSCALERS, "LTXAVTextEncoderLoader"}
