"""How fast bytes of a weight file in the page cache reach memory: ``python -m benchmarks.reading --gigabytes 2``.

The ways that were weighed against each other, by turns, and the road that weights take to a device (which is ``meta``
here: what is measured is the reading). A file is written for it and removed again.
"""

import argparse
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file

from ltx2.checkpoint.lazy_tensor import READ_AT_ONCE_BYTES
from ltx2.checkpoint.reader import Checkpoint, open_checkpoint

PIECE = READ_AT_ONCE_BYTES
ROWS, COLUMNS = 4096, 16384  # of a feed-forward weight of the released transformer
POPULATE_READ = 22  # of Linux 5.14, which Python does not name


def ways(checkpoint: Checkpoint) -> Iterator[tuple[str, Callable[[], None]]]:
    """What brings all bytes of a file to memory, by name."""
    (path,) = checkpoint.paths
    size, tensors = path.stat().st_size, list(checkpoint.tensors.values())

    def weights(device: str, dtype: torch.dtype | None, mapped: bool) -> None:
        for tensor in tensors:
            tensor.load(device, dtype, mapped=mapped)

    def read(threads: int) -> None:
        places = [torch.zeros(PIECE, dtype=torch.uint8).numpy().data for _ in range(threads)]
        with path.open("rb") as file:

            def some(first: int) -> None:
                for at in range(first * PIECE, size, threads * PIECE):
                    os.preadv(file.fileno(), [places[first][: size - at]], at)

            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(some, range(threads)))

    def mapped(advice: int | None) -> None:
        place = torch.zeros(PIECE, dtype=torch.uint8)
        with path.open("rb") as file, mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE) as held:
            for at in range(0, size, PIECE):
                count = min(PIECE, size - at)
                if advice is not None:
                    held.madvise(advice, at, count)
                place[:count].numpy()[:] = memoryview(held)[at : at + count]

    yield "each tensor into fresh memory", lambda: weights("cpu", None, False)
    yield "to a device (two places in turns)", lambda: weights("meta", None, True)
    yield "to float32 on the CPU", lambda: weights("cpu", torch.float32, True)
    for threads in (1, 2):
        yield f"pread into one place a thread, {threads}", lambda threads=threads: read(threads)
    yield "mapped, page by page", lambda: mapped(None)
    yield "mapped, WILLNEED", lambda: mapped(mmap.MADV_WILLNEED)
    yield "mapped, POPULATE_READ", lambda: mapped(POPULATE_READ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        count = max(1, round(args.gigabytes * 1e9 / (2 * ROWS * COLUMNS)))
        save_file({f"{i}": torch.empty(ROWS, COLUMNS, dtype=torch.bfloat16).random_() for i in range(count)}, path)
        checkpoint, best = open_checkpoint(path), {}
        for _ in range(args.rounds):
            for name, work in ways(checkpoint):
                start = time.perf_counter()
                work()
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - start)
        print("| way | GB/s |\n|---|---|")
        for name, seconds in best.items():
            print(f"| {name} | {path.stat().st_size / 1e9 / seconds:.1f} |")


if __name__ == "__main__":
    main()
