"""FastVideo's entry points, each answered by ours, and where the two differ on purpose.

Checked against the tests of FastVideo 2f3d407: the behaviour is theirs, the words are ours.
"""

from collections.abc import Mapping
from typing import Any

from ltx2.continuation import (
    DEFAULT_INLINE_THRESHOLD_BYTES,
    LTX2_CONTINUATION_KIND,
    LTX2_CONTINUATION_SCHEMA_VERSION,
    BlobStore,
    ContinuationState,
    InMemoryBlobStore,
    InMemorySessionStore,
    LTX2ContinuationState,
    SessionStore,
    read_envelope,
    write_envelope,
)
from ltx2.stages import presets

__all__ = [
    "DEFAULT_INLINE_THRESHOLD_BYTES",
    "LTX2_CONTINUATION_KIND",
    "LTX2_CONTINUATION_SCHEMA_VERSION",
    "BlobStore",
    "ContinuationState",
    "InMemoryBlobStore",
    "InMemorySessionStore",
    "LTX2ContinuationState",
    "SessionStore",
]

# What theirs does, what ours does, why. Each is held by the test of the same name in test_differences.py.
DIFFERENCES = {
    "snapshots_are_copies": (
        "a snapshot is the very object that was stored",
        "a snapshot is a copy that equals it",
        "who changes what came out of a store must not change what others get from it",
    ),
    "one_model_family": (
        "presets of every model the program runs, registered at run time, looked up by name and family",
        "presets of LTX-2 alone, an entry in a file each, looked up by name",
        "there is one family here, and a table that cannot change needs no registry",
    ),
    "more_presets": (
        "four presets",
        "the same four, with the same numbers, and more",
        "LTX-2.3, 2.5 and their quality settings came later",
    ),
    "overrides_name_the_setting": (
        "a wrong override is named stage_overrides.denoise.height",
        "it is named denoise.height, as people write it",
        "the same words stand in scripts, on the command line and in the message",
    ),
    "every_stage_takes_overrides": (
        "a stage may take none at all, and says so",
        "both stages take some; an unknown one is refused with the list of known ones",
        "there are two stages, and both have settings",
    ),
    "overrides_are_checked_whole": (
        "only the names of overrides are checked",
        "values are checked as well",
        "what would fail later is refused before anything runs",
    ),
    "requests_carry_no_state": (
        "a request holds the state and a flag to return the next one",
        "a state becomes conditions of a request, and each finished segment can be asked for its state",
        "the engine's request describes one segment; who continues is told in one place",
    ),
    "no_dotted_run_config": (
        "--request.a.b=c sets any field of a run's configuration file",
        "STAGE.NAME=VALUE sets a setting of a stage; everything else has an option of its own",
        "there is no run configuration file",
    ),
}


def accept(state: ContinuationState) -> ContinuationState:
    """A state as it comes in from outside, over the wire."""
    return read_envelope(write_envelope(state))


def preset_named(name: str, version: int | None = None):
    return presets.find_preset(name, version)


def check_overrides(name: str, overrides: Mapping[str, Any]):
    """The settings that overrides of a preset give."""
    return presets.resolve(preset_named(name), None, overrides)
