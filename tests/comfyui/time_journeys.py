"""Seconds from *Run* to the first sign of what is made, and to the result, for each row of docs/journeys.md, on the
demonstration model in a real ComfyUI.

    python -m tests.comfyui.time_journeys
"""

import copy
import functools
import re
import sys
import tempfile
import time
from collections.abc import Iterator
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


def timed(host: real.Host, form: dict, stop_at_node_share: float | None = None) -> tuple[float, float]:
    """Seconds to the first step that is counted, and to the end. stop_at_node_share: the run is cancelled when its node
    has come so far."""
    begun, first = time.monotonic(), []

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
    return (first[0] if first else done), done


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


def story_journeys(host: real.Host) -> Iterator[tuple[str, float, float]]:
    """A story made once, then what is changed in it."""
    form = mini_templates.with_mini("story", real.api_workflow("story"))
    (key,) = real.nodes_of(form, "Story")
    form[key]["inputs"]["folder"] = "journeys/one"
    yield "a story of three segments", *timed(host, form)
    again = copy.deepcopy(form)
    again[key]["inputs"]["redo"] = "2:77"
    yield "redo segment 2", *timed(host, again)
    script = form[key]["inputs"]["script"]
    last = script.rindex("prompt:")
    other = copy.deepcopy(form)
    other[key]["inputs"]["script"] = script[:last] + "prompt: It rests.\n"
    yield "new prompt in 3", *timed(host, other)
    takes = copy.deepcopy(form)
    takes[key]["inputs"]["script"] = script[:last] + "prompt: It rests.\n    takes: 10\n"
    yield "ten takes", *timed(host, takes)
    stopped = with_seed(form, 500)
    stopped[key]["inputs"]["folder"] = "journeys/two"
    timed(host, stopped, 0.5)
    yield "cancel, and go on", *timed(host, stopped)


def main() -> None:
    from ltx2.tiny.write import write_tiny

    if not hosting.available():
        sys.exit(hosting.NO_HOST)
    with tempfile.TemporaryDirectory() as folder:
        files = functools.cache(lambda version: write_tiny(Path(folder) / version, version))
        base = real.make_base(Path(folder) / "host", files, native=True)
        real.put_inputs(base)
        mini_templates.put_inputs(base)
        with real.running(base) as host:
            cold = timed(host, mini_templates.with_mini("first_steps", real.api_workflow("first_steps")))
            print(f"the first run of a fresh server: {cold[0]:.1f} s, {cold[1]:.1f} s")
            for journey, name in MADE.items():
                mini_templates.prepare(name, host.base)
                form = mini_templates.with_mini(name, real.api_workflow(name))
                first, done = min(timed(host, with_seed(form, seed)) for seed in (101, 202))
                print(f"{journey} ({name}): {first:.1f} s, {done:.1f} s", flush=True)
            for journey, first, done in story_journeys(host):
                print(f"{journey} (story): {first:.1f} s, {done:.1f} s", flush=True)


if __name__ == "__main__":
    main()
