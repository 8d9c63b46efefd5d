"""Single settings of the stages: ``--nag``, ``--eta``, ``--image-strength``, ``--override`` and what they mean."""

import argparse
from typing import Any

import numpy as np

from ...stages.presets import parse_override, setting_overrides


def number(text: str) -> float:
    """A finite number from an option's text. Raises ValueError and ArgumentTypeError."""
    value = float(text)
    if not np.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def strengths(text: str) -> tuple[float, float]:
    """One number for both stages, or ``FIRST,SECOND``. Raises ValueError and ArgumentTypeError."""
    found = [number(part) for part in text.split(",")]
    if len(found) > 2:
        raise argparse.ArgumentTypeError(f"{text} has {len(found)} numbers, expected one, or one for each stage")
    return found[0], found[-1]


def add_setting_arguments(group: argparse._ArgumentGroup) -> None:
    """Options of single settings that hold for both stages."""
    group.add_argument(
        "--nag",
        type=number,
        metavar="SCALE",
        help="make the negative prompt count without guidance, such as on a distilled model: 11 is usual, 0 is off",
    )
    group.add_argument("--nag-alpha", type=number, metavar="SHARE", help="how much of --nag is taken, 0 to 1 (0.25)")
    group.add_argument("--nag-tau", type=number, metavar="TIMES", help="how far --nag may go, 1 or more (2.5)")
    group.add_argument(
        "--eta",
        type=number,
        metavar="SHARE",
        help="how much of the noise ancestral samplers draw anew at each step, in both stages: 1 all, 0 none",
    )
    group.add_argument(
        "--image-strength",
        type=strengths,
        metavar="FIRST[,SECOND]",
        help="how firmly pictures are kept in each stage, times their own strength: 0.7,1 in the official templates",
    )


def overrides_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Overrides by stage and name. Raises RequestError."""
    overrides = setting_overrides(
        nag=(args.nag, args.nag_alpha, args.nag_tau), eta=args.eta, image_strength=args.image_strength
    )
    for name, value in (("num_inference_steps", args.steps), ("guidance_scale", args.guidance)):
        if value is not None:
            overrides.setdefault("denoise", {})[name] = value
    for text in args.override:
        stage, name, value = parse_override(text)
        overrides.setdefault(stage, {})[name] = value
    return overrides
