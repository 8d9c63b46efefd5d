"""``python -m ltx2`` is the ``ltx2`` command."""

import gc
import os
import signal
import sys

INTERRUPTED, ALARM_SECONDS = 130, 8.0
# as in parallel.ranks, which is not there yet when it is asked for
LAUNCHER_VARIABLE = "LTX2_RANKS_LAUNCHER"


def main() -> int:
    """The command; an interruption while its parts are being imported, which takes seconds, ends it as any other."""
    try:
        gc.disable()  # what is imported stays: looking through it again and again takes a tenth of the start
        try:
            from .cli import main as run
        finally:
            gc.freeze()
            gc.enable()
        status = run()
    except KeyboardInterrupt:
        if LAUNCHER_VARIABLE not in os.environ:  # the launcher says it, once for all
            sys.stderr.write("ltx2: interrupted\n")
        status = INTERRUPTED
    if status == INTERRUPTED and hasattr(signal, "setitimer"):
        # the system ends the process, whatever a library's threads still do as the interpreter closes
        signal.setitimer(signal.ITIMER_REAL, ALARM_SECONDS)
    return status


if __name__ == "__main__":
    sys.exit(main())
