"""Seconds from *Run* to the first sign of what is made, and to the result, for each row of docs/journeys.md, in a real
ComfyUI on the CPU.

    python -m tests.comfyui.time_journeys                      # the demonstration model, 128×96, 49 frames a segment
    python -m tests.comfyui.time_journeys --tiny               # tiny random models of LTX-2.3, 64×64, 49 frames
    git worktree add /tmp/first 86d0509                        # the first release
    python -m tests.comfyui.time_journeys --pack /tmp/first    # its own nodes and templates on the same tiny models

Each journey is run three times under another seed, and the median is told: seconds to the first counted step, to the
result, and of the server's processor, which other work on the machine changes least.
"""

import argparse
import contextlib
import copy
import functools
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.comfy_client import RunFailed

from . import hosting, mini_templates, real

MADE = {
    "three-segment film": "three_segment_film",
    "stop, and go on tomorrow": "continue_from_state",
    "join today's to yesterday's film": "yesterdays_film",
    "extend a found film": "extend_a_video",
    "stock graph plus bridge": "native_continuation",
    "first and last picture": "keyframes",
    "own sound": "own_audio",
    "own music over three segments": "one_track_film",
    "picture to film": "image_to_video",
}
TINY_FRAMES = 49
FIRST_SEED = 101


@dataclass(frozen=True)
class Times:
    """Seconds of one run: to the first step that is counted, to the end, and of the server's processor."""

    first: float
    done: float
    processor: float

    def __str__(self) -> str:
        return f"{self.first:.2f} s, {self.done:.2f} s, processor {self.processor:.2f} s"


def median(runs: list[Times]) -> Times:
    return Times(*(statistics.median(values) for values in zip(*((t.first, t.done, t.processor) for t in runs))))


def processor_seconds(process: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(host: real.Host, form: dict, stop_at_node_share: float | None = None) -> Times:
    """stop_at_node_share: the run is cancelled when its node has come so far."""
    before, begun, first = processor_seconds(host.server.process.pid), time.monotonic(), []

    def told(node, value, most):
        if value and not first:
            first.append(time.monotonic() - begun)
        if stop_at_node_share is not None and value >= stop_at_node_share * most:
            hosting.urllib.request.urlopen(hosting.urllib.request.Request(f"{host.server.url}/interrupt", b"{}"))

    try:
        host.run(form, on_progress=told)
    except RunFailed:
        if stop_at_node_share is None:
            raise
    done = time.monotonic() - begun
    return Times(first[0] if first else done, done, processor_seconds(host.server.process.pid) - before)


def with_seed(form: dict, seed: int) -> dict:
    """The same with another seed wherever it has one, so that the host's cache holds nothing of it."""
    fresh = copy.deepcopy(form)
    for node in fresh.values():
        for name in ("seed", "noise_seed"):
            if isinstance(node["inputs"].get(name), int):
                node["inputs"][name] = seed
        if "script" in node["inputs"]:
            node["inputs"]["script"] = re.sub(r"(?m)^seed:.*$", f"seed: {seed}", node["inputs"]["script"])
    return fresh


def story_journeys(host: real.Host, form: dict, seed: int) -> Iterator[tuple[str, Times]]:
    """A story made once, then what is changed in it."""
    form = with_seed(form, seed)
    (key,) = real.nodes_of(form, "Story")
    form[key]["inputs"]["folder"] = f"journeys/one{seed}"
    yield "a story of three segments", timed(host, form)
    script = form[key]["inputs"]["script"]
    last = script.rindex("  - prompt:")
    again = copy.deepcopy(form)  # under a new seed, as a person says it to every release
    again[key]["inputs"]["script"] = f"{script[:last]}    seed: {seed + 50}\n{script[last:]}"
    yield "redo segment 2", timed(host, again)
    timed(host, form)
    other = copy.deepcopy(form)
    other[key]["inputs"]["script"] = script[:last] + "  - prompt: It rests.\n"
    yield "new prompt in 3", timed(host, other)
    stopped = with_seed(form, seed + 100)
    stopped[key]["inputs"]["folder"] = f"journeys/two{seed}"
    timed(host, stopped, 0.5)
    yield "cancel, and go on", timed(host, stopped)
    takes = copy.deepcopy(form)  # last: a first release refuses it
    takes[key]["inputs"]["script"] = script[:last] + "  - prompt: It rests.\n    takes: 10\n"
    yield "ten takes", timed(host, takes)


# --- what is run -----------------------------------------------------------------------------------------------------


def mini_form(name: str, base: Path) -> dict:
    """A template on the demonstration model; what it goes on from is put in place."""
    mini_templates.prepare(name, base)
    return mini_templates.with_mini(name, real.api_workflow(name))


def tiny_form(name: str, workflows: Path) -> dict:
    """A template of some release of the pack on tiny random models."""
    form = real.small(json.loads((workflows / "api" / f"{name}.json").read_text("utf-8")), TINY_FRAMES)
    return real.tiny_text(form) if name == "native_continuation" else form


def put_state(host: real.Host, form: dict) -> None:
    """The state that a run leaves, where the templates load one."""
    told = [one for output in host.run(form).values() for one in output.get("states", []) if one.get("file")]
    shutil.copy(host.path(told[-1]["picture"]), host.base / "input" / real.STATE_INPUT)


def report(host: real.Host, form_of: Callable[[str], dict], has: Callable[[str], bool], runs: int) -> None:
    """Print the times of every journey whose template there is."""
    seeds = range(FIRST_SEED, FIRST_SEED + 10 * runs, 10)
    for journey, name in MADE.items():
        if not has(name):
            print(f"{journey}: no template", flush=True)
            continue
        form = form_of(name)
        with contextlib.suppress(RunFailed):  # what fails here fails below too, and is told there
            host.run(with_seed(form, FIRST_SEED - 1))
        print(f"{journey} ({name}): {median([timed(host, with_seed(form, seed)) for seed in seeds])}", flush=True)
    made: dict[str, list[Times]] = {}
    form = form_of("story")
    for seed in (FIRST_SEED - 10, *seeds):
        try:
            for journey, times in story_journeys(host, form, seed):
                made.setdefault(journey, []).append(times)
        except RunFailed as error:
            print(f"refused: {str(error)[:200]}", flush=True)
    for journey, times in made.items():
        print(f"{journey} (story): {median(times[1:])}", flush=True)


def main() -> None:
    from ltx2.tiny.write import write_tiny

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny random models instead of the demonstration model")
    parser.add_argument("--pack", type=Path, help="a checkout of an older release to time, on tiny random models")
    parser.add_argument("--runs", type=int, default=3, help="how often each journey is run (default 3)")
    options = parser.parse_args()
    if not hosting.available():
        sys.exit(hosting.NO_HOST)
    pack, tiny = (options.pack or hosting.ROOT).resolve(), options.tiny or options.pack is not None
    workflows = pack / "example_workflows"
    with tempfile.TemporaryDirectory() as folder:
        files = functools.cache(lambda version: write_tiny(Path(folder) / version, version))
        base = real.make_base(Path(folder) / "host", files, native=True)
        real.put_inputs(base)
        if not tiny:
            mini_templates.put_inputs(base)
        with real.running(base, pack=pack) as host:
            form_of = (lambda name: tiny_form(name, workflows)) if tiny else (lambda name: mini_form(name, host.base))
            cold = "three_segment_film" if tiny else "first_steps"
            print(f"the first run of a fresh server ({cold}): {timed(host, form_of(cold))}", flush=True)
            if tiny:
                put_state(host, form_of("image_to_video"))
            report(host, form_of, lambda name: (workflows / "api" / f"{name}.json").is_file(), options.runs)


if __name__ == "__main__":
    main()
