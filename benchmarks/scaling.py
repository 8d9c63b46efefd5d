"""What several GPUs exchange and gain: ``python -m benchmarks.scaling`` prints the tables; ``--gloo`` and ``--story``
run.

The exchange of one transformer call is counted exactly, from the released 22B layout
(``ltx2.parallel.sequence.exchanged``, which the tests hold to what really leaves a rank). Seconds on GPUs are a
prediction from these bytes and from the call's arithmetic, at the rates given; nothing here has run on several GPUs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ltx2 import clock
from ltx2.config.transformer import TransformerConfig, transformer_config
from ltx2.parallel.sequence import exchanged
from ltx2.parallel.split import choose_split, shares
from tests.networks.released_shapes import CONFIGS

SIZES = ((768, 512), (1280, 704), (1920, 1088))
FRAMES, FPS = 121, 24
RANKS = (1, 2, 4, 8)
TEXT_TOKENS = 1024
WORKERS = (1, 2, 4)
# One direction of one GPU's links, bytes a second, as the makers' data sheets give them.
LINKS = {"NVLink (450 GB/s)": 450e9, "PCIe 4 x16 (32 GB/s)": 32e9}
# Arithmetic that a GPU gets done in a transformer call: dense bf16 of an H100 (989e12 a second) at this share.
PEAK_PER_SECOND, SHARE = 989e12, 0.6


def tokens_of(width: int, height: int) -> tuple[int, int]:
    """Video and audio tokens of a clip."""
    latent_frames = clock.latent_frames(FRAMES)
    return latent_frames * (height // 32) * (width // 32), clock.audio_latents(FRAMES, FPS)


def arithmetic(config: TransformerConfig, video: int, audio: int) -> float:
    """Floating-point operations of one call, one row: products of the block's matrices, and attention."""
    w, a = config.width, config.audio_width
    inner, audio_inner = config.heads * config.head_dim, config.audio_heads * config.audio_head_dim

    def projections(queries: int, keys: int, width: int, context: int, heads: int) -> float:
        return 2 * (queries * width * heads * 2 + keys * context * heads * 2)

    def attending(queries: int, keys: int, heads: int) -> float:
        return 4 * queries * keys * heads

    block = projections(video, video, w, w, inner) + attending(video, video, inner)
    block += projections(video, TEXT_TOKENS, w, config.context_width, inner) + attending(video, TEXT_TOKENS, inner)
    block += projections(audio, audio, a, a, audio_inner) + attending(audio, audio, audio_inner)
    block += projections(audio, TEXT_TOKENS, a, config.audio_context_width, audio_inner)
    block += projections(video, audio, w, a, audio_inner) + projections(audio, video, a, w, audio_inner)
    block += 2 * attending(video, audio, audio_inner)
    block += 16 * (video * w * w + audio * a * a)
    return block * config.layers


def split_arithmetic(config: TransformerConfig, video: int, audio: int, parts: int) -> float:
    """Of one rank: the video's work is shared, the audio's is done by every rank."""
    alone = arithmetic(config, 0, audio)
    return alone + (arithmetic(config, video, audio) - alone) / parts


def exchange_rows(config: TransformerConfig) -> Iterator[str]:
    yield "| size (stage) | video tokens | passes | GPUs | split | exchanges a step | MB sent a step and GPU |"
    yield "|---|---|---|---|---|---|---|"
    for (width, height), stage in ((size, stage) for size in SIZES for stage in (1, 2)):
        half = 2 if stage == 1 else 1
        tokens = tokens_of(width // half // 32 * 32, height // half // 32 * 32)
        for passes in (1, 4) if stage == 1 else (1,):
            for size in RANKS[1:]:
                calls, sent, split = sent_by(config, size, passes, tokens)
                yield (
                    f"| {width}×{height}×{FRAMES} ({stage}) | {tokens[0]:,} | {passes} | {size} | {split} | {calls} | "
                    f"{sent / 1e6:,.0f} |"
                )


def sent_by(config: TransformerConfig, size: int, passes: int, tokens: tuple[int, int]) -> tuple[int, float, str]:
    """Exchanges, bytes that the busiest rank sends in one step (bf16), and the split in words."""
    split = choose_split(size, passes, (config.heads, config.audio_heads))
    rows = max(shares(passes, split.passes))
    calls, elements = exchanged(config, rows, tokens, shares(tokens[0], split.parts)[0], split.parts)
    if split.passes > 1:
        calls += 2
        elements += sum(rows * t * 128 * (split.passes - 1) for t in tokens)
    return calls, elements * 2, str(split).partition(": ")[2]


def prediction_rows(config: TransformerConfig) -> Iterator[str]:
    yield "| size (stage) | passes | GPUs | arithmetic, s | " + " | ".join(f"{link}, s" for link in LINKS) + " | gain |"
    yield "|---|---|---|---|" + "---|" * len(LINKS) + "---|"
    for (width, height), stage in ((size, stage) for size in SIZES for stage in (1, 2)):
        half = 2 if stage == 1 else 1
        tokens = tokens_of(width // half // 32 * 32, height // half // 32 * 32)
        for passes in (1, 4) if stage == 1 else (1,):
            alone = arithmetic(config, *tokens) * passes / (PEAK_PER_SECOND * SHARE)
            for size in RANKS:
                split = choose_split(size, passes, (config.heads, config.audio_heads))
                rows = max(shares(passes, split.passes))
                work = split_arithmetic(config, *tokens, split.parts) * rows / (PEAK_PER_SECOND * SHARE)
                sent = sent_by(config, size, passes, tokens)[1] if size > 1 else 0
                times = [work + sent / rate for rate in LINKS.values()]
                gains = " / ".join(f"{alone / one:.1f}×" for one in times)
                yield (
                    f"| {width}×{height} ({stage}) | {passes} | {size} | {work:.3f} | "
                    + " | ".join(f"{one:.3f}" for one in times)
                    + f" | {gains} |"
                )


def gloo_rows() -> Iterator[str]:
    """Wall time of the same small call on this machine's processors, as a check that the ranks really share work."""
    yield "| ranks | seconds a call (median of 5) |"
    yield "|---|---|"
    for size in (1, 2):
        command = [sys.executable, "-m", "benchmarks.scaling_rank", str(size)]
        with tempfile.TemporaryDirectory() as folder:
            started = [
                subprocess.Popen(
                    [*command, str(rank), str(Path(folder) / "store")],
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                )
                for rank in range(size)
            ]
            printed = [process.communicate()[0] for process in started]
        yield f"| {size} | {printed[0].strip()} |"


def story_rows(scenes: int = 8) -> Iterator[str]:
    """How soon a story of scenes of one segment is done by several workers, on the demonstration model; loading the
    models is counted, as a user waits for it. Films are compared: each is the same to the byte."""
    yield f"| workers | seconds for {scenes} segments | segments a minute | film |"
    yield "|---|---|---|---|"
    first = None
    for workers in WORKERS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            segments = "".join(f"  - {{prompt: A red ball jumps {i}., cut: true}}\n" for i in range(scenes))
            script = f"size: 128x128\ndefaults: {{frames: 49}}\nsegments:\n{segments}"
            (folder / "story.yaml").write_text(script, "utf-8")
            given = ["--checkpoint", "mini", "--device", "cpu", "--workers", str(workers)]
            files = ["--work", str(folder / "work"), "--out", str(folder / "film.mp4")]
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "ltx2", "story", str(folder / "story.yaml"), *given, *files],
                check=True,
                capture_output=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            seconds, film = time.perf_counter() - begun, (folder / "film.mp4").read_bytes()
        first = first or film
        same = "the same" if film == first else "ANOTHER"
        yield f"| {workers} | {seconds:.0f} | {scenes * 60 / seconds:.1f} | {same} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gloo", action="store_true", help="also time a small call on 1 and 2 processes")
    parser.add_argument("--story", action="store_true", help="also time a story with 1, 2 and 4 workers")
    options = parser.parse_args()
    started = time.perf_counter()
    config = transformer_config(CONFIGS["2.3"], {})
    print(
        f"torch {torch.__version__}; LTX-2.3 22B: {config.layers} blocks, {config.heads} heads of {config.head_dim}\n"
    )
    print("\n".join(exchange_rows(config)), end="\n\n")
    print(f"Prediction: {PEAK_PER_SECOND / 1e12:.0f} TFLOP/s at {SHARE:.0%}, exchange not overlapped\n")
    print("\n".join(prediction_rows(config)), end="\n\n")
    if options.gloo:
        print("\n".join(gloo_rows()), end="\n\n")
    if options.story:
        print("\n".join(story_rows()), end="\n\n")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
