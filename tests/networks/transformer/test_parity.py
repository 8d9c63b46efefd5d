"""The transformer and the text path beside ltx-core 1.0.0 and diffusers, on other seeds than the golden files'."""

import functools
import json

import pytest
import torch

from ltx2.networks.transformer.model import StreamInput
from tests.golden.transformer import perturbations

from . import references
from .samples import CASES, VERSIONS, inputs, small_config, small_text_path, small_transformer, text_states

LIMIT = 5e-6
SEEDS = {"2.0": 11, "2.0-interleaved": 12, "2.3": 13, "2.5": 14}


@functools.cache
def our_model(version, seed, mode):
    return small_transformer(small_config(version), seed, av_timestep_mode=mode)


@functools.cache
def their_model(reference, version, seed):
    """A published network with the weights of ours; no forward changes it."""
    weights = our_model(version, seed, "hybrid").state_dict()
    return getattr(references, f"{reference}_model")(small_config(version), weights)


def ours(version, given, seed, mode):
    with torch.no_grad():
        return our_model(version, seed, mode)(
            StreamInput(**given["video"]),
            StreamInput(**given["audio"]),
            perturbations(json.dumps(given["perturbations"])),
        )


def largest_difference(outputs, expected):
    return max(float((a - b).abs().max()) for a, b in zip(outputs, expected))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", VERSIONS)
def test_transformer_equals_ltx_core(version, case):
    pytest.importorskip("ltx_core")
    given, seed = inputs(small_config(version), seed=SEEDS[version] + 100, case=case), SEEDS[version]
    # its own rule is compared where it makes the largest difference
    for mode in ("hybrid", "cross") if case == "first_frame" else ("hybrid",):
        expected = references.ltx_core(their_model("ltx_core", version, seed), given, mode)
        assert largest_difference(ours(version, given, seed, mode), expected) <= LIMIT


# diffusers weakens instead of taking the logarithm of a fractional mask, and has one block list for all samples
@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in ("fractional_mask", "mixed")])
@pytest.mark.parametrize("version", VERSIONS)
def test_transformer_equals_diffusers(version, case):
    pytest.importorskip("diffusers")
    given, seed = inputs(small_config(version), seed=SEEDS[version] + 200, case=case), SEEDS[version] + 50
    for mode in ("cross", "own"):
        expected = references.diffusers(their_model("diffusers", version, seed), given, mode)
        assert largest_difference(ours(version, given, seed, mode), expected) <= LIMIT


@pytest.mark.parametrize("reference", ["ltx_core", "diffusers"])
@pytest.mark.parametrize("version", VERSIONS)
def test_text_path_equals(version, reference):
    pytest.importorskip(reference)
    config = small_config(version)
    modules = small_text_path(config, SEEDS[version])
    states, mask = text_states(config, seed=SEEDS[version])
    weights = {
        f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()
    }
    expected = getattr(references, f"{reference}_contexts")(config, weights, states, mask)
    with torch.no_grad():
        features = modules["text_embedding_projection"](states, mask)
        contexts = [
            modules[f"{stream}_embeddings_connector"](own, mask) for stream, own in zip(("video", "audio"), features)
        ]
    assert largest_difference(contexts, expected) <= LIMIT
