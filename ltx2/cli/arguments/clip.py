"""The options of the verbs that make one clip, and the request that they mean."""

import argparse
from collections.abc import Callable

from ...stages.models import Models
from ...stages.request import Request
from ...values import Progress
from .. import options
from ..drafts import add_draft_arguments
from .double_rate import add_double_arguments, with_double_rate
from .drift import add_drift_argument
from .enhance import add_enhance_arguments, with_enhanced_prompt
from .references import add_reference_arguments, with_references
from .slots import add_slot_arguments, with_slots
from .voices import add_voice_arguments, with_voice


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of models, and of everything that may be asked of a clip."""
    options.add_model_arguments(parser)
    add_draft_arguments(parser)
    options.add_request_arguments(parser)
    add_reference_arguments(parser)
    add_voice_arguments(parser)
    add_double_arguments(parser)
    add_slot_arguments(parser)
    add_drift_argument(parser)
    add_enhance_arguments(parser)


def clip_request(
    args: argparse.Namespace,
    models: Models,
    progress: Callable[[Progress], None],
    *,
    opened: Callable[[Request], Request] = lambda asked: asked,
    going_on: bool = False,
) -> Request:
    """The request that those options mean.

    opened: completes a request with what the film or state says that it goes on from. going_on: a prompt is written out
    as that of a shot that starts from pictures. Raises RequestError, MediaError and CheckpointError.
    """
    request = with_double_rate(args, options.request_from(args, models, args.prompt, opened))
    request = with_slots(args, request)
    request = with_voice(args, with_references(args, models, request, opened))
    return with_enhanced_prompt(args, models, request, going_on=going_on, progress=progress)
