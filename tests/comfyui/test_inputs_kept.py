"""Every node, twice with the same inputs: nothing is written into what it was given, and the same comes out.

A host keeps what nodes give for later runs, so a node that writes into its inputs spoils runs that have not begun.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltx2.media import VideoWriter
from ltx2.values import Waveform

from .made import CLIP, GUIDANCE, KEPT
from .shelf import digest, shelf  # noqa: F401

GENERATE = {
    "prompt": "A lake.", "negative_prompt": "short", "seconds": 17 / 24, "width": 64, "height": 64, "fps": 24.0,
    "preset": "ltx2_fast",
    "seed": 5, **KEPT,
}  # fmt: skip
SCRIPT = """size: 64x64
preset: ltx2_fast
override: {denoise.num_inference_steps: 1}
defaults: {frames: 17}
segments:
  - prompt: one
    image: picture.png
  - two
"""
HOLD = {"hold_colour": 0.0, "hold_contrast": 0.0, "hold_loudness": 0.0}


def denoising(m, **others):
    return {"model": m.parts["model"], "latent": m.clip, "seed": 3, "preset": m.preset, **m.texts, **m.vaes, **others}


def refining(m, **others):
    return {"model": m.parts["model"], "latent": m.larger, "video_vae": m.parts["video_vae"], **m.texts, **others}


def decoding(m, **others):
    return {"latent": m.finished, "video_vae": m.parts["video_vae"], **others}


def sounding(m, **others):
    models = {name: m.parts[name] for name in ("model", "text_encoder", "audio_vae")}
    asked = {"prompt": "Rain.", "negative_prompt": "sound", "seconds": 0.5, "preset": "ltx2_sound_fast", "seed": 5}
    return {**models, **asked, **others}


def filming(m, video, **others):
    asked = {"prompt": "Rain.", "negative_prompt": "none", "preset": "ltx2_3_distilled", "seed": 5}
    return {**m.parts, **asked, "video": video, **others}


def a_film(sound=False):
    """A host's VIDEO of its own file, which is none of the folders that are looked at."""
    from comfy_api.latest import InputImpl

    path = Path(tempfile.mkdtemp()) / "film.mp4"
    with VideoWriter(path, fps=8 if sound else 24, sample_rate=8000 if sound else None) as writer:
        writer.write_frames(np.zeros((20, 64, 64, 3), np.uint8))
        if sound:
            writer.write_sound(Waveform(torch.sin(torch.arange(20_000) / 9).repeat(2, 1), 8000))
    return InputImpl.VideoFromFile(str(path))


def to_latent(m, **others):
    given = {
        "state": m.state,
        "vae": m.vae,
        "model": m.native,
        "seconds": 25 / 24,
        "divide": 1,
        "strength": 0.9,
        "audio_overlap": -1,
    }
    return {**given, **others}


# every node (``test_texts`` says which is missing), and where there is more than one way through it which → its inputs
CASES = {
    "LoadCheckpoint": lambda m: {"checkpoint": m.names["transformer"], "distilled_lora": m.names["distilled_lora"]},
    "LoadSplitFiles": lambda m: {role: m.names[role] for role in ("transformer", "video_vae", "audio_vae")},
    "LoadTextEncoder": lambda m: {"text_encoder": m.names["text_encoder"], "model": m.parts["model"]},
    "LoadUpsampler": lambda m: {"upsampler": m.names["spatial_upsampler"]},
    "LoadUpsampler, temporal": lambda m: {"upsampler": m.names["temporal_upsampler"]},
    "Models": lambda m: m.parts,
    "ApplyLora": lambda m: {"model": m.parts["model"], "lora": m.names["distilled_lora"], "strength": 0.5},
    "EncodePrompt": lambda m: {"text_encoder": m.parts["text_encoder"], "prompt": "A lake.",
    "negative_prompt": "short"},
    "NegativePreset": lambda m: {"preset": "short"},
    "SizeHelper": lambda m: {"aspect": "16:9", "megapixels": 0.4, "multiple": "64"},
    "PrepareLatent": lambda m: {"conditions": m.carried, **CLIP},
    "PrepareLatent, own sound": lambda m: {"conditions": m.own, **CLIP},
    "AddImage": lambda m: {"image": m.frames, "frame": 0, "strength": 1.0, "conditions": m.pictures,
    "attention": 0.7},
    "AddClip": lambda m: {"frames": m.frames, "frame": 0, "strength": 1.0, "attention": 0.0, "conditions": m.pictures},
    "ReferenceVideo": lambda m: {
        "frames": m.frames, "strength": 1.0, "attention": 0.5, "stages": "first stage", "mask": m.frames[..., 0],
        "conditions": m.pictures,
    },
    "ReferenceVoice": lambda m: {"voice": m.sound, "identity": 1.5, "conditions": m.pictures},
    "KeyframeSlots": lambda m: {"number": 2, "frames": "", "conditions": m.pictures},
    "UseAudio": lambda m: {"audio": m.sound, "conditions": m.pictures},
    "HoldLook": lambda m: {
        "colour": 0.5, "contrast": 0.5, "loudness": 0.5, "latent": 0.4, "anchor": 0.3, "strength": 0.95, "settles": 0.9,
    },
    "ContinueFrom": lambda m: {"state": m.state, "conditions": m.pictures, "video_overlap": 1},
    "Preset": lambda m: {
        "preset": "ltx2_hq", "steps": 1, "refine_steps": 2, "sampler": "euler", "two_stages": "on",
        "overrides": "denoise.stg_scale=0.5", "eta": 0.5, "image_strength": 0.7,
    },
    "Guidance": lambda m: {"stg_blocks": "0", **GUIDANCE},
    "Denoise": denoising,
    "Denoise, own sound": lambda m: denoising(m, latent=m.own_clip),
    "Denoise, guided": lambda m: denoising(m, guidance=m.guidance, sigmas=m.sigmas, noise=m.noise),
    "Upsample": lambda m: {"latent": m.half, "upsampler": m.parts["upsampler"], "video_vae": m.parts["video_vae"]},
    "Refine": refining,
    "Refine, guided": lambda m: refining(m, guidance=m.guidance, sigmas=m.sigmas, preset=m.preset, seed=7),
    "DoubleRate": lambda m: {
        "latent": m.finished, "model": m.parts["model"], "video_vae": m.parts["video_vae"], "rounds": 1,
        "upsampler": m.temporal, **m.texts,
    },
    "DecodeVideo": decoding,
    "DecodeVideo, in pieces": lambda m: decoding(m, memory="streaming"),
    "DecodeVideo, in tiles": lambda m: decoding(m, memory="tiled"),
    "DecodeAudio": lambda m: {"latent": m.finished, "audio_vae": m.parts["audio_vae"]},
    "DecodeAudio, own sound": lambda m: {"latent": m.own_finished, "audio_vae": m.parts["audio_vae"]},
    "DecodeToFile": lambda m: decoding(m, audio_vae=m.parts["audio_vae"], filename_prefix="film/part"),
    "MakeState": lambda m: {"latent": m.finished, "images": m.images, "audio": m.audio, **KEPT},
    "SaveState": lambda m: {"state": m.state, "filename_prefix": "film/state", "form": "PNG card"},
    "SaveState, one file": lambda m: {"state": m.state, "filename_prefix": "film/state", "form": "safetensors"},
    "SaveState, folder": lambda m: {"state": m.state, "filename_prefix": "film/state", "form": "folder"},
    "LoadState": lambda m: {"file": "state.png"},
    "InspectState": lambda m: {"state": m.state},
    "JoinSegments": lambda m: {"segment_1": m.segment, "segment_2": m.next_segment, **HOLD},
    "JoinSegments, held": lambda m: {"segment_1": m.segment, "segment_2": m.next_segment, **dict.fromkeys(HOLD, 0.5)},
    "Generate": lambda m: {**m.parts, "settings": m.preset, "image": m.images, "state": m.state, **GENERATE},
    "Generate, pictures": lambda m: {
        **m.parts, "settings": m.preset, "first_image": m.frames, "conditions": m.pictures, **GENERATE,
        "seconds": 25 / 24,
    },
    "Story": lambda m: {**m.parts, "last_image": m.frames, "script": SCRIPT, "folder": "film/story"},
    "ExtendVideo": lambda m: filming(m, a_film(), seconds=0.7, context=9),
    "Retake": lambda m: filming(m, a_film(), start=0.2, end=0.5, what="picture", mask=torch.ones(1, 64, 64)),
    "Retake, frames": lambda m: filming(m, None, start=0.2, end=0.5, what="picture and sound", images=m.images,
    audio=m.audio),
    "Dub": lambda m: filming(m, a_film(sound=True)),
    "GenerateSound": lambda m: {**sounding(m), "state": m.state},
    "StateToAVLatent": lambda m: to_latent(m, latent=m.latent),
    "StateToAVLatent, masked": lambda m: to_latent(m, latent=m.masked),
    "StateToAVLatent, empty": to_latent,
    "AVLatentToState": lambda m: {"latent": m.latent, "images": m.images, "audio": m.audio, "state": m.state,
    "fps": 24.0, **KEPT,
                                  "filename_prefix": "film/state"},
    "ImagesToState": lambda m: {"images": m.images, "audio": m.audio, "audio_vae": m.audio_vae, "fps": 24.0, **KEPT},
}  # fmt: skip
# the pack's own kinds of value may hold what their node was given, since its own nodes alone take them; what goes to
# the host's nodes and those of others is a tensor of its own, but for frames, a copy of which would be as large as the
# clip
OWN_KINDS = "LTX2_"
VIEWS = {("AVLatentToState", "new_images")}


def files_of(folder):
    """All files but a story's journal, which says when and by which process each thing was made."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "journal.jsonl")
    return {path.relative_to(folder): path.read_bytes() for path in found}


def overwrite(value) -> None:
    """Zeros into all tensors of a value of the host."""
    if isinstance(value, torch.Tensor):
        value.zero_()
    elif isinstance(value, dict):
        for one in value.values():
            overwrite(one)
    elif getattr(value, "is_nested", False):
        for one in value.unbind():
            overwrite(one)


@pytest.mark.slow
@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("case", CASES)
def test_inputs_are_kept_and_runs_are_alike(run, nodes, made, shelf, folders, case):  # noqa: F811
    import comfy.model_management as mm

    shelf("2.3")
    for name in ("input", "output", "temp"):
        (folders / name).mkdir(exist_ok=True)
    (folders / "input" / "state.png").write_bytes(made.card)
    Image.fromarray((made.frames[0].numpy() * 255).astype(np.uint8)).save(folders / "input" / "picture.png")
    name, inputs = case.partition(",")[0], CASES[case](made)

    def given():
        mm.unload_all_models()  # what a host patches while it is loaded is the host's
        return digest(inputs), files_of(folders / "input")

    before, results, seen = given(), [], []
    for seed in (1, 2):
        torch.manual_seed(seed)  # all chance comes from the inputs
        results.append(run(name, **inputs))
        assert given() == before
        written = [files_of(folders / own) for own in ("output", "temp")]
        seen.append((digest(results[-1].args), results[-1].ui, written))
        for own in ("output", "temp"):
            shutil.rmtree(folders / own)
            (folders / own).mkdir()
    assert seen[0] == seen[1]
    for output, value in zip(nodes[name].GET_SCHEMA().outputs, results[1].args):
        if not output.io_type.startswith(OWN_KINDS) and (name, output.id) not in VIEWS:
            overwrite(value)
    assert given() == before, "an output is a part of an input"
    assert digest(results[0].args) == seen[0][0], "outputs of two runs are one"


def test_a_track_of_ones_own_is_heard_as_it_is(run, made):
    audio = run("DecodeAudio", latent=made.own_finished, audio_vae=made.parts["audio_vae"]).args[0]
    assert torch.equal(audio["waveform"], made.sound["waveform"]) and audio["sample_rate"] == made.sound["sample_rate"]
