"""The templates as somebody runs them on the demonstration model: its name in the loaders, its size and length, its
words, and what it has not, a second stage, bypassed."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from ltx2.cli import main
from ltx2.continuation.attachments import load_attachment, save_attachment
from ltx2.film.saved_film import SavedFilm, with_film
from ltx2.media import VideoWriter, video_info, write_wav
from ltx2.mini import CHECKPOINT, NAME
from ltx2.values import Waveform
from training import world
from training.world import Subject

from . import real, workflow_texts

WIDTH, HEIGHT, FRAMES, FPS = 128, 96, 49, 24
BOX = Subject("purple", "box", "sea", "up")
BALL = Subject("green", "ball", "night", "round")
STAR = Subject("yellow", "star", "sunset", "side")
PRESET = "ltx2_mini"


@dataclass(frozen=True)
class Words:
    """What a template's three texts become; before: the prompt of the film that it goes on from."""

    first: str = STAR.prompt
    second: str = "It jumps up and down."
    third: str = "The star, now blue, circles around."
    before: str = ""
    inputs: Callable[[Path], None] = field(default=lambda folder: None)


def _drawn(folder: Path, **cells: tuple[Subject, tuple[int, int]]) -> None:
    """Pictures of the world under the names that templates load."""
    for name, (subject, cell) in cells.items():
        frame = world.render(subject, world.path("rest", cell, "", 0))[0]
        Image.fromarray((frame * 255).round().astype(np.uint8)).save(folder / f"{name}.png")


def _keyframes(folder: Path) -> None:
    """Three pictures of a way up and down."""
    subject = STAR.but(motion="up")
    cells = world.path("up", (1, 2), "", 6).cells
    _drawn(folder, first=(subject, cells[0]), second=(subject, cells[3]), last=(subject, cells[-1]))


def _own_sound(folder: Path) -> None:
    way = world.path(BALL.motion, world.START[BALL.motion], "", 6)
    sound = torch.from_numpy(world.sound(BALL.colour, way.hits, FRAMES)).float()
    write_wav(folder / "song.wav", Waveform(sound, 48000))


def _track(folder: Path) -> None:
    """The sound of the ball on a way of three segments."""
    way = world.path(BALL.motion, world.START[BALL.motion], "", 16)
    sound = torch.from_numpy(world.sound(BALL.colour, way.hits, 129)).float()
    write_wav(folder / "track.wav", Waveform(sound, 48000))


def _silent_film(folder: Path) -> None:
    """The ball of the world on its way, without a sound."""
    way = world.path(BALL.motion, world.START[BALL.motion], "", 6)
    with VideoWriter(folder / "film.mp4", fps=FPS) as writer:
        writer.write_frames((world.render(BALL, way) * 255).round().astype(np.uint8))


def _film(folder: Path) -> None:
    """The ball of the world on its way, with its sound."""
    way = world.path(BALL.motion, world.START[BALL.motion], "", 6)
    sound = torch.from_numpy(world.sound(BALL.colour, way.hits, FRAMES)).float()
    with VideoWriter(folder / "take.mp4", fps=FPS, sample_rate=48000) as writer:
        writer.write_frames((world.render(BALL, way) * 255).round().astype(np.uint8))
        writer.write_sound(Waveform(sound, 48000))


WORDS = {
    "image_to_video": Words("It jumps up and down.", inputs=lambda folder: _drawn(folder, example=(BOX, (1, 3)))),
    "keyframes": Words(STAR.but(motion="up").prompt, inputs=_keyframes),
    "continue_from_state": Words(second="It rolls from side to side.", before=BALL.prompt),
    "yesterdays_film": Words(second="It rolls from side to side.", before=BALL.prompt),
    "batch_of_takes": Words(second="It jumps up and down.", before=BALL.prompt),
    "own_audio": Words(third=BALL.prompt, inputs=_own_sound),
    "one_track_film": Words(BALL.prompt, "It circles around.", "It circles around.", inputs=_track),
    "negative_prompt": Words(STAR.prompt),
    "extend_a_video": Words(third="It circles around.", inputs=_silent_film),
    "retake_a_video": Words(third=BALL.but(colour="red").prompt, inputs=_film),
    "sound_for_a_film": Words(third=BALL.prompt, inputs=_silent_film),
    "native_continuation": Words(second="The box, now red, circles around.", before=BOX.prompt),
}
# node → the input that goes through where the node is bypassed, and the output that it stands for
BYPASSED = {
    "LTX2ContinuumUpsample": "latent",
    "LTX2ContinuumRefine": "latent",
    "LTX2ContinuumDoubleRate": "latent",
    "LTX2ContinuumApplyLora": "model",
    "LTXVLatentUpsampler": "samples",
}
UPSCALERS = ("LTX2ContinuumLoadUpsampler", "LatentUpscaleModelLoader")
# what only a LoRA knows how to take, of which the demonstration model has none
REFERENCES = ("LTX2ContinuumReferenceVideo", "LTX2ContinuumReferenceVoice")


def put_inputs(base: Path) -> None:
    """Pictures and sound of the world under the names that templates load."""
    for words in WORDS.values():
        words.inputs(base / "input")


def prepare(name: str, base: Path) -> Path | None:
    """Files that a template needs, in a host's folder. Returns the film that it goes on from."""
    file = base / "models/checkpoints" / CHECKPOINT.name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _for_the_host(file)
    words = WORDS.get(name, Words())
    put_inputs(base)
    if not words.before:
        return None
    film, state = base / f"before_{name}.mp4", base / "input" / real.STATE_INPUT
    state.unlink(missing_ok=True)
    given = ["--checkpoint", NAME, "--prompt", words.before, "--out", film, "--save-state", state]
    assert main(["generate", *map(str, given)]) == 0
    if name != "yesterdays_film":
        return film
    # the film is not beside what is made but in it
    kept = base / "output/continuum/yesterday.mp4"
    kept.parent.mkdir(parents=True, exist_ok=True)
    film.replace(kept)
    known = SavedFilm("continuum/yesterday.mp4 [output]", video_info(kept).frames)
    save_attachment(with_film(load_attachment(state).state, known), state)
    return None


def _for_the_host(path: Path) -> None:
    """The demonstration model as the host's own nodes read it: they ask for three convolutions in each block of a
    vocoder, where it has one; two more of zeros add nothing."""
    with safe_open(CHECKPOINT, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = json.loads(metadata["config"])
    config["vocoder"]["resblock_dilation_sizes"] = [[1, 3, 5]]
    for name in [name for name in tensors if name.startswith("vocoder.resblocks.")]:
        for more in (1, 2):
            tensors[re.sub(r"(convs\d)\.0\.", rf"\1.{more}.", name)] = torch.zeros_like(tensors[name])
    save_file(tensors, path, {**metadata, "config": json.dumps(config)})


def with_mini(name: str, form: dict) -> dict:
    """The API form of a template for the demonstration model."""
    form = copy.deepcopy(form)
    for key in _second_stage(form):
        _replace(form, key, _first_stage(form))
    for key in [key for key, node in form.items() if node["class_type"] in BYPASSED]:
        _replace(form, key, form[key]["inputs"][BYPASSED[form[key]["class_type"]]][0])
    gone = {key for key, node in form.items() if node["class_type"] in (*UPSCALERS, *REFERENCES)}
    form = {key: node for key, node in form.items() if key not in gone}
    words = WORDS.get(name, Words())
    texts = dict(zip((workflow_texts.HARBOUR, workflow_texts.ROOFS, workflow_texts.SQUARE),
                     (words.first, words.second, words.third)))  # fmt: skip
    for node in form.values():
        node["inputs"] = {
            key: value for key, value in node["inputs"].items() if not (isinstance(value, list) and value[0] in gone)
        }
        _settle(node["class_type"], node["inputs"], texts)
    return _with_words(_reached(form))


def _settle(kind: str, inputs: dict, texts: dict[str, str]) -> None:
    """A node's own settings."""
    for name, value in inputs.items():
        if isinstance(value, str):
            for old, new in texts.items():
                value = value.replace(old, new)
            inputs[name] = value
    plain = {name for name, value in inputs.items() if not isinstance(value, list)}
    ours = kind.startswith(real.PREFIX)
    given = {"width": WIDTH, "height": HEIGHT, "seconds": FRAMES / FPS, "preset": PRESET, "checkpoint": NAME}
    if "checkpoint" in plain and "upsampler" in plain:
        inputs["upsampler"] = "none"
    given |= {"text_encoder": NAME, "ckpt_name": CHECKPOINT.name, "frames_number": FRAMES}
    given["snap"] = "32 px (one stage)"
    given["length"] = FRAMES / FPS if ours and inputs.get("unit", "seconds") == "seconds" else FRAMES
    inputs |= {name: value for name, value in given.items() if name in plain and inputs[name] not in (0, "", "auto")}
    if kind == f"{real.PREFIX}GenerateSound":
        inputs["preset"] = "ltx2_sound_fast"
    if kind == f"{real.PREFIX}Retake":
        inputs |= {"start": 0.7, "end": 1.4}
    if kind == f"{real.PREFIX}AddImage" and inputs["frame"]:
        inputs["frame"] = FRAMES - 1 if inputs["frame"] > 60 else (FRAMES - 1) // 2
    if isinstance(inputs.get("script"), str):
        inputs["script"] = re.sub(r"(?m)^(size|preset):.*\n", "", inputs["script"])
        inputs["script"] = re.sub(r"seconds: *[\d.]+", f"frames: {FRAMES}", inputs["script"])


def _samplers(form: dict) -> list[str]:
    return [key for key, node in form.items() if node["class_type"] == "SamplerCustomAdvanced"]


def _second_stage(form: dict) -> list[str]:
    """The host's own second sampler."""
    return _samplers(form)[1:]


def _first_stage(form: dict) -> str:
    return _samplers(form)[0]


def _replace(form: dict, key: str, instead: str) -> None:
    """Whoever took something of a node takes it of another."""
    for node in form.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == key:
                node["inputs"][name] = [instead, value[1]]
    del form[key]


def _reached(form: dict) -> dict:
    """Without the nodes whose result nobody takes, but for those at the end."""
    ends = {"SaveVideo", "LTX2ContinuumSaveState", "LTX2ContinuumDecodeToFile", "LTX2ContinuumStory"}
    wanted = [key for key, node in form.items() if node["class_type"] in ends]
    for key in wanted:
        links = [value[0] for value in form[key]["inputs"].values() if isinstance(value, list)]
        wanted += [one for one in links if one not in wanted]
    return {key: node for key, node in form.items() if key in wanted}


def _with_words(form: dict) -> dict:
    """Native text encoding by the demonstration model's Gemma, of whose size the host knows none, and its positions."""
    for key in [key for key, node in form.items() if node["class_type"] == "LTXAVTextEncoderLoader"]:
        del form[key]
    for node in form.values():
        if node["class_type"] == "CLIPTextEncode":
            node.update(class_type="MiniConditioning", inputs={"text": node["inputs"]["text"]})
    for key in [key for key, node in form.items() if node["class_type"] == "CheckpointLoaderSimple"]:
        positions = {"class_type": "MiniPositions", "inputs": {"model": [key, 0]}}
        for node in form.values():
            for name, value in node["inputs"].items():
                if value == [key, 0]:
                    node["inputs"][name] = [f"{key}-positions", 0]
        form[f"{key}-positions"] = positions
    return form
