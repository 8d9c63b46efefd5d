"""What the tests on a real host share: a base folder with tiny models, a running server, and API workflows cut down to
size."""

import contextlib
import copy
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.comfy_client import Client

from . import hosting
from .workflow_nodes import DISTILLED, DUB, INPAINT, MOGE, SHEET, UNION, VOICE, WRITER

pytestmark = [pytest.mark.skipif(not hosting.available(), reason=hosting.NO_HOST)]
WORKFLOWS = hosting.ROOT / "example_workflows"
TINY_PACK = Path(__file__).parent / "tiny_native"
PREFIX = "LTX2Continuum"
# what the examples name → version and role of the tiny file that stands for it
STAND_INS = {
    "diffusion_models/ltx-2.5-22b-distilled-transformer-comfy-int8-convrot.safetensors": ("2.5", "transformer"),
    "vae/ltx-2.5-video-vae-bf16.safetensors": ("2.5", "video_vae"),
    "vae/ltx-2.5-audio-vae-bf16.safetensors": ("2.5", "audio_vae"),
    "text_encoders/gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors": ("2.5", "text_encoder"),
    "latent_upscale_models/ltx-2.5-latent-spatial-upscaler-x2-bf16-1.0.safetensors": ("2.5", "spatial_upsampler"),
    "checkpoints/ltx-2.3-22b-distilled-fp8.safetensors": ("2.3", "transformer"),
    "checkpoints/ltx-2.3-22b-dev-fp8.safetensors": ("2.3", "transformer"),
    "text_encoders/gemma_3_12B_it_fp4_mixed.safetensors": ("2.3", "text_encoder"),
    "latent_upscale_models/ltx-2.3-spatial-upscaler-x2-1.1.safetensors": ("2.3", "spatial_upsampler"),
    "latent_upscale_models/ltx-2.3-temporal-upscaler-x2-1.0.safetensors": ("2.3", "temporal_upsampler"),
    **{
        f"loras/{name}": ("2.3", "distilled_lora")
        for name in ("ltx-2.3-22b-distilled-lora-384.safetensors", DISTILLED, UNION, SHEET, INPAINT, VOICE, DUB)
    },
    f"geometry_estimation/{MOGE}": ("2.3", "distilled_lora"),  # to be listed alone
    f"text_encoders/{WRITER}": ("2.5", "text_encoder"),  # the same
}
# smallest that the models take, by input name
SMALL = {"width": 64, "height": 64, "fps": 24.0}
SMALL_FRAMES = 17
TAKE_FRAMES = 96  # of the film that a part is made anew of
# what the examples that go on from a state load
STATE_INPUT = "continuum_state.png"
OLDEST = "0.16.4"  # of the hosts that the pack says it runs on


def make_base(folder: Path, tiny, native: bool = False) -> Path:
    """A host's base folder with tiny models under the names of released ones; native: with the test's own pack too."""
    for name, (version, role) in STAND_INS.items():
        link = folder / "models" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tiny(version)[role])
    for name in ("input", "custom_nodes"):
        (folder / name).mkdir(exist_ok=True)
    if native:
        (folder / "custom_nodes" / TINY_PACK.name).symlink_to(TINY_PACK, target_is_directory=True)
    return folder


def put_inputs(folder: Path) -> None:
    """Pictures and sound that the examples name, in the host's input folder."""
    import numpy as np
    from PIL import Image

    from ltx2.media import VideoWriter
    from ltx2.media.sound import write_wav
    from ltx2.values import Waveform

    from . import samples

    for index, name in enumerate(("first.png", "second.png", "last.png", "example.png")):
        frame = samples.frames(1, 64, 96, start=9 * index)[0]
        Image.fromarray((frame.numpy() * 255).astype(np.uint8)).save(folder / "input" / name)
    with VideoWriter(folder / "input" / "film.mp4", fps=24) as writer:
        writer.write_frames(samples.frames(25, 64, 96))
    with VideoWriter(folder / "input" / "speech.mp4", fps=24, sample_rate=24000) as writer:
        writer.write_frames(samples.frames(25, 64, 96))
        writer.write_sound(Waveform(samples.sound(25 / 24)["waveform"][0], 24000))
    with VideoWriter(folder / "input" / "take.mp4", fps=24, sample_rate=24000) as writer:
        writer.write_frames(samples.frames(TAKE_FRAMES, 64, 96))
        writer.write_sound(Waveform(samples.sound(TAKE_FRAMES / 24)["waveform"][0], 24000))
    sound = samples.sound(2.0)
    for name in ("song.wav", "voice.wav", "track.wav"):
        write_wav(folder / "input" / name, Waveform(sound["waveform"][0], sound["sample_rate"]))


def small(workflow: dict, frames: int = SMALL_FRAMES) -> dict:
    """An API workflow at the smallest size and length that shows everything."""
    cut = copy.deepcopy(workflow)
    for node in cut.values():
        inputs = node["inputs"]
        for name, value in SMALL.items():
            if inputs.get(name) and not isinstance(inputs[name], list):
                inputs[name] = value
        if not isinstance(inputs.get("seconds"), (list, type(None))):
            inputs["seconds"] = frames / 24
        if node["class_type"] == f"{PREFIX}PrepareLatent":
            inputs["length"] = frames / 24 if inputs["unit"] == "seconds" else frames
        for name in ("length", "frames_number"):  # of the host's own empty latents
            if isinstance(inputs.get(name), int) and not node["class_type"].startswith(PREFIX):
                inputs[name] = frames
        if node["class_type"] == f"{PREFIX}AddImage" and inputs["frame"]:
            inputs["frame"] = frames - 1 if inputs["frame"] > 60 else 8
        if isinstance(inputs.get("script"), str):
            inputs["script"] = re.sub(
                r"size: *\S+", "size: 64x64", re.sub(r"seconds: *[\d.]+", f"frames: {frames}", inputs["script"])
            )
    return cut


def tiny_text(workflow: dict) -> dict:
    """An API workflow with native text encoding, which the tiny model's conditioning stands in for."""
    given = copy.deepcopy(workflow)
    (model,) = [key for key, node in given.items() if node["class_type"] == "CheckpointLoaderSimple"]
    (gemma,) = [key for key, node in given.items() if node["class_type"] == "LTXAVTextEncoderLoader"]
    del given[gemma]
    for node in given.values():
        if node["class_type"] == "CLIPTextEncode":
            node.update(
                class_type="TinyConditioning", inputs={"model": [model, 0], "seed": 0, "text": node["inputs"]["text"]}
            )
    return given


def typed_text(workflow: dict) -> dict:
    """An API workflow whose text a language model writes, with what that was asked in its place."""
    given = copy.deepcopy(workflow)
    (writer,) = [key for key, node in given.items() if node["class_type"] == "TextGenerateLTX2Prompt"]
    asked = given.pop(writer)["inputs"]
    del given[asked["clip"][0]]
    for node in given.values():
        inputs = node["inputs"].items()
        node["inputs"] = {name: asked["prompt"] if value == [writer, 0] else value for name, value in inputs}
    return given


@dataclass
class Host:
    """A running server with a client, and what is on its disk."""

    server: hosting.Server

    @property
    def base(self) -> Path:
        return self.server.base

    @property
    def log(self) -> str:
        return self.server.log.read_text("utf-8", "replace")

    def run(self, workflow: dict, **options) -> dict:
        return Client(self.server.url, 300).run(workflow, **options)

    def refused(self, workflow: dict) -> dict:
        """The answer to a prompt that must be refused."""
        body = json.dumps({"prompt": workflow, "client_id": "refused"}).encode()
        request = urllib.request.Request(self.server.url + "/prompt", body, {"Content-Type": "application/json"})
        try:
            answer = json.load(urllib.request.urlopen(request, timeout=60))
        except urllib.error.HTTPError as error:
            return json.loads(error.read())
        raise AssertionError(f"the prompt was taken: {answer}")

    def path(self, result: dict) -> Path:
        return self.base / result["type"] / result["subfolder"] / result["filename"]


@contextlib.contextmanager
def running(base: Path, version: str | None = None, **options):
    checkout = hosting.main_checkout() if version is None else hosting.checkouts()[version]
    one = Host(hosting.start(checkout, base, **options))
    try:
        yield one
    finally:
        one.server.stop()  # which a test may have started again


def api_workflow(name: str) -> dict:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8"))


def nodes_of(workflow: dict, short: str) -> list[str]:
    """Ids of our nodes of one kind."""
    return [key for key, node in workflow.items() if node["class_type"] == PREFIX + short]


def all_files(base: Path) -> set[Path]:
    """All regular files of a base folder but the models, the host's own user folder and its log."""
    own = {base / "server.log"}
    skipped = ("models", "user", "custom_nodes")
    return {p for p in base.rglob("*") if p.is_file() and p.relative_to(base).parts[0] not in skipped and p not in own}
