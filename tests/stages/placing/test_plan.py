"""A run within so much memory: the plan is the fastest that fits, what it says is what is loaded, and what it refuses
would not fit."""

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated_card import SimulatedCard
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import RequestError
from ltx2.stages import memory
from ltx2.stages.models import load_models
from ltx2.stages.placing.layer_stream import coming
from ltx2.stages.placing.layered import LayeredPlacement
from ltx2.stages.placing.plan import LargestClip, MemoryPlan, Sizes, plan_memory, sizes_of
from ltx2.stages.request import Request, make_job
from tests.stages.conftest import FAST, checkpoints_of

GIB = 2**30
WAYS = ("layers", "stage", "none")  # the faster the later
CLIP = LargestClip(1280, 704, 121, 16, 14080)


def sizes(blocks, outer, text, decoder=None):
    around = {"audio_decoder": GIB // 10, "vocoder": GIB // 10}
    half = torch.bfloat16
    return Sizes(blocks, max(blocks), outer, 4096, text, min(text, GIB // 4), GIB // 2, around, decoder, half, half)


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.lists(st.integers(1, GIB), min_size=3, max_size=48),
    outer=st.integers(1, GIB),
    text=st.integers(1, 24 * GIB),
    budget=st.integers(1, 80 * GIB),
)
def test_the_fastest_that_fits_and_the_smallest_that_does(blocks, outer, text, budget):
    whole = sizes(blocks, outer, text)
    try:
        plan = plan_memory(whole, CLIP, budget)
    except RequestError as error:
        number, unit = re.search(r"give ([0-9.]+) (GiB|MiB) or more", str(error)).groups()
        enough = float(number) * (GIB if unit == "GiB" else 2**20)
        assert enough > budget and len(str(error)) <= 300
        plan_memory(whole, CLIP, round(enough) + 1)
        with pytest.raises(RequestError):
            plan_memory(whole, CLIP, round(enough - GIB / 10) - 1)
        return
    assert plan.weights + plan.others + plan.activations <= budget and len(str(plan)) <= 300
    plan.check(plan.activations, "it")
    with pytest.raises(RequestError, match="GiB or more|MiB or more"):
        plan.check(budget - plan.weights - plan.others + 1, "it")
    more = plan_memory(whole, CLIP, budget + GIB)
    assert WAYS.index(more.offload) >= WAYS.index(plan.offload)
    if more.offload == plan.offload == "layers":
        assert more.blocks_on_device >= plan.blocks_on_device and 0 <= plan.blocks_on_device <= len(blocks) - 2
        # no further block would have fitted, or two are left to take turns
        come = [set(coming(len(blocks), n)) for n in (plan.blocks_on_device, plan.blocks_on_device + 1)]
        here, further = (sum(size for i, size in enumerate(blocks) if i not in one) for one in come)
        room = budget - plan.weights - plan.activations
        assert plan.blocks_on_device == len(blocks) - 2 or further - here > room


@pytest.mark.parametrize("quantized", ["dequantize", "on_use"])
def test_sizes_are_those_of_what_is_loaded(tiny, quantized):
    files, config = tiny("2.3"), replace(FAST, quantized=quantized)
    found = sizes_of(open_checkpoint(checkpoints_of(files)), files["text_encoder"], files["spatial_upsampler"], config)
    loaded = load_models(
        checkpoints_of(files), text_encoder=files["text_encoder"], upsampler=files["spatial_upsampler"], config=config
    )
    assert found.transformer == memory.weight_bytes(loaded.transformer)
    assert list(found.blocks) == [memory.weight_bytes(block) for block in loaded.transformer.transformer_blocks]
    text = [loaded.text_encoder.model, loaded.text_projection, *loaded.connectors]
    computed = 4 + sum(b.nbytes for b in text[0].buffers() if b.dtype == torch.float32)  # what no file holds
    assert abs(found.text - sum(map(memory.weight_bytes, text))) <= computed
    assert found.video_decoder == memory.weight_bytes(loaded.video_decoder)
    assert found.around["upsampler"] == memory.weight_bytes(loaded.upsampler)
    # what was planned is kept to: a clip that takes more is refused before it is sampled
    plan = plan_memory(found, LargestClip(64, 64, 9, 2, 8), 3 * GIB)
    assert plan.offload == "none" and found.everything == plan.weights + plan.others
    tight = MemoryPlan(**vars(plan) | {"budget": plan.weights + plan.others + 2**20})
    kept = replace(loaded, config=replace(config, memory=tight))
    assert kept.placement.free_bytes(loaded.transformer) <= tight.budget
    with pytest.raises(RequestError, match="as it was planned: give"):
        make_job(kept, Request(prompt="x", preset="ltx2_fast", width=512, height=512, frames=121))


def test_blocks_that_stay_are_copied_once(models):
    own, copies = models("2.3"), SimulatedCard()
    blocks = own.transformer.transformer_blocks
    with LayeredPlacement("cpu", copies, blocks_on_device=len(blocks) - 1).transformer(own.transformer, []) as there:
        stay, come = list(there.transformer_blocks)[:-1], there.transformer_blocks[-1]
        assert all(tensor.numel() for block in stay for tensor in block.parameters())
        assert not any(tensor.numel() for tensor in come.parameters())
    assert LayeredPlacement("cpu", limit_bytes=5).free_bytes() == 5
