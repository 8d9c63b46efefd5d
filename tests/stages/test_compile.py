"""Compiled blocks in a pipeline: which settings can have them, and that every stage runs them."""

from dataclasses import replace

import pytest
import torch

from ltx2.cli.arguments.speed import check_compile_argument
from ltx2.errors import RequestError
from ltx2.stages import models as stage_models
from ltx2.stages.memory import copy_to
from ltx2.stages.models import PipelineConfig
from ltx2.stages.pipeline import generate
from ltx2.stages.request import Request


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"device": "cpu"}, "for a CUDA card, the device is cpu"),
        ({"offload": "layers"}, "these are brought layer by layer"),
        ({"quantized": "on_use"}, "these are unpacked when they are used"),
        ({}, "need the package triton"),
    ],
)
def test_what_cannot_be_compiled_is_refused_at_once(settings, said, monkeypatch):
    monkeypatch.setattr(stage_models, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=said):
        PipelineConfig(**{"device": "cuda", "compile": True, **settings})
    PipelineConfig(**{"device": "cuda", **settings})


def test_ranks_and_compiled_blocks_are_refused():
    given = type("Arguments", (), {"compile": True, "gpus": 2})()
    with pytest.raises(RequestError, match="--compile is for one GPU, --gpus is 2"):
        check_compile_argument(given)


def test_all_stages_run_compiled_blocks_and_make_the_same_film(models, monkeypatch):
    """Also the stage that runs on a copy with a LoRA, whose weights are others: blocks are told to the graph."""
    ran = []

    def compiled(function, **options):
        def run(block, *given):
            ran.append(block)
            return function(block, *given)

        return run

    own = models("2.3")
    monkeypatch.setattr(torch, "compile", compiled)
    transformer = copy_to(own.transformer, "cpu")
    transformer.compile_blocks()
    request = Request(prompt="A lake.", preset="ltx2_hq", width=64, height=64, frames=9, seed=2)
    request = replace(request, overrides={"denoise": {"num_inference_steps": 2}})
    found, expected = generate(replace(own, transformer=transformer), request), generate(own, request)
    torch.testing.assert_close(found.latent.video, expected.latent.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.latent.audio, expected.latent.audio, rtol=0, atol=1e-4)
    layers = len(own.transformer.transformer_blocks)
    assert len({id(block) for block in ran}) == 2 * layers
    assert not set(map(id, ran)) & set(map(id, own.transformer.transformer_blocks))
