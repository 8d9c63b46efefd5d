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
from ltx2.stages.request import Request, make_job


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
    """Also the stage that runs on a copy with a LoRA: the graph gets that copy's weights."""
    ran = []

    def compiled(function, **options):
        def run(block, weights, *given):
            ran.append(weights["attn1.to_q.weight"])
            return function(block, weights, *given)

        return run

    own = models("2.3")
    monkeypatch.setattr(torch, "compile", compiled)
    transformer = copy_to(own.transformer, "cpu")
    transformer.compile_blocks()
    transformer.least_compiled_tokens = 1
    request = Request(prompt="A lake.", preset="ltx2_hq", width=64, height=64, frames=9, seed=2)
    request = replace(request, overrides={"denoise": {"num_inference_steps": 2}})
    found, expected = generate(replace(own, transformer=transformer), request), generate(own, request)
    torch.testing.assert_close(found.latent.video, expected.latent.video, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.latent.audio, expected.latent.audio, rtol=0, atol=1e-4)
    assert len({id(weight) for weight in ran}) == 2 * len(own.transformer.transformer_blocks)
    assert not set(map(id, ran)) & set(map(id, transformer.parameters()))


def test_a_clip_that_is_too_short_to_gain_by_it_is_told(models):
    own = models("2.3")
    object.__setattr__(config := replace(own.config), "compile", True)
    compiled = replace(own, config=config)

    def told(frames: int, batch_size: int = 1) -> list[str]:
        request = Request(prompt="A lake.", width=512, height=512, frames=frames, seed=1, batch_size=batch_size)
        return [note for note in make_job(compiled, request).notes if note.startswith("compile ")]

    assert told(9) == ["compile has no effect: this clip has 512 tokens, compiled blocks are faster from 8192 on"]
    assert not told(57) and not told(9, batch_size=4)
