"""Tiny models in the host's model folders, and what the tests of the stages share."""

import hashlib

import pytest
import torch

from .conftest import REAL

KINDS = ("checkpoints", "diffusion_models", "text_encoders", "vae", "loras", "latent_upscale_models")


@pytest.fixture
def shelf(folders, tiny):
    """``shelf("2.3")`` → role → file name as the nodes take it; the files are in the host's folders for this test."""
    import folder_paths

    def put(version):
        names = {}
        for role, path in tiny(version).items():
            kind = path.parent.name
            place = folders / "models" / kind / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(path)
            names[role] = path.name
        return names

    if not REAL:
        yield put
        return
    for kind in KINDS:
        (folders / "models" / kind).mkdir(parents=True, exist_ok=True)
        folder_paths.add_model_folder_path(kind, str(folders / "models" / kind), is_default=True)
    yield put
    for kind in KINDS:
        folder_paths.folder_names_and_paths[kind][0].remove(str(folders / "models" / kind))
        folder_paths.filename_list_cache.pop(kind, None)


@pytest.fixture
def loaded(run, shelf):
    """``loaded("2.3")`` → the values that the loading nodes give, by input name."""

    def load(version="2.3", distilled=True):
        names = shelf(version)
        lora = names["distilled_lora"] if distilled else "none"
        if version == "2.5":
            files = {"transformer": names["transformer"], "video_vae": names["video_vae"], "audio_vae": names["audio_vae"]}
            model, video_vae, audio_vae = run("LoadSplitFiles", **files, distilled_lora=lora).args
        else:
            model, video_vae, audio_vae = run("LoadCheckpoint", checkpoint=names["transformer"], distilled_lora=lora).args
        text_encoder = run("LoadTextEncoder", text_encoder=names["text_encoder"], model=model).args[0]
        upsampler = run("LoadUpsampler", upsampler=names["spatial_upsampler"]).args[0]
        return {"model": model, "text_encoder": text_encoder, "video_vae": video_vae, "audio_vae": audio_vae, "upsampler": upsampler}

    return load


def digest(value) -> str:
    """Of everything in a value: tensors by their bytes, the rest by its text; to see whether anybody wrote into it."""
    found = hashlib.sha256()

    def take(one, depth=0):
        if isinstance(one, torch.Tensor):
            found.update(one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(one, torch.nn.Module):
            for name, tensor in one.state_dict().items():
                found.update(name.encode())
                take(tensor)
        elif hasattr(one, "model") and hasattr(one, "load_device"):
            take(one.model)
            found.update(repr(sorted(one.patches)).encode())
        elif isinstance(one, dict):
            for key in one:
                found.update(str(key).encode())
                take(one[key], depth + 1)
        elif isinstance(one, (list, tuple)):
            for item in one:
                take(item, depth + 1)
        elif hasattr(one, "__dataclass_fields__"):
            for name in one.__dataclass_fields__:
                take(getattr(one, name), depth + 1)
        else:
            found.update(repr(one).encode() if isinstance(one, (str, int, float, bool, type(None))) else b"")

    take(value)
    return found.hexdigest()
