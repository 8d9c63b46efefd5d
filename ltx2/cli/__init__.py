"""The ``ltx2`` command. Each verb is a module of this package with ``add_parser(subparsers)`` and ``run(args)``."""

import argparse
import importlib
import io
import sys
import warnings

from .. import __version__
from ..errors import Ltx2Error, Ltx2Warning, is_out_of_memory, one_line
from ..parallel.ranks import launched
from .ranks import is_lost_rank, run_verb

# The order of the help page.
VERBS = ("generate", "story", "continue_", "films.retake", "films.dub", "sound", "inspect", "state", "tiny", "demo")


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Returns the exit status: 0 done, 1 a clear error (one sentence on stderr), 130 interrupted."""
    parser = _Parser(prog="ltx2", description="Long video with sound on LTX-2.")
    parser.add_argument("--version", action="version", version=f"ltx2 {__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        importlib.import_module(f".{verb}", __name__).add_parser(subparsers)
    args = parser.parse_args(argv)
    warnings.showwarning = _show_warning
    _print_anything()
    try:
        return run_verb(args, sys.argv[1:] if argv is None else argv)
    except Ltx2Error as error:
        print(f"ltx2: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"ltx2: {one_line(f'{where}{error.strerror or error}')}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if is_lost_rank(error):
            print("ltx2: another rank of the run has ended: see what it printed", file=sys.stderr)
            return 1
        if not is_out_of_memory(error):
            raise
        print(
            "ltx2: the device has too little memory: make it smaller or shorter, or add --offload layers",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        if not launched():  # the launcher says it, once for all
            print("ltx2: interrupted", file=sys.stderr)
        return 130


def _print_anything() -> None:
    """A letter that the console or a file beside it does not know is spelled, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, not with a page of usage before it."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    if issubclass(category, Ltx2Warning):
        print(f"ltx2: note: {message}", file=sys.stderr)
