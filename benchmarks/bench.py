"""How this package grows, beside what is published: ``make bench``, or ``python -m benchmarks.bench --out DIR``.

Each topic is measured at several sizes, this package and its peers in turn in one process, and the smallest of the
rounds counts; times are the process's own on one core. What grows is shown by the exponent of a straight line through
the logarithms: 1 is in proportion. Writes ``bench.json``, ``bench.md`` and, where matplotlib is, ``bench.png``.
``--impl NAME=module:attribute`` adds another implementation, as ``peers.py`` is one.
"""

import argparse
import importlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import bench_topics
from .bench_topics import TOPICS, Topic


@dataclass(frozen=True)
class Cell:
    """One implementation at one size. seconds: the smallest of the rounds."""

    topic: str
    axis: str
    size: int
    name: str
    seconds: float
    rounds: int


def measured(topic: Topic, names: dict[str, Callable[[], Any]], sizes: tuple[int, ...], rounds: int) -> Iterator[Cell]:
    """The cells of a topic; implementations that are not installed are left out."""
    for size in sizes:
        runs = {}
        for name, make in names.items():
            run = topic.prepare(name, make, size)
            if run is not None:
                run()  # warm
                runs[name] = run
        best = dict.fromkeys(runs, math.inf)
        for _ in range(rounds):
            for name, run in runs.items():
                best[name] = min(best[name], _seconds(run))
        for name, seconds in best.items():
            yield Cell(topic.name, topic.axis, size, name, seconds, rounds)


def _seconds(run: Callable[[], Any]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def exponent(cells: list[Cell]) -> float | None:
    """Slope of a straight line through the logarithms of sizes and seconds; None for fewer than two sizes."""
    points = [(math.log(cell.size), math.log(max(cell.seconds, 1e-9))) for cell in cells]
    if len(points) < 2:
        return None
    middle = [sum(values) / len(points) for values in zip(*points)]
    across = sum((x - middle[0]) ** 2 for x, _ in points)
    return sum((x - middle[0]) * (y - middle[1]) for x, y in points) / across


def markdown(cells: list[Cell], facts: dict[str, Any]) -> str:
    """Tables of seconds, ratios to the first row and exponents."""
    lines = [", ".join(f"{name} {value}" for name, value in facts.items()) + "."]
    for topic in dict.fromkeys(cell.topic for cell in cells):
        of_topic = [cell for cell in cells if cell.topic == topic]
        sizes = list(dict.fromkeys(cell.size for cell in of_topic))
        lines += ["", f"### {topic}", "", f"| {of_topic[0].axis} | {' | '.join(map(str, sizes))} | exponent |"]
        lines.append("|---" * (len(sizes) + 2) + "|")
        first = of_topic[0].name
        own = {cell.size: cell.seconds for cell in of_topic if cell.name == first}
        for name in dict.fromkeys(cell.name for cell in of_topic):
            row = [cell for cell in of_topic if cell.name == name]
            shown = {cell.size: f"{cell.seconds:.3g} s{_ratio(cell, first, own)}" for cell in row}
            slope = exponent(row)
            texts = (shown.get(size, "–") for size in sizes)
            lines.append(f"| {name} | {' | '.join(texts)} | {'–' if slope is None else f'{slope:.2f}'} |")
    return "\n".join(lines) + "\n"


def _ratio(cell: Cell, first: str, own: dict[int, float]) -> str:
    return "" if cell.name == first or cell.size not in own else f" ({cell.seconds / own[cell.size]:.2f} of {first})"


def plot(cells: list[Cell], path: Path) -> bool:
    """Seconds over size, one picture a topic; False where there is no matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return False
    topics = list(dict.fromkeys(cell.topic for cell in cells))
    rows = (len(topics) + 2) // 3
    figure, axes = pyplot.subplots(rows, 3, figsize=(11, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(topics) :]:
        axis.set_visible(False)
    for axis, topic in zip(axes.flat, topics):
        of_topic = [cell for cell in cells if cell.topic == topic]
        for name in dict.fromkeys(cell.name for cell in of_topic):
            row = [cell for cell in of_topic if cell.name == name]
            axis.loglog([cell.size for cell in row], [cell.seconds for cell in row], "o-", label=name)
        sizes = sorted({cell.size for cell in of_topic})
        axis.set_xticks(sizes, map(str, sizes), minor=False)
        axis.set_xticks([], minor=True)
        axis.set(title=topic, xlabel=of_topic[0].axis, ylabel="seconds")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def implementations(given: list[str]) -> dict[str, dict[str, Callable[[], Any]]]:
    """Topic → name → what makes an implementation: this package's, the published ones', and those that were named.
    Raises ValueError."""
    found = {topic.name: dict(bench_topics.peers(topic.name)) for topic in TOPICS}
    for text in given:
        name, _, place = text.partition("=")
        module, _, attribute = place.partition(":")
        if not (name and module and attribute):
            raise ValueError(f"--impl {text}, expected NAME=module:attribute")
        component = getattr(importlib.import_module(module), attribute)
        for topic, named in found.items():
            made = component(topic)
            if made is not None:
                named[name] = lambda component=component, topic=topic: component(topic)
    return found


def main(arguments: list[str] | None = None) -> list[Cell]:
    """Measure the topics that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", default=",".join(topic.name for topic in TOPICS), metavar="NAMES")
    parser.add_argument("--rounds", type=int, default=3, help="the smallest of so many counts (default 3)")
    parser.add_argument("--smallest", action="store_true", help="two small sizes of each: does it still run?")
    parser.add_argument("--impl", action="append", default=[], metavar="NAME=module:attribute")
    args = parser.parse_args(arguments)
    wanted = args.only.split(",")
    unknown = set(wanted) - {topic.name for topic in TOPICS}
    try:
        named = implementations(args.impl)
    except (ValueError, ImportError, AttributeError) as error:
        parser.error(str(error))
    if unknown:
        parser.error(f"no topic is called {min(unknown)}, expected some of {', '.join(t.name for t in TOPICS)}")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    cells: list[Cell] = []
    for topic in TOPICS:
        if topic.name in wanted:
            sizes = topic.smallest if args.smallest else topic.sizes
            for cell in measured(topic, named[topic.name], sizes, args.rounds):
                cells.append(cell)
                print(f"{cell.topic} {cell.size} {cell.name}: {cell.seconds:.3g} s", file=sys.stderr)
    facts = {"torch": torch.__version__, "python": platform.python_version(), "rounds": args.rounds}
    facts |= bench_topics.versions()
    rows = [vars(cell) for cell in cells]
    (args.out / "bench.json").write_text(json.dumps({"facts": facts, "cells": rows}, indent=1) + "\n", "utf-8")
    report = markdown(cells, facts)
    (args.out / "bench.md").write_text(report, "utf-8")
    plot(cells, args.out / "bench.png")
    print(report)
    return cells


if __name__ == "__main__":
    main()
