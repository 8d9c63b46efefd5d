"""Files that hold another model, or another part of ours: named, with what to load instead."""

import pytest
import torch

from ltx2.checkpoint.layout import MissingComponent, find_component
from ltx2.checkpoint.models import load_transformer, load_vocoder
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.checkpoint.recognition.families import _FAMILIES, family_of_names
from ltx2.errors import CheckpointError, RequestError
from ltx2.stages.models import load_models
from tests.stages.conftest import FAST

from . import small
from .files import save
from .test_lora import pair


@pytest.mark.parametrize("what, ends", _FAMILIES)
@pytest.mark.parametrize("before", ["", "model.diffusion_model."])
def test_other_families_are_named_whatever_stands_before(tmp_path, what, ends, before):
    path = save(tmp_path / "x.safetensors", {f"{before}{end}": torch.ones(2, 2) for end in ends})
    with pytest.raises(MissingComponent, match=f"x.safetensors is {what} and holds no transformer, .* instead"):
        find_component(open_checkpoint(path), "transformer")


def test_no_release_is_taken_for_another_family(tiny):
    for version in ("2.3", "2.5"):
        for path in set(tiny(version).values()):
            assert family_of_names(open_checkpoint(path).tensors) is None, path


def test_each_file_in_each_others_place_is_told_at_once(tiny, tmp_path):
    files = tiny("2.3")
    roles = {"a LoRA": "distilled_lora", "the upsampler": "spatial_upsampler", "the text encoder": "text_encoder"}
    for what, role in roles.items():
        with pytest.raises(CheckpointError, match=f"is {what} and holds no transformer, .* instead"):
            load_models(files[role], config=FAST)
    for given, words in (
        ({"upsampler": files["transformer"]}, "holds no upsampler"),
        ({"upsampler": files["temporal_upsampler"]}, "adds frames, expected one that doubles"),
        ({"upsampler": files["spatial_upsampler_x1.5"]}, "enlarges 1.5 times, expected"),
        ({"text_encoder": files["distilled_lora"]}, "is a LoRA and holds no text encoder"),
        ({"text_encoder": files["transformer"]}, "holds no text encoder"),
    ):
        with pytest.raises((CheckpointError, RequestError), match=words):
            load_models(files["transformer"], config=FAST, **given)


def test_models_before_ltx_2_are_told_from_newer_ones(tmp_path):
    own = small.transformer()
    silent = {name: tensor for name, tensor in own.items() if "audio" not in name and "av_ca" not in name}
    for number, (tensors, version, words) in enumerate(
        ((silent, None, "as LTX-Video before LTX-2 is"), (own, "3.1", "3.1, expected 2.0 to 2.5: update"))
    ):
        path = save(tmp_path / f"{number}.safetensors", tensors, {} if version is None else {"model_version": version})
        with pytest.raises(CheckpointError, match=words):
            load_transformer(open_checkpoint(path))
    old = save(tmp_path / "old.safetensors", silent, {"model_version": "0.9.7"})
    with pytest.raises(CheckpointError, match="0.9.7, expected 2.0 to 2.5: choose an LTX-2 checkpoint"):
        load_transformer(open_checkpoint(old))


def test_of_two_releases_the_first_counts_alone(tiny):
    first, second = tiny("2.3")["vocoder"], tiny("2.0")["vocoder"]
    for one, other in ((first, second), (second, first)):
        alone, both = (load_vocoder(open_checkpoint(*paths)) for paths in ((one,), (one, other)))
        assert alone.config == both.config
        assert all(torch.equal(a, b) for a, b in zip(alone.state_dict().values(), both.state_dict().values()))


def test_a_component_in_shards_is_described_by_whichever_says_it(tmp_path):
    tensors = small.prefixed(small.transformer())
    names = sorted(tensors)
    parts = [{name: tensors[name] for name in names[i::2]} for i in range(2)]
    for said in range(2):
        paths = [
            save(tmp_path / f"{said}{i}.safetensors", part, {"model_version": "2.4.0"} if i == said else {})
            for i, part in enumerate(parts)
        ]
        found = find_component(open_checkpoint(*paths), "transformer")
        assert found.version == (2, 4, 0) and len(found.tensors) == len(tensors)


def test_a_lora_is_no_model(tmp_path):
    path = save(tmp_path / "l.safetensors", pair("patchify_proj", torch.ones(2, 8), torch.ones(8, 2)))
    with pytest.raises(CheckpointError, match="is a LoRA and holds no vocoder"):
        load_vocoder(open_checkpoint(path))
