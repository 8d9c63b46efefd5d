"""Options of reference voices, for ID-LoRAs."""

import argparse
from dataclasses import replace

from ...errors import RequestError
from ...media import read_sound
from ...stages.request import Request
from ...values import VoiceCondition
from .. import options


def add_voice_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of reference voices, for verbs that make a segment."""
    group = parser.add_argument_group("reference voice (with an ID-LoRA, see --lora)")
    group.add_argument(
        "--voice", metavar="FILE", help="about 5 s of speech, a sound or a film: people speak with this voice"
    )
    group.add_argument(
        "--identity",
        type=options.number,
        metavar="SCALE",
        help=f"how strongly each step goes towards that voice (default {VoiceCondition.identity:g}), one more pass a "
        "step; 0: none",
    )


def with_voice(args: argparse.Namespace, request: Request) -> Request:
    """A request with the voice of a command line. Raises RequestError and MediaError."""
    if not args.voice:
        if args.identity is not None:
            raise RequestError("--identity says how strongly --voice counts: give that too, or leave it out")
        return request
    identity = VoiceCondition.identity if args.identity is None else args.identity
    return replace(request, voice=VoiceCondition(read_sound(args.voice), identity))
