"""The option of keyframes that a model makes beside a clip."""

import argparse
import re
from dataclasses import replace

from ...stages.conditioning.slots import MOST_SLOTS
from ...stages.request import Request


def add_slot_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of keyframe slots, for verbs that make a segment."""
    parser.add_argument(
        "--keyframe-slots",
        type=slots_from,
        default=0,
        metavar="N | FRAME,FRAME…",
        help=(
            "LTX-2.5: so many keyframes, or those at these frames, are made beside the clip in the first stage and "
            "hold it together; each costs as much as one latent frame"
        ),
    )


def slots_from(text: str) -> int | tuple[int, ...]:
    """A number of slots, or their frames, from an option's text. Raises ArgumentTypeError."""
    if re.fullmatch(r"\d{1,3}", text.strip()):
        return int(text)
    if re.fullmatch(r"\s*\d{1,6}\s*(,\s*\d{1,6}\s*)*,?\s*", text):
        return tuple(int(one) for one in text.split(",") if one.strip())
    raise argparse.ArgumentTypeError(f"{text!r}, expected a number up to {MOST_SLOTS}, or frames such as 24,48")


def with_slots(args: argparse.Namespace, request: Request) -> Request:
    """A request with the keyframe slots of a command line."""
    return replace(request, keyframe_slots=args.keyframe_slots)
