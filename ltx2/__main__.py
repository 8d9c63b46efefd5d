"""``python -m ltx2`` is the ``ltx2`` command."""

import sys


def main() -> int:
    """The command; an interruption while its parts are being imported, which takes seconds, ends it as any other."""
    try:
        from .cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("ltx2: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
