"""Session stores: the contract in memory and on disk, age, and blobs that go with the last session that names them."""

import json
import os
import threading

import pytest

from ltx2.continuation import (
    ContinuationState,
    FileSessionStore,
    InMemoryBlobStore,
    InMemorySessionStore,
    LTX2ContinuationState,
)
from ltx2.errors import ContinuationError

from .test_codec import full_state
from .test_stores import envelope
from .vectors import described


def test_session_contract(sessions):
    sessions.store("one", envelope(1))
    sessions.store("one", envelope(2))
    assert sessions.snapshot("one").payload["segment_index"] == 2 and sessions.snapshot("two") is None
    new = sessions.hydrate(envelope(3))
    other = sessions.hydrate(envelope(4), session_id="")
    assert new != other and len(new) == 32 and sessions.hydrate(envelope(5), session_id="named") == "named"
    assert sorted(sessions) == sorted(["one", new, other, "named"]) and len(sessions) == 4 and "named" in sessions
    for session_id in sessions:  # over a copy: dropping meanwhile is fine
        sessions.drop(session_id)
    sessions.drop("one")
    assert len(sessions) == 0 and "one" not in sessions


def test_what_comes_out_of_a_session_is_a_copy(sessions):
    given = envelope(1)
    sessions.store("a", given)
    given.payload["segment_index"] = 7
    sessions.snapshot("a").payload["metadata"]["x"] = 1
    assert sessions.snapshot("a").payload == envelope(1).payload
    for bad in (None, {"kind": "x"}, ContinuationState("", {}), ContinuationState("ltx2.v1", None)):
        with pytest.raises(ContinuationError):
            sessions.store("a", bad)


def test_a_state_moves_to_another_session(sessions, blobs):
    state = full_state()
    sessions.store("a", state.to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
    taken = sessions.snapshot("a")
    sessions.drop("a")
    moved = sessions.hydrate(taken, session_id="b")
    read = LTX2ContinuationState.from_continuation_state(sessions.snapshot(moved), blob_store=blobs)
    assert described(read) == described(state)


@pytest.mark.parametrize("kind", (InMemorySessionStore, FileSessionStore))
def test_owned_blobs_go_with_the_last_session_that_names_them(tmp_path, kind):
    blobs = InMemoryBlobStore()
    where = [] if kind is InMemorySessionStore else [tmp_path]
    sessions = kind(*where, owned_blobs=blobs)
    first = full_state().to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
    sessions.store("a", first)
    sessions.store("a", first)  # stored again: still named
    sessions.hydrate(first, session_id="b")
    sessions.store("a", full_state(segment_index=4).to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
    assert len(blobs) == 4
    sessions.drop("b")
    assert len(blobs) == 2
    sessions.drop("a")
    assert len(blobs) == 0


@pytest.mark.parametrize("kind", (InMemorySessionStore, FileSessionStore))
def test_sessions_expire(tmp_path, kind):
    now = [0.0]
    where = [] if kind is InMemorySessionStore else [tmp_path]
    sessions = kind(*where, ttl_seconds=10, clock=lambda: now[0])
    sessions.store("a", envelope())
    now[0] = 9
    assert "a" in sessions
    now[0] = 20
    assert "a" not in sessions and sessions.snapshot("a") is None and list(sessions) == []


@pytest.mark.parametrize("kind", ("memory", "files"))
def test_two_hundred_writers_all_land(tmp_path, kind):
    count = 200 if kind == "memory" else 40
    sessions = InMemorySessionStore() if kind == "memory" else FileSessionStore(tmp_path)
    threads = [threading.Thread(target=sessions.store, args=(f"s{i}", envelope(i))) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sessions) == count and sessions.snapshot("s7").payload["segment_index"] == 7


def test_session_ids_that_differ_in_case_stay_apart(tmp_path):
    sessions = FileSessionStore(tmp_path)
    sessions.store("Ab", envelope(1))
    sessions.store("aB", envelope(2))
    assert sessions.snapshot("Ab").payload["segment_index"] == 1
    assert len({name.lower() for name in os.listdir(tmp_path) if name.endswith(".json")}) == 2


def test_a_session_file_is_an_envelope(tmp_path):
    FileSessionStore(tmp_path).store("a", envelope(3))
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_bytes())["payload"]["segment_index"] == 3
    path.write_bytes(b"{")
    with pytest.raises(ContinuationError):
        FileSessionStore(tmp_path).snapshot("a")
