"""Models that one command loaded and the next ones have: what they make is looked at, not how they are read."""

import contextlib
from collections.abc import Iterator

import pytest

from ltx2.cli import options

KNOWN: dict = {}  # of this process, whichever its tests are


@contextlib.contextmanager
def loaded_once(but: str | None = None) -> Iterator[None]:
    """What was loaded for a command is there for the next one with the same files and settings. but: a folder with
    files that may change, which are read each time."""
    load = options.load_models

    def again(checkpoints, *, progress=None, **how):
        key = repr((checkpoints, sorted(how.items(), key=str)))
        if but is not None and but in key:
            return load(checkpoints, progress=progress, **how)
        if key not in KNOWN:
            KNOWN[key] = load(checkpoints, progress=progress, **how)
        return KNOWN[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "load_models", again)
        yield
