"""Long runs, watched: ``make soak`` tells a story of 200 segments, queues 100 prompts on a real ComfyUI
(COMFYUI_DIR) where there is one, and prints how memory, open files and threads of the process grow. Linux.

    python -m benchmarks.soak [--segments 200] [--prompts 100]

Everything is made anew each time, with other words and another seed, at 64×64 px by the demonstration model.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIB = 2**20
WARM_UP = 0.25  # of a run: libraries are loaded, caches and the allocator's arenas filled
ROWS = 9
PROMPTS = ("A red ball jumps.", "It rolls from side to side.", "A blue star circles around.", "A green box rests.")


@dataclass(frozen=True)
class Sample:
    """What a process holds: resident bytes, of these its own (in no file), open files, threads."""

    resident: int
    own: int
    files: int
    threads: int


def sample(pid: int | str = "self") -> Sample:
    """What a process holds now."""
    folder = Path("/proc") / str(pid)
    said = dict(line.split(":") for line in (folder / "status").read_text("utf-8").splitlines() if ":" in line)
    kib = {name: int(said[name].split()[0]) for name in ("VmRSS", "RssAnon")}
    return Sample(kib["VmRSS"] * 1024, kib["RssAnon"] * 1024, len(os.listdir(folder / "fd")), int(said["Threads"]))


def growth(values: list[int]) -> float:
    """How much a value grows a round, by the least squares through what was measured after the warm-up."""
    late = np.array(values[round(len(values) * WARM_UP) :], float)
    return round(float(np.polyfit(np.arange(len(late)), late, 1)[0]), 6) + 0.0 if len(late) > 1 else 0.0


def table(what: str, samples: list[Sample]) -> str:
    """Rows over a run, and the growth of each column a round after the warm-up."""
    lines = [f"| {what} | resident MiB | own MiB | open files | threads |", "|---|---|---|---|---|"]
    for index in np.linspace(0, len(samples) - 1, ROWS).round().astype(int):
        one = samples[index]
        lines.append(f"| {index + 1} | {one.resident / MIB:.1f} | {one.own / MIB:.1f} | {one.files} | {one.threads} |")
    resident, own, files, threads = (
        growth([getattr(s, name) for s in samples]) for name in ("resident", "own", "files", "threads")
    )
    first = round(len(samples) * WARM_UP) + 1
    lines.append(
        f"| growth each, from {first} on | {resident / 1024:+.1f} KiB | {own / 1024:+.1f} KiB | {files:+.3f} | "
        f"{threads:+.3f} |"
    )
    return "\n".join(lines)


def story(segments: int) -> list[Sample]:
    """A story of so many segments, told in this process; measured before each."""
    from ltx2.mini import CHECKPOINT, TEXT_ENCODER
    from ltx2.stages.models import load_models
    from ltx2.story.chain import run_story
    from ltx2.story.from_pipeline import pipeline_generator
    from ltx2.story.script import parse_script

    entries = "\n".join(f"  - {PROMPTS[index % len(PROMPTS)]}" for index in range(segments))
    script = parse_script(f"size: 64x64\ndefaults: {{frames: 17}}\nsegments:\n{entries}\n")
    make, samples = pipeline_generator(load_models(CHECKPOINT, text_encoder=TEXT_ENCODER)), []

    def measured(task):
        samples.append(sample())
        return make(task)

    with tempfile.TemporaryDirectory(prefix="ltx2-soak-") as folder:
        run_story(script, measured, work=Path(folder) / "work", out=Path(folder) / "film.mp4")
    return samples


def prompts(count: int) -> list[Sample] | None:
    """Films of three segments on a real host, queued one after the other; the server is measured after each. None
    where there is no host."""
    from tests.comfyui import hosting, mini_templates, real

    if not hosting.available():
        return None
    name, samples = "three_segment_film", []
    workflow = mini_templates.with_mini(name, real.api_workflow(name))
    with tempfile.TemporaryDirectory(prefix="ltx2-soak-") as folder, _server(Path(folder)) as host:
        for index in range(count):
            host.run(_another(real.small(workflow), index))
            samples.append(sample(host.server.process.pid))
        films = len(list((Path(folder) / "output").rglob("*.mp4")))
        assert films == count, f"{count} prompts left {films} films"
    return samples


def _another(workflow: dict, index: int) -> dict:
    """The workflow with other seeds and words, so that the host makes everything again."""
    for node in workflow.values():
        inputs = node["inputs"]
        if isinstance(inputs.get("seed"), int):
            inputs["seed"] = index
        if isinstance(inputs.get("prompt"), str):
            inputs["prompt"] = PROMPTS[index % len(PROMPTS)]
    return workflow


@contextlib.contextmanager
def _server(base: Path) -> Iterator:
    from tests.comfyui import real

    for name in ("input", "models", "custom_nodes"):
        (base / name).mkdir()
    with real.running(base) as host:
        yield host


def main(argv: list[str] | None = None) -> int:
    """Run and print. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=200, help="of the story (default 200)")
    parser.add_argument("--prompts", type=int, default=100, help="on a real ComfyUI (default 100)")
    args = parser.parse_args(argv)
    if not sys.platform.startswith("linux"):
        parser.exit(1, "soak: reads /proc, which this system does not have\n")
    runs: list[tuple[str, int, Callable]] = [("segments", args.segments, story), ("prompts", args.prompts, prompts)]
    for what, count, run in runs:
        if count:
            samples = run(count)
            print(table(what, samples) if samples else f"{what}: no ComfyUI found, see `make host`", flush=True)
            print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
