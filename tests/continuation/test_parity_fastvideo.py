"""What is written here opens in the published reader, and what its writer writes opens here."""

import dataclasses
import importlib.util
import json
import sys
import types

import pytest

from ltx2 import continuation
from ltx2.continuation import InMemoryBlobStore, LTX2ContinuationState, write_envelope

from .test_codec import DTYPES, full_state
from .vectors import described

SPEC = importlib.util.find_spec("fastvideo")
pytestmark = pytest.mark.skipif(SPEC is None, reason="fastvideo is not installed")


@pytest.fixture(scope="module")
def theirs():
    """Its continuation module alone: the package around it needs much that the comparison does not."""
    path = f"{next(iter(SPEC.submodule_search_locations))}/pipelines/basic/ltx2/continuation.py"
    envelope = dataclasses.make_dataclass("ContinuationState", [("kind", str), ("payload", dict)])
    stubs = {
        "fastvideo": {},
        "fastvideo.api": {},
        "fastvideo.api.schema": {"ContinuationState": envelope},
        "fastvideo.api.compat": {"register_continuation_kind": lambda kind: None},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, attributes in stubs.items():
            module = types.ModuleType(name)
            module.__dict__.update(attributes)
            patch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location("published_continuation", path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("threshold", (0, 2**30))
def test_states_open_on_both_sides(theirs, dtype, threshold):
    state, store = full_state(dtype), InMemoryBlobStore()
    ours = json.loads(write_envelope(state.to_continuation_state(blob_store=store, inline_threshold_bytes=threshold)))
    read = theirs.LTX2ContinuationState.from_continuation_state(theirs.ContinuationState(**ours), blob_store=store)
    assert described(read) == described(state)

    written = theirs.LTX2ContinuationState(**{f.name: getattr(state, f.name) for f in dataclasses.fields(read)})
    envelope = written.to_continuation_state(blob_store=store, inline_threshold_bytes=threshold)
    assert described(LTX2ContinuationState.from_continuation_state(envelope, blob_store=store)) == described(state)
    assert list(envelope.payload) == list(ours["payload"])
    if threshold:
        assert envelope.payload["audio"] == ours["payload"]["audio"]


def test_names_fields_and_constants_are_the_published_ones(theirs):
    def described_fields(cls):
        return [(f.name, f.default) for f in dataclasses.fields(cls) if f.name != "unknown_fields"]

    assert described_fields(theirs.LTX2ContinuationState) == described_fields(LTX2ContinuationState)
    for name in ("LTX2_CONTINUATION_KIND", "LTX2_CONTINUATION_SCHEMA_VERSION", "DEFAULT_INLINE_THRESHOLD_BYTES"):
        assert getattr(theirs, name) == getattr(continuation, name)
