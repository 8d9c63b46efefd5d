"""Curves of a training run as pictures, where matplotlib is there."""

from pathlib import Path

from .logs import read_log

KINDS = ("anew", "withheld", "picture", "short", "long", "story, segment 3")


def draw(log: Path, folder: Path) -> list[Path]:
    """loss.png and metrics.png from a log; nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no matplotlib: no curves")
        return []
    lines = read_log(log)
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


def draw_codec(folder: Path, out: Path) -> list[Path]:
    """codec.png from the logs of both halves; nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for half in ("decoder", "encoder"):
        lines = read_log(folder / f"{half}.jsonl")
        axes.plot([line["step"] for line in lines], [line["loss"] for line in lines], label=half)
    axes.set(xlabel="steps", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(out / "codec.png", dpi=100)
    return [out / "codec.png"]
