"""``--drift``: what is done against drift from segment to segment."""

import argparse
from dataclasses import replace

from ...errors import RequestError
from ...film.drift import DRIFT_NAMES, MEASURED, DriftControl, control_of
from ...story.script import StoryScript
from .. import options


def add_drift_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--drift``, for verbs whose segments go on from others."""
    parser.add_argument(
        "--drift",
        action="append",
        default=[],
        metavar="NAME=SHARE,…",
        help=(
            "against slow drift, each 0 to 1 and off by default: strength=0.95,settles=0.9 lets segments repair what "
            "they start from; colour, contrast and loudness take that much of the difference to the scene's beginning "
            "back in it; latent does so in each latent channel; anchor shows the scene's first segment that firmly"
        ),
    )


def said_of_drift(args: argparse.Namespace) -> dict[str, float]:
    """The values that a command line gives, by name. Raises RequestError."""
    said: dict[str, float] = {}
    for part in ",".join(args.drift).split(",") if args.drift else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in DRIFT_NAMES:
            raise RequestError(
                f"--drift has {part.strip()[:40]!r}, expected NAME=SHARE such as colour=0.5 with a name of "
                f"{', '.join(DRIFT_NAMES)}"
            )
        if name in said:
            raise RequestError(f"--drift has {name} twice: keep one")
        try:
            said[name] = options.number(value)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise RequestError(f"--drift has {name}={value[:20]!r}, expected a number from 0 to 1") from error
    return said


def drift_from(args: argparse.Namespace) -> DriftControl | None:
    """What a command line does against drift. Raises RequestError."""
    return control_of(said_of_drift(args))


def drift_to_measure(args: argparse.Namespace) -> DriftControl | None:
    """What the state of a scene's first segment is to hold. Raises RequestError for what is not of a first segment."""
    control = drift_from(args)
    if control is None:
        return None
    others = [name for name in said_of_drift(args) if name not in MEASURED]
    if others:
        raise RequestError(
            f"--drift {others[0]} begins with the clip that goes on from this one: give it to ltx2 continue, and here "
            f"{' and '.join(MEASURED)} alone, which are measured"
        )
    if not args.save_state or args.samples != 1:
        fix = "add --save-state" if not args.save_state else "leave --samples out"
        raise RequestError(f"--drift measures one clip for what goes on from its state: {fix}")
    return control


def with_said_of_drift(args: argparse.Namespace, said: dict) -> dict:
    """What a film says about how it was made, with what was done against drift."""
    drift = said_of_drift(args)
    return {**said, "ltx2": {**said["ltx2"], "drift": drift}} if drift else said


def with_drift(args: argparse.Namespace, script: StoryScript) -> StoryScript:
    """A story as its script says, with the values of the command line in place of the script's.
    Raises RequestError."""
    said = said_of_drift(args)
    if not said:
        return script
    return replace(script, drift=control_of(({} if script.drift is None else script.drift.said) | said))
