"""Where results go: over nothing that a command line reads, and not over each other."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from ...checkpoint.stage_loras import lora_choice
from ...errors import RequestError
from .. import options

# What is read, by the name of its argument; a verb has some of them. What a verb starts from it looks at itself: a
# state may take the place of the one that it follows.
READ = (
    *("image", "audio", "voice", "reference", "reference_mask", "mask", "script"),
    *("checkpoint", "text_encoder", "lora", "upsampler", "refine_lora", "temporal_upsampler", "tiny_decoder"),
    "enhancer",
)


def check_results(args: argparse.Namespace) -> None:
    """Raises RequestError for a result that would be written over what is read, or over another result."""
    count = max(getattr(args, "samples", None) or 1, 1)
    places = {"--out": getattr(args, "out", None), "--save-state": getattr(args, "save_state", None)}
    taken: dict[str, str] = {}
    for option, place in places.items():
        for index in range(count if place else 0):
            path = str(options.numbered(place, index, count))
            if _real(path) in taken:
                raise RequestError(f"cannot write {path}: {taken[_real(path)]} goes there too, use another name")
            taken[_real(path)] = option
    for name, file in _read(args):
        option = next((taken[one] for one in taken if _same(one, file)), None)
        if option:
            what = f"what --{name} names".replace("_", "-") if name != "script" else "the script"
            raise RequestError(f"cannot write {file}: it is {what}, give {option} another name")


def _read(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Names and files of everything that a command line reads."""
    split = {
        "image": lambda text: options.split_image(text)[0],
        "reference": lambda text: options.split_strength(text)[0],
        "lora": lambda text: str(lora_choice(text).path),
    }
    for name in READ:
        given = getattr(args, name, None)
        for text in given if isinstance(given, list) else [given] if given else []:
            yield name, split.get(name, str)(text)


def _real(path: str) -> str:
    return os.path.realpath(path)


def _same(place: str, file: str) -> bool:
    if place == _real(file):
        return os.path.lexists(file)
    return os.path.exists(place) and os.path.exists(file) and Path(place).samefile(file)
