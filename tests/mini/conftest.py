"""Commands of these tests load the demonstration model once: what it makes is looked at here, not how it is read."""

import pytest

from ltx2.cli import options

KNOWN: dict = {}


@pytest.fixture(autouse=True, scope="module")
def loaded_once():
    """What was loaded for a command is there for the next one with the same files and settings."""
    load = options.load_models

    def again(checkpoints, *, progress=None, **how):
        key = repr((checkpoints, sorted(how.items(), key=str)))
        if key not in KNOWN:
            KNOWN[key] = load(checkpoints, progress=progress, **how)
        return KNOWN[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "load_models", again)
        yield
