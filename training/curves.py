"""Curves of a training run as pictures, where matplotlib is there."""

import json
from pathlib import Path

KINDS = ("anew", "withheld", "picture", "short", "long", "story, segment 3")


def draw(log: Path, folder: Path) -> list[Path]:
    """loss.png and metrics.png from a log; nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no matplotlib: no curves")
        return []
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    losses = [line for line in lines if "video" in line]
    judged = [line for line in lines if "metrics" in line]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("video", "audio"):
        axes.plot([line["seconds"] / 60 for line in losses], [line[name] for line in losses], label=name)
    axes.set(xlabel="minutes", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(folder / "loss.png", dpi=100)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for kind in KINDS:
        minutes = [line["seconds"] / 60 for line in judged]
        axes.plot(minutes, [line["metrics"][kind]["cell"] for line in judged], marker="o", label=kind)
    axes.set(xlabel="minutes", ylabel="cells right", ylim=(0, 1.02))
    axes.legend(loc="lower right")
    figure.savefig(folder / "metrics.png", dpi=100)
    return [folder / "loss.png", folder / "metrics.png"]
