"""Seconds of a step whose blocks come over the bus, predicted: ``python -m benchmarks.stream_prediction``.

The stream of layers itself runs, with blocks of the released transformer's bytes that hold nothing, on a simulated card
whose clock goes by rates. So what is predicted is how copies, unpacking and computing overlap; seconds to compute and
to unpack are those of an H200 (``gpu-h200.md``), or stretched to a card of another matrix rate. No card was asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.checkpoint.quantization.packed import PackedWeight
from ltx2.stages.placing.blocks import DenseLinear
from ltx2.stages.placing.layer_stream import SetAside, streamed

from .simulated_card import Rates, SimulatedCard

BLOCKS = 48
# Of the 2.3 transformer, a block: GB in main memory, and seconds to unpack on an H200.
FORMS = {"bf16": (0.7735, 0.0), "fp8": (0.387, 0.00225), "nvfp4": (0.218, 0.0163)}
# Bytes a second that pinned memory reaches in practice.
BUSES = {"PCIe 3": 12e9, "PCIe 4": 25e9, "PCIe 5": 50e9}
# Video tokens → seconds of a resident step on an H200, whose matrix rate is 777 TFLOPS.
STEPS = {1536: 0.187, 14080: 1.035}
H200_TFLOPS = 777
LAUNCH = 0.002  # seconds of the host to start the kernels of a block
FILL = 8e9  # bytes a second from the page cache to pinned memory, one thread


@dataclass(frozen=True)
class StepTiming:
    """What a step is made of: seconds of a block to compute and to unpack, its bytes, and the rates of bus and host.
    set_aside: whether blocks lie in pinned memory, or go there from the mapped file each time."""

    blocks: int
    block_bytes: int
    compute: float
    bus: float
    unpack: float = 0
    fill: float = float("inf")
    launch: float = 0
    set_aside: bool = True


class _Block(nn.Module):
    """So many bytes, stored or plain."""

    def __init__(self, size: int, stored: bool) -> None:
        super().__init__()
        weight = torch.empty(1, size, dtype=torch.uint8, device="meta")
        self.weight = QuantizedLinear(PackedWeight(_Kept(), (1, size), {"weight": weight}), None) if stored else None
        self.plain = nn.Parameter(weight[:, : 0 if stored else None], requires_grad=False)

    def forward(self) -> None:
        """Whoever watches says how long it takes."""


class _Kept:
    """A form whose unpacking is a matter of the clock alone."""

    name, pads_to = "bytes", 1

    def fill(self, out: torch.Tensor, parts) -> None:
        """Nothing."""


class _Network(nn.Module):
    def __init__(self, timing: StepTiming) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Block(timing.block_bytes, timing.unpack > 0) for _ in range(timing.blocks))

    def forward(self) -> None:
        """One step."""
        for block in self.layers:
            block()


def _weights(block: _Block) -> list[torch.Tensor]:
    """What a block computes with."""
    return [block.weight.weight if isinstance(block.weight, DenseLinear) else block.plain]


def seconds_a_step(timing: StepTiming, *, blocks_on_device: int = 0, steps: int = 3) -> float:
    """By the clock of the simulated card, when the first step is over. blocks_on_device: how many blocks stay there."""
    rates = Rates(timing.bus, timing.fill, timing.unpack, timing.launch)
    card, times = SimulatedCard(rates, "meta"), []
    aside = SetAside(float("inf") if timing.set_aside else 0)
    with streamed(_Network(timing), torch.device("meta"), card, aside, blocks_on_device=blocks_on_device) as network:
        for block in network.layers:
            block.register_forward_pre_hook(lambda block, _: card.computes(_weights(block), timing.compute))
        for _ in range(steps):
            network()
            times.append(card.time)
    return (times[-1] - times[0]) / (steps - 1)


def rows(tflops: float) -> Iterator[list[str]]:
    """One a clip, form of weights and bus: seconds of a step, and what the bus alone takes."""
    for tokens, resident_step in STEPS.items():
        slower = H200_TFLOPS / tflops
        for form, (gigabytes, unpack) in FORMS.items():
            for bus, rate in BUSES.items():
                size = round(gigabytes * 1e9)
                compute = resident_step * slower / BLOCKS
                timing = StepTiming(BLOCKS, size, compute, rate, unpack * slower, FILL, LAUNCH)
                cells = [f"{tokens:,}", form, bus, f"{BLOCKS * compute:.2f}", f"{BLOCKS * size / rate:.2f}"]
                cells.append(f"{seconds_a_step(timing):.2f}")
                cells.append(f"{seconds_a_step(timing, blocks_on_device=BLOCKS // 2):.2f}")
                yield [*cells, f"{seconds_a_step(replace(timing, set_aside=False)):.2f}"]


def main() -> None:
    for name, tflops in (("an H200, 777 TFLOPS", 777), ("a card of 165 TFLOPS", 165)):
        print(f"\n{name}\n")
        print("| tokens | weights | bus | computing s | bus alone s | step s | half stays s | from the file s |")
        print("|" + "---|" * 8)
        for cells in rows(tflops):
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
