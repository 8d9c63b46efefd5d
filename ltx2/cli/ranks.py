"""A verb on one process, or on several ranks that work together: started by ``--gpus N`` or by torchrun."""

import argparse
import sys
import warnings
from collections.abc import Sequence

import torch

from .. import mini
from ..checkpoint.models import transformer_heads
from ..checkpoint.reader import open_checkpoint
from ..errors import RequestError, sentence_of
from ..parallel.launch import launch
from ..parallel.ranks import Ranks, backend_of, follows, given_ranks, joined
from ..parallel.together import Driver, check_size, follow
from . import options
from .arguments.results import check_results


def run_verb(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run a verb where it belongs. Returns the exit status; errors are the verb's own."""
    if not hasattr(args, "gpus"):
        # a verb that makes nothing: once is enough, whoever started us
        return 0 if follows() else args.run(args) or 0
    size = given_ranks()
    if size is None:
        if args.gpus == 1:
            check_results(args)
            return args.run(args) or 0
        _check(args, args.gpus)
        return launch(argv, args.gpus, options.log)
    if size == 1:
        check_results(args)
        return args.run(args) or 0
    with joined(args.device or options.default_device()) as ranks:
        args.device = str(ranks.device)
        return _drive(args, ranks) if ranks.drives else _follow(args, ranks)


def is_lost_rank(error: BaseException) -> bool:
    """Whether a collective broke because another process of the run is gone."""
    if not isinstance(error, RuntimeError) or (given_ranks() or 1) == 1:
        return False
    text = str(error)
    return type(error).__name__.startswith("Dist") or any(word in text for word in ("gloo", "NCCL", "Connection"))


def _check(args, size: int) -> None:
    """What can be known before any rank starts: the GPUs that there are, and the heads of the model."""
    check_results(args)
    if getattr(args, "workers", 1) != 1:
        raise RequestError(
            "--workers makes several segments at once, --gpus one segment on several GPUs: give one of them"
        )
    device = torch.device(args.device or options.default_device())
    count = torch.cuda.device_count()
    if size > 1:
        backend_of(device)
    if device.type == "cuda" and size > count:
        raise RequestError(f"--gpus is {size}, this machine has {count}: use {count} or fewer")
    check_size(size, transformer_heads(open_checkpoint([mini.checkpoint_path(name) for name in args.checkpoint])))


def _drive(args, ranks: Ranks) -> int:
    _check(args, ranks.size)
    args.driver = Driver(ranks)
    try:
        return args.run(args) or 0
    finally:
        args.driver.end()


def _follow(args, ranks: Ranks) -> int:
    # the first rank tells what there is to tell
    warnings.simplefilter("ignore")
    args.text_encoder, args.follows = None, True
    try:
        if hasattr(args, "before_loading"):
            args.before_loading(args)
        follow(options.load(args), ranks)
    except Exception as error:
        message = None if is_lost_rank(error) else sentence_of(error)
        if message is None:
            raise
        print(f"ltx2: rank {ranks.rank}: {message}", file=sys.stderr)
        return 1
    return 0
