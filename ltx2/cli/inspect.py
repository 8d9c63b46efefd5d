"""``ltx2 inspect FILE…``: what checkpoints, LoRAs, GGUF files and continuation states hold."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from .. import mini
from ..atomic_files import file_path
from ..checkpoint.folders import INDEX
from ..checkpoint.layout import model_version
from ..checkpoint.lora import read_lora
from ..checkpoint.lora_purpose import purpose_of
from ..checkpoint.lora_report import other_model_notes
from ..checkpoint.reader import Checkpoint, open_checkpoint
from ..checkpoint.summary import is_lora, summarise, summarise_lora
from ..stages.presets.for_loras import preset_for_lora
from .report import add_json_argument, print_result

STATE_SUFFIXES, STATE_FILE = (".png", ".json"), "state.json"
HEADER_PEEK_BYTES = 1 << 16
_FIRST_RELEASE = re.compile(r"ltx[-_]?2[-_.](0|19b)", re.IGNORECASE)


def add_parser(subparsers: Any) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what a checkpoint, LoRA, GGUF or state file holds",
        description=(
            "Show version, components, storage formats and metadata of weight files, which are read as one, and "
            "what is still missing. Nothing but headers is read."
        ),
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="checkpoints, split files, LoRAs, GGUF files, or states; mini: the demonstration model",
    )
    add_json_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print what the named files hold."""
    paths = [Path(mini.checkpoint_path(name)) for name in args.files]
    states = [path for path in paths if is_state(path)]
    weights = [path for path in paths if path not in states]
    opened = [open_checkpoint(path) for path in weights]
    loras = [path for path, one in zip(weights, opened) if is_lora(one.files[0])]
    models = [path for path in weights if path not in loras]
    checkpoint = open_checkpoint(models) if models else None
    found = [_state(path) for path in states]
    if checkpoint is not None:
        found.append(summarise(checkpoint))
    found += [_lora(path, checkpoint) for path in loras]
    print_result(args, found, (line for summary in found for line in lines(summary)))


def _lora(path: Path, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """What a LoRA holds, is for, and runs with."""
    lora = read_lora(path)
    purpose = purpose_of(lora)
    summary = summarise_lora(lora, purpose, checkpoint)
    version = None if checkpoint is None else model_version(checkpoint)
    summary["notes"] += other_model_notes(lora, version)
    old = version[:2] == (2, 0) if version else bool(_FIRST_RELEASE.search(path.name))
    wanted = preset_for_lora(purpose, first_release=old)
    if wanted is not None:
        name, model = wanted
        summary |= {"preset": name, "model": model}
    return summary


def is_state(path: Path) -> bool:
    """Whether a path is meant as a state: a folder with one, a picture, JSON, or safetensors with its metadata."""
    if file_path(path) is None:
        return False
    if path.is_dir():
        return (path / STATE_FILE).exists()
    if path.suffix.lower() in STATE_SUFFIXES and not path.name.lower().endswith(INDEX):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_PEEK_BYTES)
    except OSError:
        return False
    return start[8:9] == b"{" and b'"payload"' in start and b'"kind"' in start and b'"__metadata__"' in start


def _state(path: Path) -> dict:
    from ..continuation import describe_attachment

    return {"file": str(path), "kind": "continuation state", **describe_attachment(path)}


def lines(summary: dict) -> list[str]:
    """A summary as lines of text."""
    if "components" not in summary:
        return [f"{name}: {_plain(value)}" for name, value in summary.items() if value not in (None, {}, [])]
    out = []
    for file in summary["files"]:
        out.append(f"{file['path']}: {_size(file['bytes'])}, {file['tensors']} tensors")
        out += [f"  {key}: {text}" for key, text in file["metadata"].items()]
    if summary["version"]:
        out.append(f"version {summary['version']} ({summary['release']})")
    for name, part in summary["components"].items():
        stored = ", ".join(f"{count} {kind}" for kind, count in part["stored"].items())
        out.append(
            f"  {name.replace('_', ' ')}: {part['tensors']} tensors, {_count(part['parameters'])} parameters, "
            f"{_size(part['bytes'])} ({stored}) in {', '.join(part['files'])}"
        )
    if "note" in summary:
        out.append(summary["note"])
    if summary["missing"] and summary["components"]:
        out.append("not in these files:")
        out += [f"  {name.replace('_', ' ')}: in {home}" for name, home in summary["missing"].items()]
    return out


def _plain(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _size(count: int) -> str:
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.2f} {unit}"
    return f"{count} bytes"


def _count(number: int) -> str:
    for unit, step in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= step:
            return f"{number / step:.2f} {unit}"
    return str(number)
