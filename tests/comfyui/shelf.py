"""Tiny models in the host's model folders, and what the tests of the stages share."""

import contextlib
import hashlib
from collections import deque
from collections.abc import Mapping
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType

import numpy as np
import pytest
import torch

from .conftest import REAL

KINDS = ("checkpoints", "diffusion_models", "text_encoders", "vae", "loras", "latent_upscale_models")


@contextlib.contextmanager
def shelves(folders: Path, tiny):
    """``put("2.3")`` → role → file name as the nodes take it; the files are in the host's folders while the block
    runs."""
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
def shelf(folders, tiny):
    """``shelf("2.3")`` → role → file name, for this test."""
    with shelves(folders, tiny) as put:
        yield put


def load(run, names, version="2.3", distilled=True):
    """The values that the loading nodes give, by input name."""
    lora = names["distilled_lora"] if distilled else "none"
    if version == "2.5":
        files = {"transformer": names["transformer"], "video_vae": names["video_vae"], "audio_vae": names["audio_vae"]}
        model, video_vae, audio_vae = run("LoadSplitFiles", **files, distilled_lora=lora).args[:3]
    else:
        model, video_vae, audio_vae = run("LoadCheckpoint", checkpoint=names["transformer"], distilled_lora=lora).args[
            :3
        ]
    text_encoder = run("LoadTextEncoder", text_encoder=names["text_encoder"], model=model).args[0]
    upsampler = run("LoadUpsampler", upsampler=names["spatial_upsampler"]).args[0]
    return {
        "model": model,
        "text_encoder": text_encoder,
        "video_vae": video_vae,
        "audio_vae": audio_vae,
        "upsampler": upsampler,
    }


@pytest.fixture
def loaded(shelf, parts):
    """``loaded("2.3")`` → the values that the loading nodes give, by input name, with their files on the shelf.

    Nodes leave the values as they are, so all tests of a worker have the same.
    """

    def load(version="2.3", distilled=True):
        shelf(version)
        return dict(parts(version, distilled))

    return load


@pytest.fixture
def loaded_anew(run, shelf):
    """As ``loaded``, for a test that changes the networks."""
    return lambda version="2.3", distilled=True: load(run, shelf(version), version, distilled)


# what has nothing in it that a node could write into
PLAIN = (str, bytes, int, float, complex, type(None), PurePath, Fraction, Enum, np.generic, range, slice, type)
PLAIN += (torch.dtype, torch.device, FunctionType, BuiltinFunctionType, MethodType)
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
LAYER_PATCHES = ("weight_function", "bias_function")
OPAQUE = ("tokenizers", "sentencepiece")
# of a host's patcher, beside its network
PATCHES = (
    "patches",
    "object_patches",
    "hook_patches",
    "model_options",
    "attachments",
    "injections",
    "wrappers",
    "callbacks",
)


def digest(value) -> str:
    """Of everything in a value that anybody could write into: tensors and arrays by their bytes, networks by weights
    and hooks.

    Raises TypeError for a kind of value that it cannot look into.
    """
    found, seen = hashlib.sha256(), {}

    def tell(*words):
        found.update(repr(words).encode())

    def take(one):
        kind = type(one)
        if isinstance(one, PLAIN):
            tell(kind.__name__, getattr(one, "__qualname__", None) or repr(one))
            return
        if id(one) in seen:
            tell("again")
            return
        seen[id(one)] = one  # kept, so that no other value gets its id
        tell(kind.__qualname__)
        if isinstance(one, torch.Tensor):
            tell(one.dtype, tuple(one.shape))
            found.update(one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        elif isinstance(one, np.ndarray):
            tell(one.dtype, one.shape)
            found.update(np.ascontiguousarray(one).reshape(-1).view(np.uint8))
        elif isinstance(one, torch.nn.Module):
            for name, layer in one.named_modules():
                hooks = [hook.__qualname__ for kind in HOOKS for hook in getattr(layer, kind).values()]
                own = vars(layer)
                # patches that a host puts on while a layer runs; asked of the class too, since a module that lacks an
                # attribute looks for it long
                patches = sum(len(own.get(name) or getattr(type(layer), name, ())) for name in LAYER_PATCHES)
                tell(name, layer.training, hooks, patches)
                for key, item in own.items():
                    if isinstance(item, (torch.Tensor, np.ndarray)):
                        tell(key)
                        take(item)
            for name, tensor in (*one.named_parameters(), *one.named_buffers()):
                tell(name)
                take(tensor)
        elif hasattr(one, "model") and hasattr(one, "load_device"):
            take([one.model, *(getattr(one, name, None) for name in PATCHES)])
        elif isinstance(one, Mapping):
            for key, item in one.items():
                take(key)
                take(item)
        elif isinstance(one, (list, tuple, deque)):
            for item in one:
                take(item)
        elif isinstance(one, (set, frozenset)):
            tell(*sorted(map(repr, one)))
        elif hasattr(one, "__dict__"):
            take(vars(one))
        elif kind.__module__.partition(".")[0] not in OPAQUE:
            raise TypeError(f"a {kind.__module__}.{kind.__qualname__} cannot be looked into")

    take(value)
    return found.hexdigest()
