"""``--enhance``: a language model writes prompts out before anything is made of them."""

import argparse
from collections.abc import Callable

from ... import mini
from ...errors import RequestError
from ...stages.given.enhanced import enhanced_request
from ...stages.models import Models
from ...stages.request import Request
from ...story.enhancing import Enhancer, pipeline_enhancer
from ...story.script import StoryScript
from ...text.writer import PromptWriter, load_writer
from ...values import Progress
from .. import options


def add_enhance_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of fuller prompts, for verbs that make clips."""
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
    check_enhancer(args, args.enhance)
    if not args.enhance:
        return request
    request, made = enhanced_request(models, request, second_writer(args), going_on=going_on, progress=progress)
    options.log(f"prompt by {made.writer}, seed {made.seed}: {made.text}")
    return request


def story_enhancer(
    args: argparse.Namespace, models: Models, script: StoryScript, progress: Callable[[Progress], None] | None = None
) -> Enhancer | None:
    """What writes a story's prompts out, where it asks for that. Raises RequestError and CheckpointError for an
    enhancer that cannot write."""
    return pipeline_enhancer(models, second_writer(args), progress=progress) if script.is_enhanced else None


def check_enhancer(args: argparse.Namespace, wanted: bool) -> None:
    """Raises RequestError for an enhancer that nothing asks for, and where the text encoder is known to read only."""
    if not wanted and args.enhancer:
        raise RequestError("--enhancer writes prompts for --enhance: add it, or leave --enhancer out")
    if wanted and not args.enhancer and options.model_files(args)[1] == mini.TEXT_ENCODER:
        raise RequestError("mini reads prompts and cannot write them: name a Gemma with --enhancer")


def second_writer(args: argparse.Namespace) -> PromptWriter | None:
    """The second Gemma of a command line, loaded; None: the text encoder itself writes."""
    if not args.enhancer:
        return None
    device, dtype = args.device or options.default_device(), options.DTYPES[args.dtype or "bf16"]
    return load_writer(args.enhancer, device=device, dtype=dtype)
