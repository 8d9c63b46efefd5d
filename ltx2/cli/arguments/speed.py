"""Options of how fast and in how much memory: they change neither picture nor sound."""

import argparse
import re
from typing import Any

from ...errors import RequestError
from ...networks.layers.attention_ways import SDPA, WAYS
from ...stages.models import OFFLOADS
from ...text.context_folder import DEFAULT_LIMIT_BYTES

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{mark}": base**power
    for power, letter in enumerate("KMGT", 1)
    for mark, base in (("", 1024), ("iB", 1024), ("B", 1000))
}


def add_memory_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of where networks lie while they work."""
    group.add_argument(
        "--offload",
        choices=OFFLOADS,
        help=(
            "stage: a network is on the device only while its stage runs (default); layers: large ones layer by "
            "layer, for cards smaller than the model; none: all of them all the time"
        ),
    )
    group.add_argument(
        "--memory",
        metavar="SIZE",
        type=byte_size,
        help="of the device's memory, what may be taken, such as 12GiB: plans what stays on it, and tells the plan",
    )


def add_cache_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of the prompt cache, for verbs that read prompts."""
    group.add_argument(
        "--cache",
        metavar="DIR",
        help="folder that keeps what prompts became: one that comes again, in any run, does not open the text encoder",
    )
    group.add_argument(
        "--cache-limit",
        metavar="SIZE",
        type=byte_size,
        help="how much --cache may hold, such as 500MiB; the longest unused goes (default 4GiB)",
    )


def add_compile_argument(group: argparse._ArgumentGroup) -> None:
    """Add ``--compile``, for verbs that denoise."""
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the transformer's blocks when they first run on a clip of 8192 tokens or more, which pays over "
        "many long segments alone (CUDA; not with --offload layers, --keep-quantized or --gpus)",
    )


def check_compile_argument(args: argparse.Namespace) -> None:
    """Raise RequestError where ranks would exchange tokens inside of compiled blocks."""
    if args.compile and getattr(args, "gpus", 1) > 1:
        raise RequestError(f"--compile is for one GPU, --gpus is {args.gpus}: leave one of the two out")


def add_attention_argument(group: argparse._ArgumentGroup) -> None:
    """Add ``--attention``, the kernel that networks of tokens attend with."""
    group.add_argument(
        "--attention",
        default=SDPA,
        metavar="WAY",
        help=(
            f"how attention is computed: {', '.join(WAYS)} (default sdpa, torch's choice; flash and sage are packages "
            "that are installed beside, and sage rounds to 8 bits)"
        ),
    )


def speed_of(args: argparse.Namespace) -> dict[str, Any]:
    """The pipeline's settings that a command line means. Raises RequestError."""
    if args.cache_limit is not None and args.cache is None:
        raise RequestError("--cache-limit bounds what --cache keeps: add --cache DIR, or leave it out")
    return {"attention": args.attention, "cache": args.cache, "cache_bytes": args.cache_limit or DEFAULT_LIMIT_BYTES}


def byte_size(text: str) -> int:
    """Bytes of a text such as 12GiB, 12G, 12GB or 1.5 GiB; G alone counts by 1024. Raises ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) ?([KMGT]?(?:i?B)?)", text.strip(), re.IGNORECASE)
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    size = int(float(found[1]) * units.get(found[2].lower(), 0)) if found else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, expected one such as 12GiB or 500MB")
    return size
