"""Metadata that nothing can be built from: one sentence that names the file, at once and without memory."""

import json
import random

import pytest
from safetensors import safe_open

from ltx2.checkpoint import models
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError

from .files import save

LOADERS = {
    "spatial_upsampler": models.load_upsampler,
    "audio_vae": models.load_audio_decoder,
    "video_vae": models.load_video_encoder,
}
VALUES = (
    None,
    0,
    -5,
    7,
    10**9,
    10**30,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "2",
    True,
    [],
    ["x"],
    [[1]],
    {"a": 1},
    [10**9] * 3,
)


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    value = json.loads(json.dumps(value))
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return value


@pytest.mark.parametrize("role", LOADERS)
def test_any_value_anywhere(tiny, tmp_path, role):
    source = tiny("2.5")[role]
    with safe_open(source, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("vocoder.")}
    config.pop("vocoder", None)
    chance = random.Random(0)
    everywhere = [path for path in places(config) if path]
    refused = 0
    for number in range(25):
        changed = replaced(config, chance.choice(everywhere), chance.choice(VALUES))
        path = save(tmp_path / f"{number}.safetensors", tensors, {"config": json.dumps(changed)})
        try:
            LOADERS[role](open_checkpoint(path))
        except CheckpointError as error:
            refused += 1
            assert path.name in str(error) and len(str(error)) < 600 and "\n" not in str(error)
        path.unlink()
    assert refused


@pytest.mark.parametrize("value", [10**9, "4", [4], 2.5, -1])
def test_more_blocks_than_tensors_are_never_begun(tiny, tmp_path, value):
    source = tiny("2.3")["spatial_upsampler"]
    with safe_open(source, "pt") as file:
        config, tensors = json.loads(file.metadata()["config"]), {name: file.get_tensor(name) for name in file.keys()}
    path = save(tmp_path / "a.safetensors", tensors, {"config": json.dumps({**config, "num_blocks_per_stage": value})})
    with pytest.raises(CheckpointError, match="a.safetensors has a configuration with blocks"):
        models.load_upsampler(open_checkpoint(path))
