"""``--enhance``: a language model writes the prompt out before the clip is made."""

import argparse
from collections.abc import Callable

from ... import mini
from ...errors import RequestError
from ...stages.given.enhanced import enhanced_request
from ...stages.models import Models
from ...stages.request import Request
from ...text.writer import load_writer
from ...values import Progress
from .. import options


def add_enhance_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verbs that make one clip."""
    group = parser.add_argument_group("prompt")
    group.add_argument(
        "--enhance",
        action="store_true",
        help=(
            "have a fuller prompt written first, by the text encoder itself (Gemma 3); the same seed writes the same, "
            "and the film's metadata keep it"
        ),
    )
    group.add_argument(
        "--enhancer",
        metavar="PATH",
        help="a second Gemma that writes, which LTX-2.5 needs: a Hugging Face folder, or one file",
    )


def with_enhanced_prompt(
    args: argparse.Namespace,
    models: Models,
    request: Request,
    *,
    going_on: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Request:
    """The request as it is, or with the prompt that was written for it, which is told. going_on: it starts from
    pictures that there are. Raises RequestError and CheckpointError for an enhancer that cannot write."""
    if not args.enhance:
        if args.enhancer:
            raise RequestError("--enhancer writes prompts for --enhance: add it, or leave --enhancer out")
        return request
    if not args.enhancer and options.model_files(args)[1] == mini.TEXT_ENCODER:
        raise RequestError("mini reads prompts and cannot write them: name a Gemma with --enhancer")
    writer = None
    if args.enhancer:
        writer = load_writer(
            args.enhancer,
            device=args.device or options.default_device(),
            dtype=options.DTYPES[args.dtype or "bf16"],
        )
    request, made = enhanced_request(models, request, writer, going_on=going_on, progress=progress)
    options.log(f"prompt by {made.writer}, seed {made.seed}: {made.text}")
    return request
