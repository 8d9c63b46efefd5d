"""ComfyUI's own two-stage LTX-2 templates with four of our nodes: extended on the page, run to start a film and run
again to go on."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from . import hosting, pages, real
from .test_real_runs import film_facts, outputs_of

pytestmark = pages.pytestmark
WHERE = "import importlib.resources as r; print(r.files('comfyui_workflow_templates_json') / 'templates')"
TWO_STAGES = ("video_ltx2_t2v", "video_ltx2_t2v_distilled", "video_ltx2_3_t2v", "video_ltx2_3_i2v", "video_ltx2_5_t2v")
VOICE = "video_ltx2_3_id_lora"  # in two stages, with a reference voice
# in one stage, with guides, and with the references of an IC-LoRA: a control film at half the size, a reference sheet
ONE_STAGE = ("video_ltx2_3_flf2v", "video_ltx2_3_ic_lora", "template_ltx2_3_ic_lora_ingredients")
NAMES = (*TWO_STAGES, VOICE, *ONE_STAGE)
FRAMES, OVERLAP = 25, 9
IC_LORA = "ic-lora-of-half-size.safetensors"
# what a person types into the template, by the node's title
SETTINGS = {
    **dict.fromkeys(("Width", "Height", "height"), 128), **dict.fromkeys(("Length", "Frame Count"), FRAMES),
    **dict.fromkeys(("Frame Rate", "Frame Rate(int)"), 24), "Duration": 1,
    # the sheet is repeated to as many frames as the clip has
    "Int (duration)": 1, "Int (fps)": FRAMES,
}  # fmt: skip
# which tiny file an input takes, by its name and what the template names there
ROLES = {
    "ckpt_name": "transformer", "unet_name": "transformer", "lora_name": "distilled_lora",
    "model_name": "spatial_upsampler",
    "text_encoder": "text_encoder", "clip_name": "text_encoder", "vae_name": "video_vae",
}  # fmt: skip
FILES = {"LoadImage": ("image", "first.png"), "LoadVideo": ("file", "film.mp4"), "LoadAudio": ("audio", "song.wav")}


def ic_lora(path: Path, source: Path) -> None:
    """A LoRA that wants its reference at half the size."""
    with safe_open(source, "pt") as file:
        save_file({name: file.get_tensor(name) for name in file.keys()}, path, {"reference_downscale_factor": "2"})


@pytest.fixture(scope="module")
def extended(host, browser, tiny):
    """Each template's API forms: with the four nodes, and with those that load bypassed."""
    found = subprocess.run(
        [hosting.host_python(), "-c", WHERE], capture_output=True, text=True, timeout=60, env=hosting.environment()
    )
    paths = {name: Path(found.stdout.strip()) / f"{name}.json" for name in NAMES}
    if found.returncode or not all(path.is_file() for path in paths.values()):
        pytest.skip("the host's own templates are not installed")
    for path in {path for version in ("2.3", "2.5") for path in tiny(version).values()}:
        link = host.base / "models" / path.parent.name / path.name
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(path)
    ic_lora(host.base / "models/loras" / IC_LORA, tiny("2.3")["distilled_lora"])
    workflows = [{"name": name, "path": str(path), "continued": True} for name, path in paths.items()]
    return browser.visit(host, workflows=workflows)["workflows"]


def cut_down(workflow: dict, files: dict[str, Path], state: str = "") -> dict:
    """At the tiny models' size, with native conditioning of their width in place of Gemma's."""
    checkpoint = next(
        key for key, node in workflow.items() if node["class_type"] in ("CheckpointLoaderSimple", "UNETLoader")
    )
    for key, node in workflow.items():
        kind, inputs, title = node["class_type"], node["inputs"], node["_meta"]["title"]
        for name, role in ROLES.items():
            if name in inputs and "union-control" in str(inputs[name]):
                inputs[name] = IC_LORA
            elif name in inputs:
                inputs[name] = files["audio_vae" if "audio" in inputs[name] else role].name
        if kind == "CLIPTextEncode":
            node.update(
                class_type="TinyConditioning", inputs={"model": [checkpoint, 0], "seed": len(key), "text": "a lake"}
            )
        if kind == "EmptyImage":
            inputs |= {
                name: SETTINGS[name.title()] for name in ("width", "height") if not isinstance(inputs[name], list)
            }
        if kind.startswith("Primitive") and title in SETTINGS:
            inputs["value"] = SETTINGS[title]
        if inputs.get("bit_depth") == "auto":  # of templates newer than the host
            inputs["bit_depth"] = 8
        if "Enhance" in title:  # by Gemma
            inputs["value"] = False
        if kind in FILES:
            inputs[FILES[kind][0]] = FILES[kind][1]
        if kind == "MoGeRender":  # its depth needs a model of its own: edges in its place
            frames = next(key for key, one in workflow.items() if one["class_type"] == "GetVideoComponents")
            node.update(class_type="Canny", inputs={"image": [frames, 0], "low_threshold": 0.2, "high_threshold": 0.5})
        if kind == real.PREFIX + "LoadState":
            inputs["file"] = state
    return workflow


def film_of(host, outputs: dict) -> Path:
    (film,) = [one for one in outputs_of(outputs, "images") if one["filename"].endswith(".mp4")]
    return host.path(film)


@pytest.mark.parametrize("name", NAMES)
def test_four_nodes_continue_picture_and_sound(host, tiny, extended, name):
    found, files = extended[name], tiny("2.5" if "2_5" in name else "2.3")
    samplers = ["StateToAVLatent"] * (1 + (name not in ONE_STAGE))
    assert not found["unknown"] and sorted(found["added"]) == ["AVLatentToState", "LoadState", *samplers]
    for node in found["api"].values():  # the host's own references go to its sampler as they are
        if node["class_type"] == "KSampler":
            given = {found["api"][node["inputs"][part][0]]["class_type"] for part in ("positive", "negative")}
            assert given == {"LTXVAddGuide"}
    outputs = host.run(cut_down(found["start"], files))
    (first,) = outputs_of(outputs, "states")
    assert first["segment_index"] == 0 and film_facts(film_of(host, outputs))[0] == FRAMES
    outputs = host.run(cut_down(found["api"], files, first["file"]))
    after = next(one for one in outputs_of(outputs, "states") if one.get("bytes"))
    assert after["segment_index"] == 1 and (after["width"], after["frames"]) == (128, OVERLAP)
    frames, samples, rate = film_facts(film_of(host, outputs))
    assert frames == FRAMES - OVERLAP and abs(samples - frames / 24 * rate) <= 2048
    # the template's sound is as long as its picture; what is carried from before the picture must not shorten it
    assert loudness_at_the_end(film_of(host, outputs)) > 1e-3


def loudness_at_the_end(film: Path, seconds: float = 0.1) -> float:
    import av

    with av.open(str(film)) as container:
        pieces = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    return float(np.abs(np.concatenate(pieces, axis=-1)[..., -round(seconds * rate) :]).mean())
