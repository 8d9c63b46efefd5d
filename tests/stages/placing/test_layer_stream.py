"""Blocks that come to a device one after the other: exact, bounded, and in an order that is right on any device."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulated_card import OutOfTurn, SimulatedCard
from benchmarks.stream_prediction import StepTiming, seconds_a_step
from ltx2.checkpoint.adapters.difference import LoadedDifference
from ltx2.checkpoint.adapters.kinds.whole import Whole
from ltx2.checkpoint.models import load_transformer
from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.networks.layers.offload_ops import OFFLOAD_OPS
from ltx2.networks.transformer.model import Transformer
from ltx2.stages.pipeline import generate
from ltx2.stages.placing.blocks import BlockBytes
from ltx2.stages.placing.copies import SMALLEST_PIECE, pieces_of
from ltx2.stages.placing.layer_stream import SetAside, coming, streamed
from ltx2.stages.placing.layered import LayeredPlacement
from ltx2.stages.request import Request
from ltx2.stages.steps import encode_texts
from ltx2.text.cache import ContextCache
from ltx2.text.gemma import load_text_encoder
from ltx2.text.layers import with_ops
from tests.checkpoint import small
from tests.checkpoint.files import save
from tests.checkpoint.test_build import quantised
from tests.stages.conftest import FAST

LAYERS = 5


@pytest.fixture
def card(monkeypatch):
    """A simulated card that is told of every weight that is unpacked."""
    made, dequantize = SimulatedCard(), BlockBytes.dequantize

    def told(block, slot):
        dequantize(block, slot)
        for layer, _ in block.dense:
            made.unpacks(layer.packed.packed.parts.values(), [layer.weight])

    monkeypatch.setattr(BlockBytes, "dequantize", told)
    return made


def watch(card, blocks, seconds=0.0):
    """The card is told of every block that computes."""
    for block in blocks:
        block.register_forward_pre_hook(lambda block, _: card.computes(tensors_in(block), seconds))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """By its form, and never changed."""
    return cache(lambda form: made_network(tmp_path_factory.mktemp(form), form))


def made_network(tmp_path, form):
    """Five blocks, of them one with a LoRA beside its stored weight where weights stay stored."""
    config = replace(small.CONFIGS["2.3"], layers=LAYERS)
    stored, _ = quantised(small.tensors_of(Transformer(config, device="meta")))
    if form == "mixed":  # the first and the last block as they were trained
        stored |= {n: t for n, t in small.tensors_of(Transformer(config, device="meta")).items() if ".0." in n[:22]}
        stored = {n: t for n, t in stored.items() if not (".0." in n[:22] and n.endswith("_scale"))}
    path = save(tmp_path / f"{form}.safetensors", small.prefixed(stored))
    how = "dequantize" if form == "plain" else "on_use"
    made = load_transformer(open_checkpoint(path), dtype=torch.float32, quantized=how)
    if form != "plain":
        attention = made.transformer_blocks[2].attn1
        difference = torch.randn(attention.to_q.out_features, attention.to_q.in_features) * 0.01
        change = LoadedDifference(Whole(), 0.5, {"difference": difference})
        attention.to_q = attention.to_q.with_differences([change])
        assert isinstance(attention.to_q, QuantizedLinear)
    return made


@pytest.mark.parametrize(("room", "blocks_on_device"), [(1e9, 0), (0, 2), (3e5, 1)])
@pytest.mark.parametrize("form", ["plain", "stored", "mixed"])
def test_the_same_result_in_the_memory_of_two_blocks(network, form, room, blocks_on_device, card):
    whole, aside = network(form), SetAside(room)
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    expected = [small.run(whole, seed) for seed in (1, 2)]
    with streamed(whole, torch.device("cpu"), card, aside, blocks_on_device=blocks_on_device) as running:
        come = [list(running.transformer_blocks)[index] for index in coming(LAYERS, blocks_on_device)]
        watch(card, come)
        assert all(not tensor.numel() for block in come for tensor in block.parameters())
        with torch.no_grad():
            found = [small.run(running, 1)]
        with torch.inference_mode():
            found.append(small.run(running, 2))
    assert all(torch.equal(one, other) for one, other in zip(found, expected))
    card.check_idle()
    # nothing of it is held, whoever still has the network
    assert not any(tensor.numel() for tensor in (*running.parameters(), *running.buffers()))
    # two places of a block's size at most, and two for stored bytes, where five blocks are
    dense = max(sum(t.numel() * 4 + 256 for t in block_weights(block)) for block in whole.transformer_blocks)
    assert card.device_size <= (2 if form == "plain" else 4) * dense
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())
    # what is copied next is given before anything waits for it, while the block before computes
    order = [word for word, last in zip(card.log, ["", *card.log]) if word not in (last, "unpack") or word == "compute"]
    order = [word for word, last in zip(order, ["", *order]) if word != last]
    turns = 2 * (LAYERS - blocks_on_device)
    assert order[: 3 * turns] == ["copy", "compute waits", "compute"] * turns
    # what there is room for is set aside once, and hardly more than it is
    kept = sum(sum(len(piece) for one in pair for piece in one.pieces) for pair in aside.blocks.values())
    assert kept <= room + 2 * SMALLEST_PIECE * len(aside.blocks)
    assert len(aside.blocks) == (LAYERS if room == 1e9 else 0 if room == 0 else len(aside.blocks))


@pytest.mark.parametrize("form", ["plain", "stored"])
@pytest.mark.parametrize("room", [1e9, 0])
def test_a_pass_that_breaks_off_and_blocks_out_of_turn_leave_nothing_wrong(network, form, room, card):
    whole = network(form)
    expected = small.run(whole, 1)
    with streamed(whole, torch.device("cpu"), card, SetAside(room)) as running, torch.no_grad():
        watch(card, running.transformer_blocks)
        for broken in (0, 1, 3, 4):
            handle = running.transformer_blocks[broken].attn1.to_v.register_forward_pre_hook(stopped)
            with pytest.raises(InterruptedError):
                small.run(running, 1)
            handle.remove()
            assert torch.equal(small.run(running, 1), expected)
        fill = card.fill
        card.fill = stopped
        with pytest.raises(InterruptedError) if not room else nullcontext():
            small.run(running, 1)
        card.fill = fill
        assert torch.equal(small.run(running, 1), expected)
        calls = calls_of(whole)
        for index in (3, 0, 0, 4, 2, 1, 3):
            given, expected_after = calls[index]
            video, audio = own_tokens(given)
            running.transformer_blocks[index](video, audio, given[2])
            assert torch.equal(video.x, expected_after[0]) and torch.equal(audio.x, expected_after[1])
    card.check_idle()


def stopped(*_):
    raise InterruptedError


def own_tokens(given):
    return [replace(stream, x=stream.x.clone()) for stream in given[:2]]


def calls_of(network):
    """What each block of a network is called with, and the tokens that it leaves."""
    given, left = [], []
    handles = []
    for block in network.transformer_blocks:
        handles.append(block.register_forward_pre_hook(lambda _, args: given.append((*own_tokens(args), args[2]))))
        handles.append(block.register_forward_hook(lambda _, args, __: left.append([s.x for s in own_tokens(args)])))
    small.run(network, 1)
    for handle in handles:
        handle.remove()
    return list(zip(given, left))


@pytest.mark.parametrize("forgotten", ["compute_waits", "copy_waits", "unpack_waits", "host_waits"])
def test_the_simulated_card_catches_whoever_does_not_wait(network, forgotten, card, monkeypatch):
    monkeypatch.setattr(card, forgotten, lambda event: None)
    with (  # noqa: PT012 (what is forgotten may show at the end)
        pytest.raises(OutOfTurn),
        torch.no_grad(),
    ):
        with streamed(network("stored"), torch.device("cpu"), card, SetAside(0)) as running:
            watch(card, running.transformer_blocks)
            small.run(running, 1)
        card.check_idle()


def test_a_system_that_gives_less_pinned_memory_gets_by_with_less(network, card):
    whole, aside = network("plain"), SetAside(1e9)
    card.pinned_limit = 4 * SMALLEST_PIECE  # of the five that it takes

    with streamed(whole, torch.device("cpu"), card, aside) as running, torch.no_grad():
        assert torch.equal(small.run(running, 1), small.run(whole, 1))
    assert 0 < len(aside.blocks) < LAYERS and not aside.room


@given(size=st.integers(0, 1 << 45))
def test_pinned_memory_comes_in_powers_of_two_and_hardly_more_than_asked_for(size):
    pieces = pieces_of(size)
    assert all(piece & (piece - 1) == 0 for piece in pieces) and 0 <= sum(pieces) - size < SMALLEST_PIECE


@given(count=st.integers(1, 60), data=st.data())
def test_blocks_that_come_lie_evenly_between_those_that_stay(count, data):
    blocks_on_device = data.draw(st.integers(0, count - 1))
    come = coming(count, blocks_on_device)
    assert len(come) == len(set(come)) == count - blocks_on_device and come == sorted(come) and come[-1] == count - 1
    gaps = {after - before for before, after in pairwise([come[-1] - count, *come])}
    assert max(gaps) - min(gaps) <= 1


def block_weights(block):
    for layer in block.modules():
        if isinstance(layer, QuantizedLinear):
            yield torch.empty(layer.out_features, layer.in_features, device="meta")
        yield from layer.parameters(recurse=False)


def tensors_in(block):
    """What a block's computation reads: of a quantised weight not its stored parts."""
    found = {**dict(block.named_parameters()), **dict(block.named_buffers())}
    found = {name: tensor for name, tensor in found.items() if ".packed." not in name or name.endswith("bias")}
    return [*found.values(), *(layer.weight for layer in block.modules() if type(layer).__name__ == "DenseLinear")]


def test_a_segment_is_the_same_and_its_bytes_are_set_aside_once(models):
    own, copies = models("2.3"), SimulatedCard()
    request = Request(prompt="rain", preset="ltx2_fast", width=64, height=64, frames=9, seed=3)
    request = replace(request, overrides={"denoise": {"num_inference_steps": 1}})
    placement = LayeredPlacement("cpu", copies)
    with placement.transformer(own.transformer, [(own.distilled_lora, 0.5)]) as changed:
        # there for this stage alone: nothing is set aside for it
        assert changed is not own.transformer and not placement.aside
    layered = generate(replace(own, own_placement=placement), request)
    plain = generate(own, request)
    assert torch.equal(layered.latent.video, plain.latent.video) and copies.log
    assert torch.equal(layered.latent.audio, plain.latent.audio)
    assert list(placement.aside) == [own.transformer]
    assert len(placement.aside[own.transformer].blocks) == len(own.transformer.transformer_blocks)


@pytest.mark.parametrize("release", ["2.3", "2.5"])
def test_a_prompt_is_read_layer_by_layer(tiny, models, release):
    own, card, prompts = models(release), SimulatedCard(), ["rain on a roof", "a harbour"]
    loaded = load_text_encoder(tiny(release)["text_encoder"], dtype=FAST.text_encoder)
    model = with_ops(loaded.model, OFFLOAD_OPS, dtype=FAST.text_encoder)
    placement = LayeredPlacement("cpu", card, first=own.transformer)
    with placement.on(model) as (there,):
        assert there is not model and there.embed_tokens.table.data_ptr() == model.embed_tokens.table.data_ptr()
        assert not any(tensor.numel() for tensor in there.layers.parameters()) and list(there.norm.parameters())
    encoder = replace(loaded, model=model, compute_device=torch.device("cpu"))
    streaming = replace(own, text_encoder=encoder, own_placement=placement, contexts=ContextCache())
    contexts = encode_texts(streaming, prompts)
    assert card.log.count("compute waits") >= len(prompts) * len(model.layers)
    assert len(placement.aside[model].blocks) == len(model.layers)
    for found, expected in zip(contexts, encode_texts(replace(own, contexts=ContextCache()), prompts)):
        assert torch.equal(found.video, expected.video) and torch.equal(found.audio, expected.audio)
    card.check_idle()


@pytest.mark.parametrize(("bus", "unpack"), [(0.25, 0), (1, 0), (3, 0), (1, 0.6), (0.9, 1), (1, 1.8), (3, 1)])
@pytest.mark.parametrize("blocks_on_device", [0, 12, 36])
def test_a_step_takes_as_long_as_what_takes_longest(bus, unpack, blocks_on_device):
    """Seconds of a step by the clock: computing 1 a block, copying and unpacking beside it."""
    timing = StepTiming(blocks=48, block_bytes=1000, compute=1, bus=1000 / bus, unpack=unpack)
    found = seconds_a_step(timing, blocks_on_device=blocks_on_device)
    come = 48 - blocks_on_device
    bound = max(48, come * bus, come * unpack)
    assert bound <= found + 1e-6 and found <= 1.05 * bound
