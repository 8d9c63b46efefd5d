"""Blobs and sessions in memory, as FastVideo's tests of them ask."""

import threading

import numpy as np
import pytest
import torch

from .adapter import (
    LTX2_CONTINUATION_KIND,
    BlobStore,
    ContinuationState,
    InMemoryBlobStore,
    InMemorySessionStore,
    LTX2ContinuationState,
    SessionStore,
)


def envelope(**payload):
    return ContinuationState(kind="ltx2.v1", payload=payload)


def test_the_contracts_are_kept():
    assert isinstance(InMemoryBlobStore(), BlobStore) and isinstance(InMemorySessionStore(), SessionStore)


def test_blobs():
    store = InMemoryBlobStore()
    first, second = store.put(b"hello"), store.put(b"hello")
    assert store.get(first) == b"hello" and first != second
    assert first in store and "other" not in store
    store.drop("not-there")
    store.drop(first)
    assert first not in store and second in store
    for gone in (first, "nonexistent"):
        with pytest.raises(KeyError):
            store.get(gone)


def test_sessions():
    store = InMemorySessionStore()
    assert len(store) == 0 and store.snapshot("missing") is None
    store.store("a", envelope(v=1))
    store.store("a", envelope(v=2))
    store.store("b", envelope())
    assert store.snapshot("a").payload["v"] == 2
    assert sorted(store) == ["a", "b"] and len(store) == 2
    store.drop("a")
    store.drop("never there")
    assert store.snapshot("a") is None and "a" not in store


def test_a_state_is_installed_under_a_new_or_a_given_id():
    store = InMemorySessionStore()
    new = store.hydrate(envelope(x=1))
    assert new and store.snapshot(new) == envelope(x=1)
    assert store.hydrate(envelope(x=2), session_id="pinned-id") == "pinned-id"
    assert store.snapshot("pinned-id") == envelope(x=2)


def test_two_hundred_threads_at_once():
    store = InMemorySessionStore()
    threads = [threading.Thread(target=store.store, args=(f"s-{i}", envelope(i=i))) for i in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 200 and store.snapshot("s-199").payload == {"i": 199}


def test_a_session_moves_to_another_server():
    blobs, sessions = InMemoryBlobStore(), InMemorySessionStore()
    before = LTX2ContinuationState(
        segment_index=4,
        video_frames=[np.full((32, 32, 3), 5 * i, np.uint8) for i in range(3)],
        audio_latents=torch.randn(1, 4, 8, 32),
        audio_sample_rate=24000,
        audio_conditioning_num_frames=5,
        video_position_offset_sec=0.25,
    )
    sessions.store("session-a", before.to_continuation_state(blob_store=blobs))
    taken = sessions.snapshot("session-a")
    assert taken is not None and taken.kind == LTX2_CONTINUATION_KIND
    sessions.drop("session-a")
    moved = sessions.hydrate(taken)
    assert moved != "session-a"
    after = LTX2ContinuationState.from_continuation_state(sessions.snapshot(moved), blob_store=blobs)
    assert after.segment_index == 4 and after.audio_sample_rate == 24000 and len(after.video_frames) == 3
    torch.testing.assert_close(after.audio_latents, before.audio_latents, rtol=0, atol=0)
