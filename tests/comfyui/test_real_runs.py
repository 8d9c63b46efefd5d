"""Runs on a real ComfyUI: every example to its film, states across restarts and servers, cancelling, refusals, and
where files go."""

import copy
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import mp4_facts
from examples.comfy_client import RunFailed
from ltx2.continuation import load_attachment

from . import hosting, real

pytestmark = real.pytestmark
FRAMES, OVERLAP = real.SMALL_FRAMES, 9
FILM = FRAMES + 2 * (FRAMES - OVERLAP)
# frames of each example's film, cut down to size
EXAMPLES = {
    "text_to_video_two_stages": FRAMES,
    "double_frame_rate": 2 * FRAMES - 1,
    "image_to_video": FRAMES,
    "keyframes": FRAMES,
    "own_audio": FRAMES,
    "first_steps": FILM,
    "three_segment_film": FILM,
    "story": FILM,
    "hold_look": FILM,
    "continue_from_state": FRAMES - OVERLAP,
    "yesterdays_film": 2 * FRAMES - OVERLAP,
    "batch_of_takes": FRAMES - OVERLAP,
    "native_continuation": FRAMES - OVERLAP,
    "sound_for_a_film": 25,
    "extend_a_video": 25 + FRAMES - OVERLAP,
    "retake_a_video": real.TAKE_FRAMES,
    "control_canny": FRAMES,
    "control_pose": FRAMES,
    "reference_sheet": FRAMES,
    "inpaint_a_video": FRAMES,
    "reference_voice": FRAMES,
    "dub_a_video": 25,
    "enhanced_prompt": FRAMES,
    "negative_prompt": FRAMES,
    "one_track_film": FILM,
}
# as control_canny, but for a node that needs a model of its own
ALIKE = {"control_depth"}


def outputs_of(outputs: dict, key: str) -> list[dict]:
    return [one for reported in outputs.values() for one in reported.get(key, [])]


@pytest.fixture(scope="module")
def before(host):
    """Files that were there before any of these runs."""
    return real.all_files(host.base)


@pytest.fixture(scope="module")
def state_card(host, before):
    """A state that a run saved, in the input folder under the name that the examples load."""
    outputs = host.run(real.small(real.api_workflow("image_to_video")))
    (card,) = [one for one in outputs_of(outputs, "states") if one.get("file")]
    shutil.copy(host.path(card["picture"]), host.base / "input" / real.STATE_INPUT)
    return card


def film_facts(path) -> tuple[int, int, int]:
    """Frames, sound samples and sample rate of a film, counted by decoding it."""
    import av

    with av.open(str(path)) as film:
        frames = sum(1 for _ in film.decode(video=0))
    with av.open(str(path)) as film:
        rate = film.streams.audio[0].rate
        samples = sum(frame.samples for frame in film.decode(audio=0))
    return frames, samples, rate


def test_the_examples_are_all_tried():
    assert {p.stem for p in (real.WORKFLOWS / "api").glob("*.json")} == set(EXAMPLES) | ALIKE


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_makes_its_film(host, state_card, name):
    workflow = real.small(real.api_workflow(name))
    if name == "native_continuation":
        workflow = real.tiny_text(workflow)
    if name == "enhanced_prompt":
        workflow = real.typed_text(workflow)
    outputs = host.run(workflow)
    films = [one for one in outputs_of(outputs, "images") if one["filename"].endswith(".mp4")]
    # a segment to look at on the page is no result
    shown, films = ([one for one in films if (one["type"] == "temp") is temp] for temp in (True, False))
    assert len(films) == 1 and len(shown) == len(real.nodes_of(workflow, "Generate")), outputs
    for segment in shown:
        assert film_facts(host.path(segment))[0] >= OVERLAP and film_facts(host.path(segment))[2]
    frames, samples, rate = film_facts(host.path(films[0]))
    assert frames == EXAMPLES[name]
    # the host's own writer pads the last packet of 1024 samples and leaves out what is not whole
    fps = 48 if name == "double_frame_rate" else 24
    assert abs(samples - frames / fps * rate) <= 2048
    for state in outputs_of(outputs, "states"):
        assert state["audio_seconds"] > 0
        if name == "sound_for_a_film":
            assert not state["frames"]
            continue
        assert state["frames"] == OVERLAP
        # the stock graph says how wide its first stage is, and a video of 96x64 has its own shape
        wide = {"native_continuation": (64, 128), "extend_a_video": (192,)}.get(name, (64,))
        assert state["width"] in wide
        # what is saved together has one number
        if "SaveState" in json.dumps(workflow) and state.get("filename"):
            assert Path(state["filename"]).stem == Path(films[0]["filename"]).stem
    if "continu" in name:
        assert max(state["segment_index"] for state in outputs_of(outputs, "states")) == 1


def test_running_twice_gives_the_same_and_changes_no_input(host, state_card):
    """The second run differs in a late node alone, so all earlier values come from the host's cache."""
    workflow = real.small(real.api_workflow("continue_from_state"))
    images = {
        "class_type": "SaveImage",
        "inputs": {"images": [real.nodes_of(workflow, "Generate")[0], 0], "filename_prefix": "twice/one"},
    }
    first = pictures(host, host.run({**workflow, "90": images}))
    fresh = copy.deepcopy(workflow)
    fresh[real.nodes_of(fresh, "Generate")[0]]["inputs"]["negative_prompt"] = (
        "none"  # distilled presets do not look at it
    )
    images["inputs"]["filename_prefix"] = "twice/two"
    assert np.array_equal(pictures(host, host.run({**fresh, "90": images})), first)


def test_nodes_taken_from_the_cache_tell_of_their_states_again(host, state_card):
    workflow = real.small(real.api_workflow("continue_from_state"))
    told = []
    for prefix in ("again/one", "again/two"):
        workflow[real.nodes_of(workflow, "SaveState")[0]]["inputs"]["filename_prefix"] = prefix
        outputs = host.run(workflow)
        told.append(
            {key: outputs[key]["states"] for name in ("Generate", "LoadState") for key in real.nodes_of(workflow, name)}
        )
    assert told[0] == told[1] and all(states for states in told[0].values())


def pictures(host, outputs: dict) -> np.ndarray:
    cards = {one.get("filename") for one in outputs_of(outputs, "states")}
    files = [
        one
        for one in outputs_of(outputs, "images")
        if one["filename"].endswith(".png") and one["filename"] not in cards
    ]
    return np.stack([np.asarray(Image.open(host.path(one))) for one in files])


def test_a_cancelled_run_leaves_the_host_usable(host, state_card):
    workflow = real.small(real.api_workflow("text_to_video_two_stages"))
    slow = copy.deepcopy(workflow)
    slow[real.nodes_of(slow, "Preset")[0]]["inputs"].update(preset="ltx2_3_base", steps=200)
    slow[real.nodes_of(slow, "Denoise")[0]]["inputs"]["negative"] = [real.nodes_of(slow, "EncodePrompt")[0], 1]
    steps = []

    def cancel(node, value, total):
        if node in real.nodes_of(slow, "Denoise"):
            steps.append(value)
            if len(steps) == 2:
                urllib.request.urlopen(
                    urllib.request.Request(host.server.url + "/interrupt", b"{}", method="POST"), timeout=30
                )

    with pytest.raises(RunFailed, match="interrupted"):
        host.run(slow, on_progress=cancel)
    assert len(steps) < 50
    workflow[real.nodes_of(workflow, "Denoise")[0]]["inputs"]["seed"] = 77
    assert outputs_of(host.run(workflow), "images")
    left = [p for p in real.all_files(host.base) if "partial" in p.name or p.name.startswith(".ltx2")]
    assert not left


def test_a_story_is_resumed_and_changed_segments_alone_are_made_anew(host, before):
    workflow = real.small(real.api_workflow("story"))
    (node,) = real.nodes_of(workflow, "Story")
    workflow[node]["inputs"]["folder"] = "resumed/story"
    workflow[node]["inputs"]["script"] = (
        "size: 64x64\npreset: ltx2_fast\ndefaults: {frames: 17}\nsegments: [one, two]\n"
    )
    assert "2 segments made, 0 kept" in outputs_of(host.run(workflow), "text")[0]
    workflow[node]["inputs"]["script"] = (
        "size: 64x64\npreset: ltx2_fast\ndefaults: {frames: 17}\nsegments: [one, other]\n"
    )
    assert "1 segment made, 1 kept" in outputs_of(host.run(workflow), "text")[0]


REFUSED = {
    "checkpoint": ("LoadCheckpoint", {"checkpoint": "nothing.safetensors"}, "nothing.safetensors"),
    "outside": ("LoadState", {"file": "../../../../etc/passwd"}, "in ComfyUI's input folder: choose"),
    "absolute": ("LoadState", {"file": "/etc/passwd [output]"}, "in ComfyUI's output folder: choose"),
    "missing": ("LoadState", {"file": "no_such_state.png [output]"}, "in ComfyUI's output folder: choose"),
    "width": ("Generate", {"width": -7}, "smaller than min"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_prompts_say_why(host, state_card, case):
    kind, change, expected = REFUSED[case]
    workflow = real.small(real.api_workflow("continue_from_state"))
    (node,) = real.nodes_of(workflow, kind)
    workflow[node]["inputs"].update(change)
    report = host.refused(workflow)["node_errors"][node]
    said = " ".join(f"{error['message']} {error['details']}" for error in report["errors"])
    assert expected in said and len(said) < 600


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"script": "segments:\n  - prompt: a\n    colour: red\n"}, "line 3"),
        ({"script": "segments:\n  - prompt: a\n    image: ../../secret.png\n"}, "secret.png"),
        ({"folder": "../elsewhere"}, "leaves the output folder"),
        ({"redo": "first"}, "expected a segment number"),
        ({"script": "overlap: {video: 10}\nsegments: [a, b]"}, "line 1, column 18: video is '10', expected 8k+1"),
        ({"script": "overlap: {video: 17}\ndefaults: {frames: 9}\nsegments: [a, b]"}, "has 9 frames, 17 of which are"),
        ({"script": "overlap: {audio: -1}\nsegments: [a]"}, "audio is '-1', expected a whole number from 0"),
        ({"script": "size: 768\nsegments: [a]"}, "line 1, column 7: size is '768', expected WIDTHxHEIGHT"),
        ({"script": "fps: 0\nsegments: [a]"}, "line 1, column 6: fps is '0', expected a positive number"),
        ({"script": "fps: fast\nsegments: [a]"}, "fps is 'fast', expected a positive number"),
        ({"script": "defaults: {frames: 10}\nsegments: [a]"}, "expected 8k+1 frames: use 9 or 17"),
        ({"script": "segments:\n  - prompt: a\n    image: none.png\n"}, "'none.png' is not in ComfyUI's input folder"),
        ({"script": " \n"}, "script is empty"),
    ],
)
def test_a_wrong_story_is_refused_before_anything_is_loaded(host, change, expected):
    workflow = real.api_workflow("story")
    (node,) = real.nodes_of(workflow, "Story")
    workflow[node]["inputs"].update(change)
    report = host.refused(workflow)["node_errors"][node]
    assert any(expected in error["details"] for error in report["errors"])


def test_wrong_values_at_run_time_are_sentences(host, state_card):
    workflow = real.small(real.api_workflow("text_to_video_two_stages"))
    (film,), (denoise,) = real.nodes_of(workflow, "DecodeToFile"), real.nodes_of(workflow, "Denoise")
    (upsample,) = real.nodes_of(workflow, "Upsample")
    workflow[film]["inputs"]["latent"] = [denoise, 0]
    workflow[upsample]["inputs"]["latent"] = [real.nodes_of(workflow, "PrepareLatent")[0], 0]
    workflow[film]["inputs"]["filename_prefix"] = "../../outside"
    with pytest.raises(RunFailed, match="leaves the output folder"):
        host.run(workflow)
    # known by what the prompt connects, before anything is made
    workflow = real.small(real.api_workflow("three_segment_film"))
    (join,) = real.nodes_of(workflow, "JoinSegments")
    workflow[join]["inputs"]["segment_2"] = workflow[join]["inputs"]["segment_1"]
    with pytest.raises(RunFailed, match="segment_2 is the same segment as segment_1"):
        host.run(workflow)


@pytest.mark.parametrize("two", [False, True], ids=["one server", "two servers and a dead one"])
def test_the_story_client(host, two, request, tmp_path):
    servers = ["--server", host.server.url]
    if two:
        servers += ["--server", request.getfixturevalue("older_host").server.url, "--server", "http://127.0.0.1:9"]
    small = ["--size", "64x64", "--seconds", "0.7", "--preset", "ltx2_fast"]
    models = [
        "--checkpoint",
        "ltx-2.3-22b-distilled-fp8.safetensors",
        "--text-encoder",
        "gemma_3_12B_it_fp4_mixed.safetensors",
    ]
    models += ["--upsampler", "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"]
    script = hosting.ROOT / "examples/story_over_api.py"
    command = [
        sys.executable,
        str(script),
        *servers,
        *models,
        *small,
        "--out",
        str(tmp_path),
        "A harbour.",
        "Roofs.",
        "--scene",
        "A square.",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    expected = 2 * FRAMES - OVERLAP + FRAMES
    facts = mp4_facts.film_facts(tmp_path / "film.mp4")
    assert facts.frames == expected == film_facts(tmp_path / "film.mp4")[0]
    assert facts.samples == round(expected / 24 * facts.sample_rate)
    assert load_attachment(tmp_path / "film.state.safetensors").state.video_frames
    command[command.index("--checkpoint") + 1] = "nothing.safetensors"
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "nothing.safetensors" in refused.stderr and "Traceback" not in refused.stderr


def test_a_state_survives_a_restart_and_the_page_part_is_not_needed(host, before, tmp_path_factory):
    """Saved in run 1, loaded in run 2 after a restart of a pack without web/: the same frames as in one process."""
    film = real.small(real.api_workflow("three_segment_film"))
    one, two, three = real.nodes_of(film, "Generate")
    (join,), (card,) = real.nodes_of(film, "JoinSegments"), real.nodes_of(film, "SaveState")
    save_images = {"class_type": "SaveImage", "inputs": {"images": [two, 0], "filename_prefix": "restart/a"}}
    alone = {name: value for name, value in film[card]["inputs"].items() if name != "video"}
    save_state = {"class_type": film[card]["class_type"], "inputs": {**alone, "state": [one, 2]}}
    together = {
        key: node
        for key, node in film.items()
        if node["class_type"].startswith(real.PREFIX) and key not in (three, join, card)
    }
    outputs = host.run({**together, "90": save_images, "91": save_state})
    expected = pictures(host, outputs)
    (saved,) = outputs["91"]["states"]

    host.server.stop()
    bare = tmp_path_factory.mktemp("bare") / "pack"
    bare.mkdir()
    for part in ("__init__.py", "pyproject.toml", "ltx2", "nodes"):
        (bare / part).symlink_to(hosting.ROOT / part)
    (host.base / "custom_nodes/ltx2-continuum").unlink()
    host.server = hosting.start(hosting.main_checkout(), host.base, pack=bare)
    assert not [path for path in host.server.get("/extensions") if "continuum" in path]

    later = {key: copy.deepcopy(node) for key, node in together.items() if key != one}
    later["92"] = {"class_type": real.PREFIX + "LoadState", "inputs": {"file": saved["file"]}}
    later[two]["inputs"]["state"] = ["92", 0]
    save_images["inputs"]["filename_prefix"] = "restart/b"
    assert np.array_equal(pictures(host, host.run({**later, "90": save_images})), expected)


def test_files_go_to_the_output_and_temp_folders_alone(host, before):
    """Last of all: whatever the runs of this module wrote."""
    written = {
        path.relative_to(host.base).parts[0]
        for path in real.all_files(host.base) - before
        if path.name != real.STATE_INPUT
    }
    assert written <= {"output", "temp", "input"}, written
    uploaded = [
        path.name for path in real.all_files(host.base) - before if path.relative_to(host.base).parts[0] == "input"
    ]
    assert all(name == real.STATE_INPUT or name.startswith("story_api") for name in uploaded), uploaded
    assert "Traceback" not in json.dumps(host.server.get("/queue"))
