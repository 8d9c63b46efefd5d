"""Blocks that come to a device one after the other: exact, bounded, and in an order that is right on any device."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from ltx2.checkpoint.adapters.difference import LoadedDifference
from ltx2.checkpoint.adapters.kinds.whole import Whole
from ltx2.checkpoint.models import load_transformer
from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.networks.transformer.model import Transformer
from ltx2.stages.pipeline import generate
from ltx2.stages.placing.layer_stream import kept_bytes, streamed
from ltx2.stages.placing.layered import LayeredPlacement
from ltx2.stages.request import Request
from tests.checkpoint import small
from tests.checkpoint.files import save
from tests.checkpoint.test_build import quantised

LAYERS = 5


class Simulated:
    """A device of two streams. Copies happen as late as they may; computing is over as late as it may.

    What a copy writes is not there before somebody waits for it, and whoever writes into memory that a computation
    reads without waiting for that one is caught.
    """

    def __init__(self):
        self.log, self.device_size = [], 0
        self._queue, self._done, self._given = [], 0, 0
        self._reads, self._computations, self._seen = {}, 0, 0

    def host_bytes(self, size):
        return torch.full((size,), 0xFF, dtype=torch.uint8)

    def device_bytes(self, size):
        self.device_size += size
        return torch.full((size,), 0xFF, dtype=torch.uint8)  # not a number, in every floating-point type

    def reads(self, tensors):
        """A computation begins that reads tensors."""
        self._computations += 1
        self._reads |= {tensor.untyped_storage().data_ptr(): self._computations for tensor in tensors}

    @contextmanager
    def copying(self):
        self._run(self._given)
        yield

    def copy(self, target, source):
        read = self._reads.get(target.untyped_storage().data_ptr(), 0)
        assert read <= self._seen, "a copy writes into what is still being computed with"
        self._queue.append((target, source))
        self._given += 1
        self.log.append("copy")

    def copied(self):
        return "copied", self._given

    def computed(self):
        return "computed", self._computations

    def compute_waits(self, event):
        assert event[0] == "copied"
        self.log.append("compute waits")
        self._run(event[1])

    def copy_waits(self, event):
        assert event[0] == "computed"
        self._seen = max(self._seen, event[1])

    def host_waits(self, event):
        assert event[0] == "copied"
        self._run(event[1])

    def _run(self, until):
        while self._done < until:
            target, source = self._queue.pop(0)
            target.copy_(source)
            self._done += 1


def network(tmp_path, form):
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


@pytest.mark.parametrize(("kept", "resident"), [(True, 0), (False, 0), (False, 2)])
@pytest.mark.parametrize("form", ["plain", "stored", "mixed"])
def test_the_same_result_in_the_memory_of_two_blocks(tmp_path, form, kept, resident):
    whole, device = network(tmp_path, form), Simulated()
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    expected = [small.run(whole, seed) for seed in (1, 2)]
    keep = (lambda blocks: kept_bytes(blocks, device)) if kept else (lambda blocks: None)
    with streamed(whole, torch.device("cpu"), device, keep, resident=resident) as running:
        coming = list(running.transformer_blocks)[resident:]
        for block in coming:
            block.register_forward_pre_hook(lambda b, _: device.reads(tensors_in(b)) or device.log.append("compute"))
        assert all(not tensor.numel() for block in coming for tensor in block.parameters())
        with torch.no_grad():
            found = [small.run(running, seed) for seed in (1, 2)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected))
    # three places of a block's size at most, where five blocks are
    dense = max(sum(t.numel() * 4 + 256 for t in block_weights(block)) for block in whole.transformer_blocks)
    assert device.device_size <= (2 if form == "plain" else 3) * dense
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())
    # what is copied next is given before anything waits for it, while the block before computes
    order = [word for word, last in zip(device.log, ["", *device.log]) if word != last or word == "compute"]
    assert order[:3] == ["copy", "compute waits", "compute"]
    turns = 2 * (LAYERS - resident)
    assert order[: 3 * turns] == ["copy", "compute waits", "compute"] * turns


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
    own, copies = models("2.3"), Simulated()
    request = Request(prompt="rain", preset="ltx2_fast", width=64, height=64, frames=9, seed=3)
    request = replace(request, overrides={"denoise": {"num_inference_steps": 1}})
    placement = LayeredPlacement("cpu", copies)
    with placement.transformer(own.transformer, [(own.distilled_lora, 0.5)]) as changed:
        # there for this stage alone: nothing is set aside for it
        assert changed is not own.transformer and not placement.kept
    layered = generate(replace(own, own_placement=placement), request)
    plain = generate(own, request)
    assert torch.equal(layered.latent.video, plain.latent.video) and copies.log
    assert torch.equal(layered.latent.audio, plain.latent.audio)
    assert list(placement.kept) == [own.transformer]
