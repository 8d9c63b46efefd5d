"""``python -m ltx2`` is the ``ltx2`` command."""

import sys


def main() -> int:
    """The command; an interruption while its parts are being imported, which takes seconds, ends it as any other."""
    try:
        from .cli import main as run

        return run()
    except KeyboardInterrupt:
        print("ltx2: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
