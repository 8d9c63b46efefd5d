"""The ``ltx2`` command. Each verb is a module of this package with ``add_parser(subparsers)`` and ``run(args)``."""

import argparse
import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Callable

from .. import __version__
from ..errors import Ltx2Error, Ltx2Warning, RequestError, sentence_of
from ..parallel.parents import LOST
from ..parallel.ranks import follows, launched
from .ranks import is_lost_rank, run_verb
from .report import UNREAD, is_unread, open_streams, print_result

# The order of the help page.
VERBS = ("generate", "story", "continue_", "films.retake", "films.dub", "sound", "inspect", "state", "tiny", "demo")
FREE_TEXTS = ("prompt", "negative")  # what is said, which may be nothing


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Returns the exit status: 0 done, 1 a clear error (one sentence on stderr, and with ``--json`` as a
    document on stdout), 130 interrupted, 141 where nobody reads the result any more. Wrong usage exits with 2."""
    open_streams()
    try:
        return _run(argv)
    except SystemExit:  # the parser's own: help, the version, wrong usage
        if is_unread():
            return UNREAD
        raise


def _run(argv: list[str] | None) -> int:
    parser = _Parser(prog="ltx2", description="Long video with sound on LTX-2.")
    parser.add_argument("--version", action="version", version=f"ltx2 {__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        importlib.import_module(f".{verb}", __name__).add_parser(subparsers)
    args = parser.parse_args(argv)
    warnings.showwarning = _telling()
    try:
        _check_place()
        status = run_verb(args, sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except (Ltx2Error, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError) and is_unread():
            return UNREAD
        lost = is_lost_rank(error)
        message = "another rank of the run has ended: see what it printed" if lost else sentence_of(error)
        if message is None:
            raise
        if lost and launched():  # the launcher says what became of the other one
            _tell_programs(args, message)
            return LOST
        return _failed(args, message)
    except KeyboardInterrupt:
        if not launched():  # the launcher says it, once for all
            _failed(args, "interrupted")
        return 130


def _failed(args: argparse.Namespace, text: str) -> int:
    """Tell why nothing came of a verb. Returns the exit status."""
    print(f"ltx2: {text}", file=sys.stderr)
    _tell_programs(args, text)
    return 1


def _tell_programs(args: argparse.Namespace, error: str) -> None:
    if getattr(args, "json", False) and not follows():
        with contextlib.suppress(OSError):  # of standard output itself
            print_result(args, {"error": error}, ())
        is_unread()  # written out now, if anybody reads it


def _check_place() -> None:
    """Raises RequestError where the working folder is gone, in which libraries end without a word of why."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise RequestError("the folder that this was started in is gone: change to another one") from error


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, not with a page of usage before it."""

    def parse_known_args(self, args=None, namespace=None):
        """As argparse does; an empty text is no name of anything, as a shell writes it for a variable that is not
        set."""
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            given = getattr(found, action.dest, None)
            if "" in (given if isinstance(given, list) else [given]) and action.dest not in FREE_TEXTS:
                name = "/".join(action.option_strings) or action.metavar or action.dest
                self.error(f"argument {name}: expected a value, got an empty text: name one, or leave it out")
        return found, rest

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _telling() -> Callable[..., None]:
    """Shows the engine's warnings, each once for the run, wherever it comes from."""
    printed: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if issubclass(category, Ltx2Warning) and str(message) not in printed:
            printed.add(str(message))
            print(f"ltx2: note: {message}", file=sys.stderr)

    return show
