"""How much memory loading takes: a transformer of about 1 GB of random bf16 weights, in a process of its own each time.

``python -m benchmarks.load_memory [FOLDER]`` prints a table. "touched": every weight was read once after loading, so
that mapped pages count; "peak": the most that the process ever held, less what it held before.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE = {
    "layers": 22,
    "heads": 8,
    "audio_heads": 8,
    "context_width": 1024,
    "audio_context_width": 512,
}  # heads of the released widths
# what is measured → (file, dtype asked for, what happens to quantised weights)
KINDS = {
    "bf16 as stored": ("bf16", "bfloat16", "dequantize"),
    "bf16 to fp32": ("bf16", "float32", "dequantize"),
    "fp8 to bf16": ("fp8", "bfloat16", "dequantize"),
    "fp8 kept": ("fp8", "bfloat16", "on_use"),
}


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * resource.getpagesize()


def write(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from ltx2.config.transformer import TransformerConfig
    from ltx2.networks.transformer.model import Transformer

    shapes = {
        name: tensor.shape
        for name, tensor in Transformer(TransformerConfig(**SIZE), device="meta").state_dict().items()
    }
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"model.diffusion_model.{name}"] = torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02)
    save_file(tensors, folder / "bf16.safetensors")
    for name in list(tensors):
        if ".transformer_blocks." in name and name.endswith(".weight") and tensors[name].ndim == 2:
            scale = tensors[name].abs().max().float() / 448
            tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale"] = scale
    save_file(tensors, folder / "fp8.safetensors")


def measure(folder: Path, kind: str) -> None:
    import torch

    from ltx2.checkpoint.models import load_transformer
    from ltx2.checkpoint.reader import open_checkpoint

    torch.set_num_threads(1)
    file, dtype, mode = KINDS[kind]
    path = folder / f"{file}.safetensors"
    before = resident_bytes()
    started = time.monotonic()
    network = load_transformer(open_checkpoint(path), dtype=getattr(torch, dtype), quantized=mode)
    seconds = time.monotonic() - started
    loaded = resident_bytes() - before
    for parameter in network.parameters():
        parameter.view(-1).view(torch.uint8).sum()
    touched = resident_bytes() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    size = path.stat().st_size
    weights = sum(p.nbytes for p in network.parameters())
    numbers = [f"{value / 1e6:,.0f}" for value in (size, weights, loaded, touched, peak, 1.1 * size + 300e6)]
    print(f"| {kind} | {' | '.join(numbers)} | {seconds:.1f} |")


def main() -> None:
    if len(sys.argv) == 3:
        folder, kind = Path(sys.argv[1]), sys.argv[2]
        return write(folder) if kind == "write" else measure(folder, kind)
    with tempfile.TemporaryDirectory() as temporary:
        folder = sys.argv[1] if len(sys.argv) == 2 else temporary
        print("| load | file MB | weights MB | after loading MB | touched MB | peak MB | 1.1 S + 300 MB | seconds |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for kind in ("write", *KINDS):
            subprocess.run([sys.executable, "-m", "benchmarks.load_memory", folder, kind], check=True)


if __name__ == "__main__":
    main()
