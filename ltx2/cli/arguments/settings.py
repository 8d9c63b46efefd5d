"""Single settings of the stages: ``--nag``, ``--eta``, ``--image-strength``, ``--override`` and what they mean."""

import argparse
from typing import Any

import numpy as np

from ...errors import RequestError
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
    """Add the options of single settings that hold for both stages."""
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
    """Overrides by stage and name. Raises RequestError for two values of one setting, and for what is said of pictures
    where there are none."""
    if args.image_strength is not None and not args.image and "anchor" not in ",".join(getattr(args, "drift", [])):
        raise RequestError("--image-strength says how firmly --image is kept: add that, or leave it out")
    overrides = setting_overrides(
        nag=(args.nag, args.nag_alpha, args.nag_tau), eta=args.eta, image_strength=args.image_strength
    )
    # an option of all stages may be said again of one of them, one of a single stage may not
    said: dict[tuple[str, str], tuple[str, Any]] = {}
    for option, name, value in (
        ("--steps", "num_inference_steps", args.steps),
        ("--guidance", "guidance_scale", args.guidance),
    ):
        if value is not None:
            said["denoise", name] = option, value
    for text in args.override:
        stage, name, value = parse_override(text)
        option, before = said.setdefault((stage, name), ("--override", value))
        if before is not value and before != value:
            raise RequestError(f"{option} has {stage}.{name} as {before} and --override as {value}: keep one")
    for (stage, name), (_, value) in said.items():
        overrides.setdefault(stage, {})[name] = value
    return overrides
