"""Options that double the frame rate of what is made."""

import argparse
from dataclasses import replace

from ...errors import RequestError
from ...stages.request import Request


def add_double_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the doubled frame rate, for verbs that make films."""
    group = parser.add_argument_group("frame rate (experimental)")
    group.add_argument(
        "--double-rate",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="ROUNDS",
        help=(
            "double the frame rate of what is made: 24 become 48 frames per second, in 2 rounds 96 (1 round unless a "
            "number follows). --fps, --frames and all places are those of before, and so is the state for the next "
            "segment"
        ),
    )
    group.add_argument(
        "--temporal-upsampler", metavar="FILE", help="temporal x2 latent upsampler, which --double-rate needs"
    )


def with_double_rate(args: argparse.Namespace, request: Request) -> Request:
    """A request with the frame rate that a command line asks for. Raises RequestError for half of what it takes."""
    check_double_arguments(args)
    return replace(request, double_rate=args.double_rate)


def check_double_arguments(args: argparse.Namespace) -> None:
    """Raises RequestError for a file that nothing asks for."""
    if args.temporal_upsampler and not args.double_rate:
        raise RequestError("--temporal-upsampler doubles the frame rate: add --double-rate, or leave it out")
