"""Options of reference videos, for IC-LoRAs."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from ...clock import DEFAULT_FPS
from ...errors import RequestError
from ...film.reference_film import reference_frames_of, reference_mask_of
from ...stages.conditioning.references import STAGES
from ...stages.models import Models
from ...stages.request import Request, make_job
from ...values import ReferenceCondition
from .. import options


def add_reference_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of references, for verbs that make a segment."""
    group = parser.add_argument_group("reference video (with an IC-LoRA, see --lora)")
    group.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="control film, or one picture for the whole clip, that the IC-LoRA looks at; may be repeated",
    )
    group.add_argument(
        "--reference-mask",
        action="append",
        default=[],
        metavar="FILE",
        help="film or picture: the reference counts where it is white; one for all references, or one for each",
    )
    group.add_argument(
        "--reference-attention",
        type=options.number,
        default=1.0,
        metavar="SHARE",
        help="how much the clip looks at the reference, 0 to 1 (default 1)",
    )
    group.add_argument(
        "--reference-stages",
        choices=STAGES,
        default="first",
        help="of two stages, which ones see it (default: the first)",
    )
    group.add_argument(
        "--reference-start",
        type=options.number,
        default=0.0,
        metavar="SECONDS",
        help="where in the reference the clip begins, the frames that it repeats included (default 0)",
    )


def with_references(
    args: argparse.Namespace,
    models: Models,
    request: Request,
    opened: Callable[[Request], Request] = lambda asked: asked,
) -> Request:
    """A request with the references of a command line. opened: see ``options.request_from``. Raises RequestError and
    MediaError."""
    if not args.reference:
        return replace(request, references=references_from(args, 1, DEFAULT_FPS))
    size = make_job(models, opened(request), parts=()).geometry
    return replace(request, references=references_from(args, size.frames, size.fps))


def references_from(args: argparse.Namespace, frames: int, fps: Fraction) -> tuple[ReferenceCondition, ...]:
    """The references of a clip of this length and rate. Raises RequestError and MediaError."""
    masks = args.reference_mask
    if not args.reference:
        if masks or args.reference_start or args.reference_attention != 1 or args.reference_stages != "first":
            raise RequestError("a setting of a reference is given without one: add --reference, or leave it out")
        return ()
    if len(masks) not in (0, 1, len(args.reference)):
        raise RequestError(
            f"{len(args.reference)} references and {len(masks)} masks are given: give one mask for all or one for each"
        )
    found = []
    for index, text in enumerate(args.reference):
        path, strength = options.split_strength(text)
        mask = masks[index if len(masks) > 1 else 0] if masks else None
        found.append(
            ReferenceCondition(
                reference_frames_of(path, frames, fps, args.reference_start),
                strength,
                args.reference_attention,
                None if mask is None else reference_mask_of(mask, frames, fps, args.reference_start),
                args.reference_stages,
            )
        )
    return tuple(found)
