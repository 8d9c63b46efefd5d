"""``--draft``: a quick look at what a command makes, and the tiny autoencoder that draws it."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import mini
from ..checkpoint.models import load_tiny_decoder
from ..checkpoint.reader import open_checkpoint
from ..errors import CheckpointError, RequestError

TINY_NAMES = "taeltx*.safetensors"
HOST_FOLDER = "vae_approx"  # where ComfyUI keeps them, beside the folders of checkpoints
LEVELS = 3  # a checkpoint may lie in folders of folders


def add_draft_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of drafts, for verbs that make films."""
    group = parser.add_argument_group("draft")
    group.add_argument(
        "--draft",
        action="store_true",
        help=(
            "a quick look at this very film: the first of two stages alone, enlarged, without the upsampler; or half "
            "of the steps of a single stage"
        ),
    )
    group.add_argument(
        "--tiny-decoder",
        metavar="FILE",
        help=(
            "tiny autoencoder that draws the draft (default: a taeltx….safetensors beside the checkpoint or in "
            "ComfyUI's vae_approx; without one, the model's own decoder)"
        ),
    )


def tiny_decoder_of(args: argparse.Namespace, checkpoints: Sequence[str | Path]) -> str | Path | None:
    """The tiny autoencoder that draws a command's draft; None: the model's own decoder does. Raises RequestError."""
    if args.tiny_decoder and not args.draft:
        raise RequestError("--tiny-decoder draws drafts: add --draft, or leave it out")
    if args.tiny_decoder and mini.CHECKPOINT in checkpoints:
        raise RequestError("mini has latents of its own, which no tiny autoencoder knows: leave --tiny-decoder out")
    if args.tiny_decoder or not args.draft or mini.CHECKPOINT in checkpoints:
        return args.tiny_decoder
    return next(filter(_fits, _found(checkpoints)), None)


def _found(checkpoints: Sequence[str | Path]) -> Iterator[Path]:
    """Files that are called like tiny autoencoders, newest release first."""
    for path in map(Path, checkpoints):
        above = path.absolute().parents[: LEVELS + 1]
        for folder in (above[0], *(one / HOST_FOLDER for one in above)):
            yield from sorted(folder.glob(TINY_NAMES), reverse=True)


def _fits(path: Path) -> bool:
    try:
        load_tiny_decoder(open_checkpoint(path))
    except CheckpointError:
        return False
    return True
