"""Started instead of ``-m ltx2`` by tests: notes which files a rank opens, then runs the command line."""

import os
import sys

from ltx2.cli import main


def note(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".safetensors"):
        with open(os.environ["OPENED_FILES"] + os.environ.get("RANK", ""), "a") as log:
            log.write(arguments[0] + "\n")


if __name__ == "__main__":
    sys.addaudithook(note)
    sys.exit(main(sys.argv[1:]))
